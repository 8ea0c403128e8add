package kubelet

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func readVolume(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name()[0] == '.' {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(content)
	}
	return files
}

func TestWriteVolume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	for _, want := range []map[string]string{
		{},
		{"root-cert.pem": "1", "ca-key.pem": "1"},
		{"root-cert.pem": "2", "new": "2"},
	} {
		files := map[string][]byte{}
		for name, content := range want {
			files[name] = []byte(content)
		}
		if err := writeVolume(dir, files); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, readVolume(t, dir)); diff != "" {
			t.Errorf("volume (-want +got):\n%s", diff)
		}
		before, err := os.Readlink(filepath.Join(dir, dataLink))
		if err != nil {
			t.Fatal(err)
		}
		if err := writeVolume(dir, files); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.Readlink(filepath.Join(dir, dataLink)); after != before {
			t.Errorf("writing the same content again made istiod see a change")
		}
	}
}

func TestWriteVolumeStaysInside(t *testing.T) {
	for _, path := range []string{"../x", "/x", "..data", "a/../../x"} {
		if err := writeVolume(filepath.Join(t.TempDir(), "v"), map[string][]byte{path: nil}); err == nil {
			t.Errorf("%q was written", path)
		}
	}
}

func TestLayout(t *testing.T) {
	l := layout{dir: t.TempDir(), mounts: []corev1.VolumeMount{
		{Name: "token", MountPath: "/var/run/secrets/tokens"},
		{Name: "cacerts", MountPath: "/etc/cacerts"},
	}}
	if err := l.mount(); err != nil {
		t.Fatal(err)
	}
	if err := l.mount(); err != nil {
		t.Errorf("mounting again, after a restart: %v", err)
	}
	if err := writeVolume(l.volume("cacerts"), map[string][]byte{"root-cert.pem": []byte("R")}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(l.root(), "etc/cacerts/root-cert.pem"))
	if err != nil || string(content) != "R" {
		t.Errorf("below the root is %q, %v", content, err)
	}
	for text, want := range map[string]string{
		"ROOT_CA_DIR=/etc/cacerts":            "ROOT_CA_DIR=" + l.root() + "/etc/cacerts",
		"--file=/etc/cacerts/root-cert.pem":   "--file=" + l.root() + "/etc/cacerts/root-cert.pem",
		"/var/run/secrets/tokens/istio-token": l.root() + "/var/run/secrets/tokens/istio-token",
		"X=/etc/cacerts-of-another":           "X=/etc/cacerts-of-another",
		"discovery":                           "discovery",
	} {
		if got := l.localize(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}
