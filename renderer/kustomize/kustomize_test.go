package kustomize_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
)

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\ndata: {k: \"1\"}\n"

func folder(kustomization string) map[string][]byte {
	return map[string][]byte{
		"members/a/kustomization.yaml": []byte(kustomization),
		"members/a/cm.yaml":            []byte(configMap),
		"base/kustomization.yaml":      []byte("resources: [cm.yaml]\n"),
		"base/cm.yaml":                 []byte(strings.ReplaceAll(configMap, "name: a", "name: c")),
	}
}

func TestBuild(t *testing.T) {
	objects, err := kustomize.Build(folder("resources: [../../base, cm.yaml]\n"), "members/a")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, object := range objects {
		names = append(names, object.GetName())
	}
	if got := strings.Join(names, " "); got != "c a" {
		t.Errorf("built %q, want the base's object first, then the own", got)
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := []struct{ kustomization, reason string }{
		{"resources: [\"https://example.com/base?ref=v1\"]\n", "a remote base"},
		{"resources: [\"github.com/example/base\"]\n", "a remote base without a scheme"},
		{"resources: [../../../etc]\n", "a path outside the files"},
		{"resources: [missing.yaml]\n", "a file that is not there would be fetched"},
		{"components: [\"https://example.com/component\"]\n", "a remote component"},
		{"openapi: {path: cm.yaml}\nresources: [cm.yaml]\n", "schemas stay for every later build"},
		{"helmCharts: [{name: x}]\n", "Helm runs a binary"},
		{"transformers: [cm.yaml]\n", "a transformer may be a plugin"},
	}
	for _, tt := range tests {
		if _, err := kustomize.Build(folder(tt.kustomization), "members/a"); !errors.Is(err, kustomize.ErrRefused) {
			t.Errorf("%s: error = %v, want ErrRefused", tt.reason, err)
		}
	}
}

func TestBuildReportsWhatIsWrong(t *testing.T) {
	_, err := kustomize.Build(folder("resources: [cm.yaml, cm.yaml]\n"), "members/a")
	if err == nil || !strings.Contains(err.Error(), "members/a") {
		t.Errorf("an object twice: error = %v, want one that names the folder", err)
	}
}

// Two builds at once crash Kustomize itself.
func TestBuildFromManyGoroutines(t *testing.T) {
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := kustomize.Build(folder("resources: [cm.yaml]\n"), "members/a"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
