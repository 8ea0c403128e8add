// Package fetchtest is what tests fetch from: a real OCI registry as a process,
// charts in it as Istio publishes them, and the Go modules of this machine.
package fetchtest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// The media types of a chart.
const (
	TypeConfig = "application/vnd.cncf.helm.config.v1+json"
	TypeChart  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// Registry is a registry that runs as a process of its own.
type Registry struct {
	// Host is its address, "localhost:40123".
	Host string

	command *exec.Cmd
}

// Start builds the registry, where that was not done before, and runs it until
// the test ends.
func Start(t testing.TB) *Registry {
	t.Helper()
	program := build(t)
	command := exec.Command(program, "-port", "0")
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	r := &Registry{command: command}
	t.Cleanup(r.Stop)
	lines := bufio.NewScanner(stderr)
	serving := regexp.MustCompile(`serving on port (\d+)`)
	for lines.Scan() {
		if found := serving.FindStringSubmatch(lines.Text()); found != nil {
			r.Host = "localhost:" + found[1]
			go drain(lines)
			return r
		}
	}
	t.Fatal("the registry ended before it served")
	return nil
}

func drain(lines *bufio.Scanner) {
	for lines.Scan() {
		continue
	}
}

// build returns the program, made by the go command from its own module.
func build(t testing.TB) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	program := filepath.Join(t.TempDir(), "registry")
	command := exec.Command("go", "build", "-o", program, "github.com/google/go-containerregistry/cmd/registry")
	command.Dir = filepath.Join(filepath.Dir(here), "..", "..", "..", "hack", "registry")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build the registry: %v\n%s", err, output)
	}
	return program
}

// Stop ends the registry; what was in it is lost. It may be called twice.
func (r *Registry) Stop() {
	if r.command.ProcessState != nil {
		return
	}
	_ = r.command.Process.Kill()
	_ = r.command.Wait()
}

// Layer is one layer of what is pushed.
type Layer struct {
	MediaType string
	Data      []byte
	// Size that the manifest says; zero for the true one.
	Size int64
}

// Push puts a manifest with its config and layers into the repository, below
// the registry's host, tags it, and returns its digest.
func (r *Registry) Push(t testing.TB, repository, tag, configType string, layers ...Layer) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to, err := remote.NewRepository(r.Host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	to.PlainHTTP, to.Client = true, http.DefaultClient
	blob := func(mediaType string, data []byte) ocispec.Descriptor {
		described := ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(DigestOf(data)), Size: int64(len(data))}
		if err := to.Blobs().Push(ctx, described, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		return described
	}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob(configType, []byte("{}"))}
	manifest.SchemaVersion = 2
	for _, layer := range layers {
		described := blob(layer.MediaType, layer.Data)
		if layer.Size > 0 {
			described.Size = layer.Size
		}
		manifest.Layers = append(manifest.Layers, described)
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	described := ocispec.Descriptor{MediaType: manifest.MediaType, Digest: digest.Digest(DigestOf(data)), Size: int64(len(data))}
	if err := to.Manifests().PushReference(ctx, described, bytes.NewReader(data), tag); err != nil {
		t.Fatal(err)
	}
	return string(described.Digest)
}

// DigestOf returns "sha256:…" of the data.
func DigestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PushRelease pushes the charts of a built-in release as those of another version,
// as Istio's release tooling does, and returns where they are.
func (r *Registry) PushRelease(t testing.TB, repository, of, version string) catalog.Source {
	t.Helper()
	release, ok := catalog.Builtin().Release(of)
	if !ok {
		t.Fatalf("no release %s", of)
	}
	digests := map[string]string{}
	for _, chart := range (catalog.Source{}).Charts() {
		archive := Pack(t, chart.Name, ChartFiles(t, release, chart, version))
		digests[chart.Name] = r.Push(t, repository+"/"+chart.Name, version, TypeConfig, Layer{MediaType: TypeChart, Data: archive})
	}
	return catalog.Source{Repository: r.Host + "/" + repository, Digests: catalog.Digests{
		Base: digests["base"], Istiod: digests["istiod"], CNI: digests["cni"], Ztunnel: digests["ztunnel"],
	}}
}

// ChartFiles returns the files of a built-in chart, by path below its folder, with
// another version written in.
func ChartFiles(t testing.TB, release catalog.Release, chart catalog.Chart, version string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(release.Charts, chart.Folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(release.Charts, name)
		files[strings.TrimPrefix(name, chart.Folder+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files["Chart.yaml"] = regexp.MustCompile(`(?m)^(version|appVersion): .*$`).ReplaceAllString(files["Chart.yaml"], "$1: "+version)
	return files
}

// Pack returns the archive of a chart with the files in one folder.
func Pack(t testing.TB, folder string, files map[string]string) []byte {
	t.Helper()
	var headers []tar.Header
	for name := range files {
		headers = append(headers, tar.Header{Name: folder + "/" + name})
	}
	return PackHeaders(t, headers, func(name string) string { return files[strings.TrimPrefix(name, folder+"/")] })
}

// PackHeaders returns an archive of entries as they are, with the content of each.
func PackHeaders(t testing.TB, headers []tar.Header, content func(name string) string) []byte {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	for _, header := range headers {
		data := content(header.Name)
		header.Mode, header.Size = 0o644, int64(len(data))
		if err := archive.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// ModuleProxy returns the address of a Go module proxy that has versions of the
// Gateway API: the go command's own cache, into which they are downloaded.
func ModuleProxy(t testing.TB, versions ...string) string {
	t.Helper()
	for _, version := range versions {
		command := exec.Command("go", "mod", "download", catalog.GatewayAPIModule+"@"+version)
		command.Dir = os.TempDir()
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("download Gateway API %s: %v\n%s", version, err, output)
		}
	}
	output, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return "file://" + filepath.Join(strings.TrimSpace(string(output)), "cache", "download")
}

// Digests writes the digests of a source as in a fleet's spec.releases.
func Digests(s catalog.Source) string {
	return fmt.Sprintf("{base: %q, istiod: %q, cni: %q, ztunnel: %q}", s.Digests.Base, s.Digests.Istiod, s.Digests.CNI, s.Digests.Ztunnel)
}
