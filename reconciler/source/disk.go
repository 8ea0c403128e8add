package source

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// ReasonCacheFailed says that the local copy cannot be written: the disk is full, over
// its quota, broken or read-only.
const ReasonCacheFailed Reason = "CacheFailed"

// diskErrors are what the kernel says of a disk that takes nothing.
var diskErrors = []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS, syscall.EIO}

// ofDisk turns an error of the disk into one that says so; nil for others. The
// copy is not broken then, and making it anew would lose the last good commit.
func ofDisk(err error, options Options) error {
	if !slices.ContainsFunc(diskErrors, func(disk error) bool { return errors.Is(err, disk) }) {
		return nil
	}
	return &Error{Reason: ReasonCacheFailed, Message: fmt.Sprintf("write the copy of repository %q to disk", options.URL), Err: err,
		Hint: "free space in the folder of --cache, or give it more"}
}
