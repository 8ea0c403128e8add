//go:build unix

package trust

import (
	"os"
	"syscall"
)

// lockFile waits for the lock on a file, which ends when the file is closed, and
// with the process.
func lockFile(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}
