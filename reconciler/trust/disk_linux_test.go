package trust

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// fullDisk makes every write to a file fail until the returned function is
// called, as on a full disk: the kernel allows this process no file of any size.
func fullDisk(t *testing.T) (mend func()) {
	t.Helper()
	// The kernel also sends a signal, which ends a process that does not ignore it.
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 0, Max: limit.Max}))
	mend = func() { check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)) }
	t.Cleanup(mend)
	return mend
}

// TestFullDisk: what cannot be written whole is not there at all, what was there
// stays, and no CA is handed out that the vault does not have.
func TestFullDisk(t *testing.T) {
	const alone = "ISTHMUS_TEST_FULL_DISK"
	if os.Getenv(alone) == "" {
		// In a process of its own: go test writes files, too.
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	a, folder, now := authority(t)
	first := issue(t, a, "eastus-1")
	*now = start.Add(46 * day) // the intermediate is to be replaced
	before := vaultFiles(t, folder)
	mend := fullDisk(t)
	for _, member := range []string{"eastus-1", "westus-1"} {
		chain, err := a.Issue(t.Context(), request(member))
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("%s: error %v, want that of the disk", member, err)
		}
		if chain.Intermediate != nil && !chain.Intermediate.Equal(first.Intermediate) {
			t.Errorf("%s: handed out a CA that the vault does not have", member)
		}
	}
	if err := os.WriteFile(filepath.Join(t.TempDir(), "x"), []byte("x"), 0o600); err == nil {
		t.Error("the disk is not full")
	}
	mend()
	after := vaultFiles(t, folder)
	for file, content := range after {
		if before[file] != content {
			t.Errorf("%s was written in part", file)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, want the %d from before", len(after), len(before))
	}
	second := issue(t, a, "eastus-1")
	if second.Intermediate.Equal(first.Intermediate) || !second.Root.Equal(first.Root) {
		t.Error("with space again, the intermediate is not replaced under the same root")
	}
	issue(t, a, "westus-1")
}

func vaultFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	check(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files[path] = read(t, path)
		}
		return err
	}))
	return files
}
