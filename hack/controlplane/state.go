package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// The state of a control plane, keys and data, lies in a folder of the system's
// temporary folder: not below one of the caller's, because the path of a unix
// socket has to be short. Its owner holds a lock on the file lock in it, so that
// folders of processes that were killed can be told apart and removed.
const (
	statePrefix = "isthmus-cp-"
	stateLock   = "lock"
)

// newState makes a state folder and locks it. It gets its name when it is locked.
func newState() (dir string, unlock func(), err error) {
	fresh, err := os.MkdirTemp("", "isthmus-new-")
	if err != nil {
		return "", nil, fmt.Errorf("make state folder: %w", err)
	}
	unlock, err = lockFile(context.Background(), filepath.Join(fresh, stateLock), func() {})
	if err != nil {
		return "", nil, fmt.Errorf("lock state folder: %w", err)
	}
	parent, base := filepath.Split(fresh)
	dir = filepath.Join(parent, statePrefix+base[len("isthmus-new-"):])
	if err := os.Rename(fresh, dir); err != nil {
		unlock()
		return "", nil, fmt.Errorf("name state folder: %w", err)
	}
	return dir, unlock, nil
}

// sweepStates removes the folders that nobody holds. What cannot be removed, for
// example because it is another user's, stays.
func sweepStates() {
	locks, err := filepath.Glob(filepath.Join(os.TempDir(), statePrefix+"*", stateLock))
	if err != nil {
		return
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel() // do not wait for a lock
	for _, lock := range locks {
		unlock, err := lockFile(ended, lock, func() {})
		if err != nil {
			continue
		}
		_ = os.RemoveAll(filepath.Dir(lock))
		unlock()
	}
}
