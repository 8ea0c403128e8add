package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// markerFile lists what earlier renders wrote to an output folder. Only files
// that it lists are ever overwritten or removed.
const markerFile = ".isthmus-render.json"

// marker is the content of the marker file.
type marker struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Files      []string `json:"files"`
}

const markerKind = "RenderedFiles"

func memberFolder(member string) string { return "members/" + member + "/" }

// outputFolder is a folder that render writes. Nothing outside of it can be
// written, not even through a link inside of it.
type outputFolder struct {
	root *os.Root
	// files that earlier renders wrote.
	files map[string]bool
}

// openOutput opens an output folder, which it creates if need be. A folder
// that holds something else than an earlier render is refused.
func openOutput(dir string) (*outputFolder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the output folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the output folder: %w", err)
	}
	folder := &outputFolder{root: root, files: map[string]bool{}}
	if err := folder.readMarker(dir); err != nil {
		folder.close()
		return nil, err
	}
	return folder, nil
}

// close ends the use of the folder; nothing is written by it.
func (f *outputFolder) close() { _ = f.root.Close() }

func (f *outputFolder) readMarker(dir string) error {
	data, err := f.root.ReadFile(markerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return f.mustBeEmpty(dir)
	}
	if err != nil {
		return fmt.Errorf("read what the output folder holds: %w", err)
	}
	var m marker
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("read what the output folder holds: %s: %w", markerFile, err)
	}
	if m.APIVersion != v1alpha1.GroupVersion.String() || m.Kind != markerKind {
		return withHint(fmt.Errorf("output folder %q was written by another version of isthmus", dir), "render to an empty folder")
	}
	for _, file := range m.Files {
		if !renderedPath(file) {
			return fmt.Errorf("read what the output folder holds: %s lists %q, which no render writes", markerFile, file)
		}
		f.files[file] = true
	}
	return nil
}

// renderedPath says whether a render could have written the path.
func renderedPath(file string) bool {
	return filepath.IsLocal(filepath.FromSlash(file)) && path.Clean(file) == file &&
		(strings.HasPrefix(file, "releases/") || strings.HasPrefix(file, "members/"))
}

// mustBeEmpty refuses a folder with content; a Git checkout without files is
// empty too.
func (f *outputFolder) mustBeEmpty(dir string) error {
	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("read the output folder: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() != ".git" {
			return withHint(fmt.Errorf("output folder %q holds %q, which isthmus did not write", dir, entry.Name()),
				"render to an empty folder")
		}
	}
	return nil
}

// folderEdit is what makes an output folder equal to a render.
type folderEdit struct {
	// write holds new and changed files, remove the files to be removed.
	write  map[string][]byte
	remove []string
	// keep holds the files of the folder after the edit.
	keep map[string]bool
	// before holds the files of the folder before the edit.
	before map[string]bool
}

// edit compares the folder with rendered files; files of an earlier render
// that are in scope and no longer rendered are to be removed.
func (f *outputFolder) edit(files map[string][]byte, inScope func(string) bool) (*folderEdit, error) {
	edit := &folderEdit{write: map[string][]byte{}, keep: map[string]bool{}, before: f.files}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if !renderedPath(file) {
			return nil, fmt.Errorf("bundle file %q is outside of releases and members", file)
		}
		edit.keep[file] = true
		data, err := f.root.ReadFile(filepath.FromSlash(file))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			edit.write[file] = files[file]
		case err != nil:
			return nil, fmt.Errorf("compare the output folder: %w", err)
		case bytes.Equal(data, files[file]):
		case !f.files[file]:
			return nil, withHint(fmt.Errorf("file %q is in the way: isthmus did not write it", file), "move it out of the output folder")
		default:
			edit.write[file] = files[file]
		}
	}
	for _, file := range slices.Sorted(maps.Keys(f.files)) {
		switch {
		case edit.keep[file]:
		case inScope(file):
			edit.remove = append(edit.remove, file)
		default:
			edit.keep[file] = true
		}
	}
	return edit, nil
}

// apply makes the edit. Each file is replaced whole. What is about to be
// written is recorded first, so that an interrupted render is finished by the
// next one.
func (f *outputFolder) apply(edit *folderEdit) error {
	intended := maps.Clone(edit.keep)
	for _, file := range edit.remove {
		intended[file] = true
	}
	if err := f.writeMarker(intended); err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(edit.write)) {
		if err := f.replace(file, edit.write[file]); err != nil {
			return fmt.Errorf("write the bundles: %w", err)
		}
	}
	for _, file := range edit.remove {
		if err := f.root.Remove(filepath.FromSlash(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a stale file: %w", err)
		}
		f.removeEmptyFolders(path.Dir(file))
	}
	return f.writeMarker(edit.keep)
}

func (f *outputFolder) writeMarker(files map[string]bool) error {
	m := marker{APIVersion: v1alpha1.GroupVersion.String(), Kind: markerKind, Files: slices.Sorted(maps.Keys(files))}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("record what is rendered: %w", err)
	}
	data = append(data, '\n')
	if now, err := f.root.ReadFile(markerFile); err == nil && bytes.Equal(now, data) {
		return nil
	}
	if err := f.replace(markerFile, data); err != nil {
		return fmt.Errorf("record what is rendered: %w", err)
	}
	return nil
}

// replace writes a file beside its place and moves it there.
func (f *outputFolder) replace(file string, data []byte) error {
	name := filepath.FromSlash(file)
	if err := f.root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".isthmus-new")
	if err := f.root.WriteFile(temporary, data, 0o644); err != nil {
		return err
	}
	if err := f.root.Rename(temporary, name); err != nil {
		_ = f.root.Remove(temporary)
		return err
	}
	return nil
}

// removeEmptyFolders removes a folder and those above it while they are empty.
func (f *outputFolder) removeEmptyFolders(dir string) {
	for dir != "." && f.root.Remove(filepath.FromSlash(dir)) == nil {
		dir = path.Dir(dir)
	}
}

// state says what the edit means for one bundle: new, changed or unchanged.
func (e *folderEdit) state(b bundle.Bundle) string {
	concerns := func(file string) bool {
		return strings.HasPrefix(file, memberFolder(b.Member)) ||
			slices.ContainsFunc(b.SharedDirs(), func(dir string) bool { return strings.HasPrefix(file, dir+"/") })
	}
	known := false
	for file := range e.before {
		known = known || strings.HasPrefix(file, memberFolder(b.Member))
	}
	changed := slices.ContainsFunc(e.remove, concerns)
	for file := range e.write {
		changed = changed || concerns(file)
	}
	switch {
	case !known:
		return "new"
	case changed:
		return "changed"
	}
	return "unchanged"
}

// removedMembers are the members that the edit removes whole, sorted.
func (e *folderEdit) removedMembers(bundles []bundle.Bundle) []string {
	var out []string
	for _, file := range e.remove {
		rest, inMembers := strings.CutPrefix(file, "members/")
		member, _, _ := strings.Cut(rest, "/")
		rendered := slices.ContainsFunc(bundles, func(b bundle.Bundle) bool { return b.Member == member })
		if inMembers && !rendered && !slices.Contains(out, member) {
			out = append(out, member)
		}
	}
	return out
}
