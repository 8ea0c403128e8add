package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Volumes change as kubelet's do, because programs watch for that: files are links
// through ..data, and one rename of ..data moves all of them to the new content.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
)

// writeVolume makes the content of a volume's folder be files, by one atomic
// change, and none if they are the same. Paths must stay inside the folder.
func writeVolume(dir string, files map[string][]byte) error {
	for path := range files {
		if !filepath.IsLocal(path) || strings.HasPrefix(path, "..") {
			return fmt.Errorf("path %q leaves its volume", path)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if old != "" && sameFiles(filepath.Join(dir, old), files) {
		return nil
	}
	next, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	for path, content := range files {
		target := filepath.Join(next, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			return err
		}
	}
	return publish(dir, old, filepath.Base(next))
}

func publish(dir, old, next string) error {
	if err := os.Symlink(next, filepath.Join(dir, newDataLink)); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, newDataLink), filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	wanted, err := topLevel(filepath.Join(dir, next))
	if err != nil {
		return err
	}
	for _, name := range wanted {
		err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if old == "" {
		return nil
	}
	outdated, err := topLevel(filepath.Join(dir, old))
	if err != nil {
		return err
	}
	for _, name := range outdated {
		if !slices.Contains(wanted, name) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

func topLevel(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

func sameFiles(dir string, files map[string][]byte) bool {
	count := 0
	same := true
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[relative]
		if !ok {
			same = false
			return filepath.SkipAll
		}
		content, err := os.ReadFile(path)
		same = same && bytes.Equal(content, want)
		return err
	})
	return err == nil && same && count == len(files)
}

// A layout is where the files of one pod lie.
type layout struct {
	dir    string // of the pod
	mounts []corev1.VolumeMount
}

// root is the folder that stands for / in the container.
func (l layout) root() string { return filepath.Join(l.dir, "root") }

func (l layout) volume(name string) string { return filepath.Join(l.dir, "volumes", name) }

// mount links every mount path below root to its volume, outer paths first.
func (l layout) mount() error {
	if err := os.MkdirAll(l.root(), 0o700); err != nil {
		return err
	}
	mounts := slices.Clone(l.mounts)
	slices.SortFunc(mounts, func(a, b corev1.VolumeMount) int { return len(a.MountPath) - len(b.MountPath) })
	for _, mount := range mounts {
		if err := os.MkdirAll(l.volume(mount.Name), 0o700); err != nil {
			return err
		}
		link := filepath.Join(l.root(), mount.MountPath)
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			return err
		}
		err := os.Symlink(filepath.Join(l.volume(mount.Name), mount.SubPath), link)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// local is the path on this machine of an absolute path in the container, if it
// lies in a mounted volume.
func (l layout) local(path string) (string, bool) {
	for _, mount := range l.mounts {
		base := strings.TrimSuffix(mount.MountPath, "/")
		if path == base || strings.HasPrefix(path, base+"/") {
			return filepath.Join(l.root(), path), true
		}
	}
	return path, false
}

// localize rewrites an argument or a variable, NAME=/path or --flag=/path or
// /path, that names a mounted path.
func (l layout) localize(text string) string {
	name, value, found := strings.Cut(text, "=")
	if !found {
		name, value = "", text
	}
	local, ok := l.local(value)
	if !ok {
		return text
	}
	if found {
		return name + "=" + local
	}
	return local
}
