package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog/fetch/fetchtest"
)

// ran is what a command answered.
type ran struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, args ...string) ran {
	t.Helper()
	stdout, stderr, code := isthmus(t, args...)
	return ran{code, stdout, stderr}
}

// writeFleet writes a fleet of one network and one member and returns its folder.
func writeFleet(t *testing.T, networkSpec, memberSpec string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"network.yaml": "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec:\n" + networkSpec,
		"member.yaml": "apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: one}\nspec:\n" +
			"  applicationNetwork: prod\n  cluster: {type: Kubernetes, kubeconfigRef: {name: one}}\n" + memberSpec,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A release that isthmus does not know is fetched once, and a second run needs
// nothing but the cache.
func TestReleaseFromRegistry(t *testing.T) {
	t.Parallel()
	registry := fetchtest.Start(t)
	source := registry.PushRelease(t, "istio/charts", "1.31.0", "1.31.9")
	declares := func(digests string) string {
		return fmt.Sprintf("  releases:\n  - version: 1.31.9\n    charts:\n      repository: %s\n      digests: %s\n", source.Repository, digests)
	}
	dir := writeFleet(t, declares(fetchtest.Digests(source)), "  upgrade: {version: \"1.31\"}\n")
	cache, out := t.TempDir(), t.TempDir()

	if got := run(t, "validate", dir, "--strict", "--cache", cache); got.code != exitFine || got.stdout != "" {
		t.Fatalf("validate: %+v", got)
	}
	if got := run(t, "render", dir, "-o", out, "--cache", cache); got.code != exitFine {
		t.Fatalf("render: %+v", got)
	}
	first := readFolder(t, out)
	deployment := first["members/one/control-plane/deployment-istiod.yaml"]
	if !strings.Contains(deployment, "pilot:1.31.9") || first["releases/1.31.9/crds/kustomization.yaml"] == "" {
		t.Errorf("the member does not run the release:\n%s", deployment)
	}
	list := run(t, "catalog", "list", "--fleet", dir, "--cache", cache)
	if list.code != exitFine || !strings.Contains(list.stdout, "\n1.31.9   -        1.32-1.36   v1.6.0") {
		t.Errorf("catalog list: %+v", list)
	}

	wrong := writeFleet(t, declares(strings.Replace(fetchtest.Digests(source), source.Digests.Istiod, fetchtest.DigestOf(nil), 1)), "")
	got := run(t, "validate", wrong, "--cache", cache)
	if got.code != exitProblems || !strings.HasPrefix(got.stdout, "network.yaml:9: spec.releases[0].charts.digests.istiod: chart ") || !strings.Contains(got.stdout, "\n  hint: ") {
		t.Errorf("a wrong digest: %+v", got)
	}

	registry.Stop()
	if got := run(t, "render", dir, "-o", out, "--cache", cache); got.code != exitFine {
		t.Fatalf("render offline: %+v", got)
	}
	if diff := cmp.Diff(first, readFolder(t, out)); diff != "" {
		t.Errorf("offline (-want +got):\n%s", diff)
	}
	got = run(t, "render", dir, "-o", out, "--cache", t.TempDir())
	if got.code != exitCannotRun || !strings.Contains(got.stderr, "the registry cannot be reached") || !strings.Contains(got.stderr, "isthmus: hint: what is in the cache") {
		t.Errorf("offline without a cache: %+v", got)
	}
	if diff := cmp.Diff(first, readFolder(t, out)); diff != "" {
		t.Errorf("what could not be rendered changed the folder (-want +got):\n%s", diff)
	}
}

// The Gateway API's CRDs come from the proxy that is named, and from nowhere else.
func TestGatewayAPIFromModuleProxy(t *testing.T) {
	t.Setenv("GOPROXY", "")
	dir := writeFleet(t, "  gatewayAPI: {owner: isthmus}\n", "")
	cache, out := t.TempDir(), t.TempDir()
	got := run(t, "render", dir, "-o", out, "--cache", cache)
	if got.code != exitCannotRun || !strings.Contains(got.stderr, "isthmus: hint: set GOPROXY or --module-proxy") || !strings.Contains(got.stderr, "owner: Member") {
		t.Errorf("without a proxy: %+v", got)
	}
	t.Setenv("GOPROXY", fetchtest.ModuleProxy(t, "v1.5.1")+",direct")
	if got := run(t, "render", dir, "-o", out, "--cache", cache); got.code != exitFine {
		t.Fatalf("with a proxy: %+v", got)
	}
	t.Setenv("GOPROXY", "")
	if got := run(t, "render", dir, "-o", out, "--cache", cache); got.code != exitFine || !strings.Contains(got.stdout, "unchanged") {
		t.Errorf("from the cache: %+v", got)
	}
	if readFolder(t, out)["releases/gateway-api/v1.5.1-standard/kustomization.yaml"] == "" {
		t.Error("the CRDs are not on disk")
	}
}
