package controlplane

import (
	"os"
	"testing"
)

func TestSweepStates(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held, unlockHeld, err := newState()
	if err != nil {
		t.Fatal(err)
	}
	defer unlockHeld()
	abandoned, unlock, err := newState()
	if err != nil {
		t.Fatal(err)
	}
	unlock() // as the kernel does when its process dies
	sweepStates()
	if _, err := os.Stat(held); err != nil {
		t.Errorf("the state of a running control plane was removed: %v", err)
	}
	if _, err := os.Stat(abandoned); !os.IsNotExist(err) {
		t.Errorf("the state of a process that died is still there: %v", err)
	}
}
