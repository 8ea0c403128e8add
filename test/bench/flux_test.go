package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Flux gets what isthmus delivers: an artifact is its bundles, under the digest
// and revision that the source's status tells.
func TestArtifacts(t *testing.T) {
	a, err := serveArtifacts()
	if err != nil {
		t.Fatal(err)
	}
	defer a.stop()
	files, err := realFleet(memberNames(2))
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.add(files)
	if err != nil {
		t.Fatal(err)
	}
	url, _ := first["url"].(string)
	response, err := http.Get(url) //nolint:gosec,noctx // G107: it is ours.
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	tarball, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %s, error %v", response.Status, err)
	}
	sum := sha256.Sum256(tarball)
	if want := "sha256:" + hex.EncodeToString(sum[:]); first["digest"] != want {
		t.Errorf("digest %v, want %s", first["digest"], want)
	}
	names := unpackedNames(t, tarball)
	for _, member := range memberNames(2) {
		if want := bundle.MemberDir(member) + "/kustomization.yaml"; !slices.Contains(names, want) {
			t.Errorf("the artifact lacks %s", want)
		}
	}
	files[example+".yaml"].Data = append(files[example+".yaml"].Data, oneObject...)
	second, err := a.add(files)
	if err != nil {
		t.Fatal(err)
	}
	if first["revision"] == second["revision"] {
		t.Errorf("a change has the same revision %v", first["revision"])
	}
}

func unpackedNames(t *testing.T, tarball []byte) []string {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(tarball))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for packed := tar.NewReader(unzipped); ; {
		header, err := packed.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}

// A change of one object is one: the race counts what each side makes of it.
func TestOneObject(t *testing.T) {
	files, err := realFleet(memberNames(2))
	if err != nil {
		t.Fatal(err)
	}
	a := digests(t, files)
	files[example+".yaml"].Data = append(files[example+".yaml"].Data, oneObject...)
	b := digests(t, files)
	var changed []string
	for what, digest := range a {
		if b[what] != digest {
			changed = append(changed, what)
		}
	}
	if len(a) != len(b) || len(changed) != 1 || !strings.Contains(changed[0], example) {
		t.Errorf("changed: %v", changed)
	}
}

func TestContenders(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	counted := contenders(since, since.Add(time.Minute))
	theirs := controlplane.Request{Time: since.Add(time.Second), User: "admin", UserAgent: "kustomize-controller/v0"}
	for reason, tt := range map[string]struct {
		change func(*controlplane.Request)
		want   bool
	}{
		"a contender's":         {func(*controlplane.Request) {}, true},
		"of the reconciler":     {func(r *controlplane.Request) { r.User = "system:serviceaccount:isthmus-system:isthmus" }, true},
		"of this program":       {func(r *controlplane.Request) { r.UserAgent = rest.DefaultKubernetesUserAgent() }, false},
		"of the cluster":        {func(r *controlplane.Request) { r.User = "kube-controller-manager" }, false},
		"of its accounts":       {func(r *controlplane.Request) { r.User = "system:serviceaccount:kube-system:job-controller" }, false},
		"before the time":       {func(r *controlplane.Request) { r.Time = since.Add(-time.Second) }, false},
		"after the time is out": {func(r *controlplane.Request) { r.Time = since.Add(time.Hour) }, false},
	} {
		request := theirs
		tt.change(&request)
		if got := counted(request); got != tt.want {
			t.Errorf("a request %s counts: %t", reason, got)
		}
	}
}

// digests of all objects of a fleet, by member and identity.
func digests(t *testing.T, files fstest.MapFS) map[string]string {
	t.Helper()
	bundles, _, _, err := render(renderer.New(catalog.Builtin()), files)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, b := range bundles {
		for _, o := range b.Objects {
			all[b.Member+": "+o.Object.GetKind()+" "+o.Object.GetNamespace()+"/"+o.Object.GetName()] = o.Digest
		}
	}
	return all
}

func TestCPUIn(t *testing.T) {
	stat := "77 (a program) S 1 77 77 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 8 0 99 1 2"
	if got, err := cpuIn(stat); err != nil || got != 1680*time.Millisecond {
		t.Errorf("CPU time %s, error %v", got, err)
	}
	if _, err := cpuIn("77 (a program) S 1"); err == nil {
		t.Error("half a line was read")
	}
}
