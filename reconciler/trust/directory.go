package trust

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Directory is a vault in a folder: one file per CA with its certificate and
// key, for demos, tests and air-gapped fleets. Whoever can read the folder can
// impersonate every workload of the network.
type Directory struct {
	path string
}

// OpenDirectory returns the vault in a folder, which it makes when missing. A
// folder that others than its owner can enter is refused.
func OpenDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make vault folder: %w", err)
	}
	if err := private(path); err != nil {
		return nil, err
	}
	return &Directory{path: path}, nil
}

// Get returns what Put stored under the name, or an error wrapping [ErrNotFound].
func (d *Directory) Get(_ context.Context, name string) ([]byte, error) {
	file := d.file(name)
	if err := private(file); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", name, ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %q from the vault: %w", name, err)
	}
	return data, nil
}

// Put stores data under the name, whole or not at all, also across a crash.
func (d *Directory) Put(_ context.Context, name string, data []byte) error {
	if err := writeFile(d.file(name), data, os.Rename); err != nil {
		return fmt.Errorf("write %q to the vault: %w", name, err)
	}
	return nil
}

// Create stores data under a name that is free, or returns an error wrapping
// [ErrExists]. Also of several processes that share the folder one wins.
func (d *Directory) Create(_ context.Context, name string, data []byte) error {
	err := writeFile(d.file(name), data, takeName)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q: %w", name, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("write %q to the vault: %w", name, err)
	}
	return nil
}

// takeName gives a file a name that is free.
func takeName(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// No hard links here (SMB): take the name first, and fill it in one step.
	taken, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(taken.Close(), os.Rename(from, to))
}

// identityName is where a vault keeps its identity.
const identityName = "identity"

// Identity names the vault: everybody who opens the same folder gets the same
// text, which is no secret. The first call makes it.
func (d *Directory) Identity(ctx context.Context) (string, error) {
	made := make([]byte, 8)
	_, _ = rand.Read(made) // never fails, by its documentation
	err := d.Create(ctx, identityName, []byte(hex.EncodeToString(made)))
	if err != nil && !errors.Is(err, ErrExists) {
		return "", err
	}
	text, err := d.Get(ctx, identityName)
	return string(text), err
}

func (d *Directory) file(name string) string {
	return filepath.Join(d.path, filepath.FromSlash(name)+".pem")
}

// private refuses a file or folder that others than its owner can use.
func private(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("check the vault's permissions: %w", err)
	}
	if loose := info.Mode().Perm() & 0o077; loose != 0 {
		return fmt.Errorf("vault %q is open to others (mode %04o): run chmod go= on it", path, info.Mode().Perm())
	}
	return nil
}

// writeFile writes a file of mode 0600 by way of a temporary one beside it, which
// place gives its name: flushed to disk before that, and with its folder after.
func writeFile(path string, data []byte, place func(from, to string) error) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	// os.CreateTemp makes files of mode 0600.
	temporary, err := os.CreateTemp(folder, ".new-*")
	if err != nil {
		return err
	}
	// Where it was renamed there is nothing to remove.
	defer os.Remove(temporary.Name())
	if _, err := temporary.Write(data); err != nil {
		_ = temporary.Close()
		return err
	}
	if err := errors.Join(temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := place(temporary.Name(), path); err != nil {
		return err
	}
	parent, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
