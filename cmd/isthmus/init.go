package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

//go:embed all:starter all:ci
var starterFiles embed.FS

// ciSystems are the folders of ci, each with the files of one CI system.
var ciSystems = []string{"github", "gitlab", "gitea", "azure"}

func newInit(p *printer) *cobra.Command {
	var ci string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a fleet repository to start from",
		Long: `Write a fleet repository to start from: a network, one member, a README and a
CI workflow that validates and renders every change, reviews pull requests, and opens
them for upgrades once a week. DIR may exist; no file in it is overwritten.`,
		Example: "  isthmus init my-fleet\n  isthmus init my-fleet --ci gitlab",
		Args:    oneArg,
		RunE:    func(_ *cobra.Command, args []string) error { return initFleet(p, args[0], ci) },
	}
	cmd.Flags().StringVar(&ci, "ci", ciSystems[0], "CI system that the workflow is for: "+strings.Join(ciSystems, ", ")+" or none")
	_ = cmd.RegisterFlagCompletionFunc("ci", cobra.FixedCompletions(append(slices.Clone(ciSystems), noCI), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

const noCI = "none"

// starter is the starter fleet with the workflow of a CI system.
func starter(ci string) (map[string][]byte, error) {
	folders := []string{"starter"}
	switch {
	case slices.Contains(ciSystems, ci):
		folders = append(folders, "ci/"+ci)
	case ci != noCI:
		return nil, withHint(fmt.Errorf("unknown CI system %q", ci), "use --ci "+strings.Join(ciSystems, ", ")+" or none; Forgejo takes gitea")
	}
	files := map[string][]byte{}
	for _, folder := range folders {
		below, err := fs.Sub(starterFiles, folder)
		if err != nil {
			return nil, fmt.Errorf("read the starter fleet: %w", err)
		}
		err = fs.WalkDir(below, ".", func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				files[name], err = fs.ReadFile(below, name)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the starter fleet: %w", err)
		}
	}
	return files, nil
}

// initFleet writes the starter fleet; if one of its files exists, none.
func initFleet(p *printer, dir, ci string) error {
	content, err := starter(ci)
	if err != nil {
		return err
	}
	files := slices.Sorted(maps.Keys(content))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the fleet's folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the fleet's folder: %w", err)
	}
	defer func() { _ = root.Close() }()
	if err := nothingInTheWay(root, files); err != nil {
		return err
	}
	for _, file := range files {
		if err := writeNew(root, file, content[file]); err != nil {
			return fmt.Errorf("write the fleet: %w", err)
		}
		p.answer("%s", filepath.Join(dir, file))
	}
	p.note("hint: check it with isthmus validate %s", dir)
	return nil
}

func nothingInTheWay(root *os.Root, files []string) error {
	for _, file := range files {
		_, err := root.Lstat(filepath.FromSlash(file))
		switch {
		case err == nil:
			return withHint(fmt.Errorf("%q exists already; nothing written", filepath.Join(root.Name(), file)), "name a new folder")
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("look at the fleet's folder: %w", err)
		}
	}
	return nil
}

// writeNew writes a file to a place where none is yet.
func writeNew(root *os.Root, file string, data []byte) (err error) {
	name := filepath.FromSlash(file)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = out.Write(data)
	return err
}
