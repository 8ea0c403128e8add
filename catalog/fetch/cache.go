package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// cache is a folder of files that are named by what is in them. Losing any of
// them costs a download; without a folder nothing is kept.
type cache struct{ dir string }

// read returns an entry, nil when there is none that fits into the limit. What
// cannot be read counts as not there: it is fetched anew.
func (c cache) read(name string, limit int64) []byte {
	if c.dir == "" {
		return nil
	}
	file, err := os.Open(filepath.Join(c.dir, filepath.FromSlash(name)))
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > limit {
		return nil
	}
	data, err := readAll(file, limit)
	if err != nil {
		return nil
	}
	return data
}

// write puts an entry in place whole, over what may be there. Two processes that
// write one entry write the same.
func (c cache) write(name string, data []byte) error {
	if c.dir == "" {
		return nil
	}
	at := filepath.Join(c.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return fmt.Errorf("create the cache: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(at), ".new-*")
	if err != nil {
		return fmt.Errorf("write to the cache: %w", err)
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), at)
	}
	if err != nil {
		if gone := os.Remove(file.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return fmt.Errorf("write to the cache: %w", err)
	}
	return nil
}
