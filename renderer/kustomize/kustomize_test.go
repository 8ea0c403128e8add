package kustomize_test

import (
	"errors"
	"fmt"
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
		{"generators: [cm.yaml]\n", "and so may a generator"},
		{"validators: [cm.yaml]\n", "and a validator"},
		{"Resources: [\"https://example.com/base\"]\n", "fields are found in any case"},
		{"resources: [cm.yaml]\npatches: [{path: \"https://127.0.0.1:1/patch.yaml\"}]\n", "a remote patch"},
		{"resources: [cm.yaml]\npatches: [{path: ../../../etc/patch.yaml}]\n", "a patch outside the files"},
		{"resources: [cm.yaml]\nreplacements: [{path: \"https://127.0.0.1:1/r.yaml\"}]\n", "a remote replacement"},
		{"configMapGenerator: [{name: a, files: [\"https://127.0.0.1:1/a\"]}]\n", "a remote file"},
		{"secretGenerator: [{name: a, envs: [../../../etc/passwd]}]\n", "a file that may be secret"},
	}
	for _, tt := range tests {
		if _, err := kustomize.Build(folder(tt.kustomization), "members/a"); !errors.Is(err, kustomize.ErrRefused) {
			t.Errorf("%s: error = %v, want ErrRefused", tt.reason, err)
		}
	}
}

func TestBuildReportsWhatIsWrong(t *testing.T) {
	cyclic := folder("resources: [../../base]\n")
	cyclic["base/kustomization.yaml"] = []byte("resources: [../members/a]\n")
	bomb := folder("resources: [cm.yaml]\n")
	bomb["members/a/cm.yaml"] = []byte(bombText())
	for _, tt := range []struct {
		files  map[string][]byte
		want   string
		reason string
	}{
		{folder("resources: [cm.yaml, cm.yaml]\n"), "may not add resource with an already registered id", "an object twice"},
		{cyclic, "cycle detected", "two folders that each include the other"},
		{folder("resources: [.]\n"), "cycle detected", "a folder that includes itself"},
		{bomb, "anchors and aliases are not read", "aliases of aliases"},
		{folder("resources: ["), "did not find expected", "no YAML"},
		{folder("resources: [cm.yaml]\nresources: [cm.yaml]\n"), "already set in map", "a key twice"},
	} {
		_, err := kustomize.Build(tt.files, "members/a")
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "members/a") {
			t.Errorf("%s: error = %.500v, want %q and the folder", tt.reason, err, tt.want)
		}
	}
}

// bombText is a ConfigMap of which a few lines stand for 10⁹ values.
func bombText() string {
	text := strings.Builder{}
	text.WriteString(configMap + "x0: &x0 [" + strings.Repeat("lol, ", 10) + "]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&text, "x%d: &x%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 10))
	}
	return text.String()
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
