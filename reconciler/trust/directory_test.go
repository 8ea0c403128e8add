//go:build unix

package trust

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
)

// ageIdentity is a file as age-keygen leaves it.
func ageIdentity(t *testing.T) string {
	t.Helper()
	identity, err := age.GenerateHybridIdentity()
	check(t, err)
	file := filepath.Join(t.TempDir(), "identity")
	check(t, os.WriteFile(file, []byte(identity.String()+"\n"), 0o600))
	return file
}

// TestEncryptedFolder: a folder that gets an identity is encrypted as it is, works
// as before, and cannot be used without that identity.
func TestEncryptedFolder(t *testing.T) {
	folder, root, _ := folderFromBefore(t)
	plain, err := OpenDirectory(folder)
	check(t, err)
	now := func() time.Time { return start.Add(day) }
	before := issue(t, NewAuthority(plain, now), "westus-1")
	identity := ageIdentity(t)
	vault, err := OpenDirectory(folder, DirectoryOptions{AgeIdentityFile: identity})
	check(t, err)
	a := NewAuthority(vault, now)
	if chain := issue(t, a, "westus-1"); chain.String() != before.String() || !chain.Root.Equal(root) {
		t.Error("encrypting the folder changed what is in it")
	}
	issue(t, a, "northeu-1")
	for file, content := range vaultFiles(t, folder) {
		if bytes.Contains([]byte(content), []byte("PRIVATE KEY")) || strings.Contains(content, `"data"`) {
			t.Errorf("%s is not encrypted", file)
		}
	}
	if _, err := OpenDirectory(folder); err == nil || !strings.Contains(err.Error(), "is encrypted") {
		t.Errorf("opened without the identity: %v", err)
	}
	other, err := OpenDirectory(folder, DirectoryOptions{AgeIdentityFile: ageIdentity(t)})
	check(t, err)
	files := vaultFiles(t, folder)
	if _, err := NewAuthority(other, now).Issue(t.Context(), request("new")); err == nil || !strings.Contains(err.Error(), "cannot be decrypted") {
		t.Errorf("with another identity: %v", err)
	}
	if len(files) != len(vaultFiles(t, folder)) {
		t.Error("with another identity, something was made")
	}
}

func TestIdentitiesThatAreRefused(t *testing.T) {
	write := func(content string, mode os.FileMode) string {
		file := filepath.Join(t.TempDir(), "identity")
		check(t, os.WriteFile(file, []byte(content), 0o600))
		check(t, os.Chmod(file, mode))
		return file
	}
	identity, err := age.GenerateX25519Identity()
	check(t, err)
	for _, tt := range []struct{ reason, file, want string }{
		{"not there", filepath.Join(t.TempDir(), "none"), "no such file"},
		{"open to others", write(identity.String(), 0o644), "open to others"},
		{"no identity", write("AGE-SECRET-KEY-1NONE\n", 0o600), "does not hold identities"},
		{"empty", write("", 0o600), "does not hold identities"},
	} {
		_, err := OpenDirectory(filepath.Join(t.TempDir(), "vault"), DirectoryOptions{AgeIdentityFile: tt.file})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "AGE-SECRET-KEY") {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
	}
}

// TestKilledWhileWriting: a process that is killed at any moment leaves what was
// there or what it wrote, never a part, and its lock with it.
func TestKilledWhileWriting(t *testing.T) {
	const folderOf = "ISTHMUS_TEST_KILLED"
	if folder := os.Getenv(folderOf); folder != "" {
		vault, err := OpenDirectory(folder)
		check(t, err)
		for i := 0; ; i = (i + 1) % 2 {
			check(t, vault.Put(t.Context(), "prod/members/x", Document{Data: bytes.Repeat([]byte{byte('a' + i)}, 64<<10)}))
		}
	}
	folder := filepath.Join(t.TempDir(), "vault")
	vault, err := OpenDirectory(folder)
	check(t, err)
	check(t, vault.Put(t.Context(), "prod/members/x", Document{Data: bytes.Repeat([]byte("z"), 64<<10)}))
	for i := range 15 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWhileWriting$")
		cmd.Env = append(os.Environ(), folderOf+"="+folder)
		check(t, cmd.Start())
		time.Sleep(time.Duration(20+7*i) * time.Millisecond)
		check(t, cmd.Process.Signal(syscall.SIGKILL))
		_ = cmd.Wait()
		vault, err := OpenDirectory(folder)
		check(t, err)
		document, err := vault.Get(t.Context(), "prod/members/x")
		check(t, err)
		if len(document.Data) != 64<<10 || len(bytes.Trim(document.Data, string(document.Data[:1]))) > 0 {
			t.Fatal("a document in part")
		}
	}
	for file := range vaultFiles(t, folder) {
		if strings.HasPrefix(filepath.Base(file), temporary) {
			t.Errorf("%s is left of a write", file)
		}
	}
}

// TestLock: who writes waits for who writes already, also of another process.
func TestLock(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "vault")
	vault, err := OpenDirectory(folder)
	check(t, err)
	entered, leave := make(chan struct{}), make(chan struct{})
	go func() {
		_ = vault.locked(t.Context(), func() error { close(entered); <-leave; return nil })
	}()
	<-entered
	file, err := os.OpenFile(filepath.Join(folder, lockName), os.O_RDWR, 0)
	check(t, err)
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("two hold the lock: %v", err)
	}
	close(leave)
	check(t, lockFile(file))
}

func TestNamesThatAreRefused(t *testing.T) {
	vault, err := OpenDirectory(filepath.Join(t.TempDir(), "vault"))
	check(t, err)
	for _, name := range []string{"", "../x", "prod/../../x", "/etc/x", "prod//root", "prod/root.pem", "Prod/root", "prod\\root", ".lock", "prod/\x00"} {
		if err := vault.Put(t.Context(), name, Document{Data: []byte("x")}); err == nil {
			t.Errorf("%q was taken", name)
		}
		if _, err := vault.Get(t.Context(), name); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v, want it refused", name, err)
		}
	}
}
