package controlplane

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// module writes a program that builds at once.
func module(t *testing.T) recipe {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module example.com/hello\n\ngo 1.26.0\n",
		"main.go": "package main\n\nfunc main() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return recipe{name: "hello", dir: dir, pkg: ".", usually: "a moment"}
}

func TestBuildUsesItsCache(t *testing.T) {
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	r := module(t)
	var progress strings.Builder
	first, err := build(t.Context(), r, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(progress.String(), "hello: building") {
		t.Errorf("a build said only %q", progress.String())
	}
	progress.Reset()
	second, err := build(t.Context(), r, &progress)
	if err != nil || second != first || progress.Len() != 0 {
		t.Errorf("second build: %q after %q, said %q, error %v", second, first, progress.String(), err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "main.go"), []byte("package main\n\nfunc main() { println() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := build(t.Context(), r, nil); err != nil || changed == first {
		t.Errorf("changed source: %q again, error %v", changed, err)
	}
}

func TestBuildReportsCompilerErrors(t *testing.T) {
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	r := module(t)
	if err := os.WriteFile(filepath.Join(r.dir, "main.go"), []byte("package main\n\nfunc main() { missing() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := build(t.Context(), r, nil)
	if err == nil || !strings.Contains(err.Error(), "undefined: missing") {
		t.Errorf("the compiler's message is not in %v", err)
	}
}

func TestBuildWaitsForAnother(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), lock, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	told := 0
	if _, err := lockFile(ctx, lock, func() { told++ }); err == nil || told != 1 {
		t.Errorf("a held lock was taken, or waiting was told %d times; error %v", told, err)
	}
	unlock()
	again, err := lockFile(t.Context(), lock, func() { t.Error("waited for a lock given back") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestIstiodOfUnknownRelease(t *testing.T) {
	if _, err := Istiod(t.Context(), "1.2.3", nil); err == nil || !strings.Contains(err.Error(), "1.31.0") {
		t.Errorf("error %v does not name the releases that there are", err)
	}
}

// Versions that are set by hand, beside those of the modules.
func TestVersionsOfModules(t *testing.T) {
	for file, want := range map[string]string{
		filepath.Join("kube", "go.mod"):       "k8s.io/kubernetes v" + kubernetesVersion + "\n",
		filepath.Join("..", "flux", "go.mod"): "github.com/fluxcd/kustomize-controller v" + KustomizeControllerVersion + " ",
	} {
		modules, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(modules), want) {
			t.Errorf("%s does not have %q", file, want)
		}
	}
}
