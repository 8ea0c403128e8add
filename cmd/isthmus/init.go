package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

//go:embed all:starter
var starterFiles embed.FS

func newInit(p *printer) *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Write a fleet repository to start from",
		Long: `Write a fleet repository to start from: a network, one member, a README and a
CI workflow that validates and renders every change. DIR may exist; no file in
it is overwritten.`,
		Example: "  isthmus init my-fleet",
		Args:    oneArg,
		RunE:    func(_ *cobra.Command, args []string) error { return initFleet(p, args[0]) },
	}
}

// initFleet writes the starter fleet; if one of its files exists, none.
func initFleet(p *printer, dir string) error {
	starter, err := fs.Sub(starterFiles, "starter")
	if err != nil {
		return fmt.Errorf("read the starter fleet: %w", err)
	}
	files, err := filesBelow(starter)
	if err != nil {
		return fmt.Errorf("read the starter fleet: %w", err)
	}
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
		if err := copyNew(root, starter, file); err != nil {
			return fmt.Errorf("write the fleet: %w", err)
		}
		p.answer("%s", filepath.Join(dir, file))
	}
	p.note("hint: check it with isthmus validate %s", dir)
	return nil
}

// filesBelow lists the files of a file system in lexical order.
func filesBelow(fsys fs.FS) ([]string, error) {
	var files []string
	err := fs.WalkDir(fsys, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	})
	return files, err
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

// copyNew copies one file to a place where none is yet.
func copyNew(root *os.Root, from fs.FS, file string) (err error) {
	data, err := fs.ReadFile(from, file)
	if err != nil {
		return err
	}
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
