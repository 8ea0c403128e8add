package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing/fstest"
)

// Limits of one chart. The largest of Istio's is 200 KiB packed and 1.5 MiB
// unpacked.
const (
	maxManifest = 1 << 20
	maxPacked   = 8 << 20
	maxUnpacked = 32 << 20
	maxFiles    = 1000
)

var errTooLarge = errors.New("too large")

// readAll reads to the end, or to errTooLarge.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", errTooLarge, limit)
	}
	return data, err
}

// unpack returns the files of a chart's archive below the folder, in place of the
// one folder that all of them are in.
func unpack(archive []byte, folder string) (fstest.MapFS, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	files := fstest.MapFS{}
	left := int64(maxUnpacked)
	root := ""
	// What comes after the archive's end must not be unpacked without an end.
	reader := tar.NewReader(io.LimitReader(unzipped, 2*maxUnpacked))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		below, err := inFolder(header, &root)
		if err != nil {
			return nil, err
		}
		data, err := readAll(reader, left)
		if err != nil {
			return nil, fmt.Errorf("unpack %q: %w", header.Name, err)
		}
		left -= int64(len(data))
		name := folder + "/" + below
		if files[name] != nil {
			return nil, fmt.Errorf("the archive has %q twice", header.Name)
		}
		if len(files) == maxFiles {
			return nil, fmt.Errorf("%w: more than %d files", errTooLarge, maxFiles)
		}
		files[name] = &fstest.MapFile{Data: data, Mode: 0o444}
	}
}

// inFolder returns the name of a file below the archive's one folder, which the
// first file settles.
func inFolder(header *tar.Header, root *string) (string, error) {
	if header.Typeflag != tar.TypeReg {
		return "", fmt.Errorf("the archive has %q, which is not a file", header.Name)
	}
	if !fs.ValidPath(header.Name) {
		return "", fmt.Errorf("the archive has the path %q, which leads out of it", header.Name)
	}
	folder, below, inside := strings.Cut(header.Name, "/")
	if *root == "" {
		*root = folder
	}
	if !inside || folder != *root {
		return "", fmt.Errorf("the archive has %q outside of the chart's folder", header.Name)
	}
	return below, nil
}
