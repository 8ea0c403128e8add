package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// storePack takes objects from a server into the copy at directory. They come
// into a file first, up to the limits; only what was measured is unpacked, since
// a few bytes can stand for gigabytes.
func storePack(ctx context.Context, directory string, from io.Reader, l limits) error {
	folder := filepath.Join(directory, "objects", "pack")
	if err := errors.Join(os.MkdirAll(folder, 0o700), removeHalves(folder)); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, "tmp_pack_")
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	if _, err := io.Copy(f, from); err != nil {
		return fmt.Errorf("receive objects: %w", err)
	}
	if err := measure(ctx, f, l); err != nil {
		return err
	}
	return index(ctx, f, folder)
}

// removeHalves removes what looks that were killed left, before there is more.
func removeHalves(folder string) error {
	left, err := filepath.Glob(filepath.Join(folder, "tmp_*"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// measure reads a pack once, keeping nothing, and compares what it says of
// itself with the limits.
func measure(ctx context.Context, f *os.File, l limits) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	scanner := packfile.NewScanner(f)
	_, count, err := scanner.Header()
	if err != nil {
		return malformed(err)
	}
	if int64(count) > l.objects {
		return &Error{Reason: ReasonTooManyObjects, Message: fmt.Sprintf("the repository sends %d objects, more than %d", count, l.objects),
			Hint: "keep the fleet in a repository of its own"}
	}
	var sum int64
	for range count {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		unpacked, err := nextSize(scanner, l)
		if err != nil {
			return err
		}
		if sum += unpacked; sum > l.unpacked {
			return &Error{Reason: ReasonTransferTooLarge, Message: fmt.Sprintf("the repository's objects are more than %s when unpacked", size(l.unpacked)),
				Hint: "keep the fleet in a repository of its own"}
		}
	}
	return nil
}

// nextSize skips the next object and returns its size when unpacked.
func nextSize(scanner *packfile.Scanner, l limits) (int64, error) {
	header, err := scanner.NextObjectHeader()
	if err != nil {
		return 0, malformed(err)
	}
	if header.Length > l.objectSize {
		return 0, objectTooLarge(header.Length, l)
	}
	var begin beginning
	if _, _, err := scanner.NextObject(&begin); err != nil {
		return 0, malformed(err)
	}
	if !header.Type.IsDelta() {
		return header.Length, nil
	}
	// A difference begins with the sizes of what it is applied to and of what
	// comes out.
	_, rest := varint(begin.bytes)
	target, _ := varint(rest)
	if target < 0 || target > l.objectSize {
		return 0, objectTooLarge(target, l)
	}
	return target + header.Length, nil
}

func objectTooLarge(bytes int64, l limits) error {
	return &Error{Reason: ReasonObjectTooLarge, Message: fmt.Sprintf("the repository has a file of %s, more than %s", size(max(bytes, 0)), size(l.objectSize)),
		Hint: "keep the fleet in a repository of its own"}
}

// beginning keeps the first bytes.
type beginning struct{ bytes []byte }

func (b *beginning) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p[:min(len(p), 32-len(b.bytes))]...)
	return len(p), nil
}

// varint reads a number of seven bits a byte, the lowest first. One that does
// not end is negative.
func varint(data []byte) (int64, []byte) {
	var n int64
	for i, b := range data {
		if i > 8 {
			break
		}
		n |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return n, data[i+1:]
		}
	}
	return -1, nil
}

// index makes a measured pack part of the copy.
func index(ctx context.Context, f *os.File, folder string) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	writer := new(idxfile.Writer)
	parser, err := packfile.NewParser(packfile.NewScanner(f), writer, cancelled{ctx})
	if err != nil {
		return malformed(err)
	}
	checksum, err := parser.Parse()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return malformed(err)
	}
	table, err := writer.Index()
	if err != nil {
		return malformed(err)
	}
	base := filepath.Join(folder, "pack-"+checksum.String())
	if err := writeIndex(base+".idx", table); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), base+".pack")
}

// writeIndex writes by one rename: an index that is there is whole.
func writeIndex(name string, table *idxfile.MemoryIndex) error {
	f, err := os.CreateTemp(filepath.Dir(name), "tmp_idx_")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	w := bufio.NewWriter(f)
	_, err = idxfile.NewEncoder(w).Encode(table)
	if err := errors.Join(err, w.Flush(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write index of objects: %w", err)
	}
	return os.Rename(f.Name(), name)
}

func malformed(err error) error {
	return &Error{Reason: ReasonMalformed, Message: "the server sent objects that do not fit together", Err: err}
}

// cancelled ends the parser with its context.
type cancelled struct{ ctx context.Context }

func (c cancelled) OnHeader(uint32) error { return c.ctx.Err() }
func (c cancelled) OnInflatedObjectHeader(plumbing.ObjectType, int64, int64) error {
	return c.ctx.Err()
}
func (c cancelled) OnInflatedObjectContent(plumbing.Hash, int64, uint32, []byte) error { return nil }
func (c cancelled) OnFooter(plumbing.Hash) error                                       { return nil }
