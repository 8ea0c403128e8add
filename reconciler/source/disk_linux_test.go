package source_test

import (
	"context"
	"crypto/rand"
	"io/fs"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// TestFullDisk: a commit that cannot be stored says why, the last one stays
// readable, and the next fetch goes on when there is space.
func TestFullDisk(t *testing.T) {
	work, bare := newRemote(t)
	first := commit(t, work, "network.yaml", "one")
	repository := open(t, t.TempDir(), source.Options{URL: "file://" + bare})
	fetch(t, repository)
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise) // never fails, by its documentation
	second := commit(t, work, "large.yaml", string(noise))

	// No file may grow beyond 64 KiB: enough for what go test itself writes. The
	// kernel also sends a signal, which is not to end us.
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(restore)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 { // again and again
		if _, err := repository.Fetch(ctx, first); source.ReasonOf(err) != source.ReasonCacheFailed {
			t.Errorf("full disk: error %v, reason %s", err, source.ReasonOf(err))
		}
		snapshot, err := repository.Snapshot(first)
		if err != nil {
			t.Fatalf("full disk: the last commit is gone: %v", err)
		}
		if data, err := fs.ReadFile(snapshot.FS, "network.yaml"); string(data) != "one" || err != nil {
			t.Errorf("full disk: network.yaml is %q, %v", data, err)
		}
	}
	restore()
	if got := fetch(t, repository); got != second {
		t.Errorf("with space again: fetch = %s, want %s", got, second)
	}
}
