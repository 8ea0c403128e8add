package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing/fstest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

var (
	kindGitRepository = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "GitRepository"}
	kindKustomization = schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}
)

// What both sides are given: members at once, and requests in flight to each.
const (
	membersAtOnce  = 16
	requestsAtOnce = 8
)

// flux is Flux's kustomize-controller, with one Kustomization per member. In place
// of the source-controller, which is not part of the race, it finds artifacts
// with bundles that this program serves.
type flux struct {
	ground *ground
	*program
	artifacts *artifacts
}

// startFlux installs Flux's kinds on the hub, makes the Kustomizations of members
// and returns when the controller has seen all of them wait for an artifact.
func startFlux(ctx context.Context, g *ground, path, interval string) (*flux, error) {
	if err := installFlux(ctx, g); err != nil {
		return nil, err
	}
	a, err := serveArtifacts()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, //nolint:gosec // G204: the path is of our own build.
		fmt.Sprintf("--concurrent=%d", membersAtOnce), fmt.Sprintf("--concurrent-ssa=%d", requestsAtOnce),
		"--kube-api-qps=10000", "--kube-api-burst=20000", "--interval-jitter-percentage=0", "--no-remote-bases",
		"--watch-all-namespaces=false", "--metrics-addr=0", "--health-addr=127.0.0.1:0", "--log-level=error")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+g.Hub.KubeconfigPath(), "RUNTIME_NAMESPACE="+rig.Namespace, "TMPDIR="+g.Dir)
	p, err := startProgram(g.Dir, "kustomize-controller", cmd)
	if err != nil {
		a.stop()
		return nil, err
	}
	f := &flux{g, p, a}
	if err := f.begin(ctx, interval); err != nil {
		err = p.explain(err)
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *flux) stop() {
	f.program.stop()
	f.artifacts.stop()
}

func installFlux(ctx context.Context, g *ground) error {
	definitions, err := controlplane.FluxDefinitions(ctx)
	if err != nil {
		return err
	}
	for _, definition := range definitions {
		if err := g.HubClient.Create(ctx, definition); err != nil {
			return fmt.Errorf("install %s: %w", definition.GetName(), err)
		}
	}
	for _, definition := range definitions {
		err := rig.Eventually(ctx, time.Minute, func() error {
			if err := g.HubClient.Get(ctx, client.ObjectKeyFromObject(definition), definition); err != nil {
				return err
			}
			if state := conditionOf(definition, "Established"); !strings.HasPrefix(state, "True") {
				return fmt.Errorf("%s is not established: %s", definition.GetName(), state)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *flux) begin(ctx context.Context, interval string) error {
	repository := fluxObject(kindGitRepository, rig.FleetName, map[string]any{"interval": "1h", "url": "https://git.example.com/fleet"})
	if err := createSoon(ctx, f.ground.HubClient, repository); err != nil {
		return err
	}
	for _, name := range f.ground.members {
		kustomization := fluxObject(kindKustomization, name, map[string]any{
			"interval": interval, "retryInterval": "5s", "timeout": "5m", "prune": true, "wait": true,
			"path":       "./" + bundle.MemberDir(name),
			"sourceRef":  map[string]any{"kind": kindGitRepository.Kind, "name": rig.FleetName},
			"kubeConfig": map[string]any{"secretRef": map[string]any{"name": name}},
		})
		if err := createSoon(ctx, f.ground.HubClient, kustomization); err != nil {
			return err
		}
	}
	return f.ground.await(ctx, kindKustomization, f.ground.members, func(k *unstructured.Unstructured) bool {
		return strings.Contains(conditionOf(k, "Ready"), "artifact not found")
	})
}

func fluxObject(kind schema.GroupVersionKind, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(kind)
	o.SetNamespace(rig.Namespace)
	o.SetName(name)
	return o
}

// createSoon creates an object whose kind may not be served for a moment yet.
func createSoon(ctx context.Context, c client.Client, o *unstructured.Unstructured) error {
	return rig.Eventually(ctx, time.Minute, func() error { return c.Create(ctx, o) })
}

// deliver makes the bundles of a fleet an artifact and returns when all members
// have it whole and are healthy; the time is that since the artifact was there.
func (f *flux) deliver(ctx context.Context, files fstest.MapFS) (time.Duration, error) {
	artifact, err := f.artifacts.add(files)
	if err != nil {
		return 0, err
	}
	repository := fluxObject(kindGitRepository, rig.FleetName, nil)
	if err := f.ground.HubClient.Get(ctx, client.ObjectKeyFromObject(repository), repository); err != nil {
		return 0, err
	}
	if err := unstructured.SetNestedMap(repository.Object, map[string]any{
		"observedGeneration": repository.GetGeneration(),
		"artifact":           artifact,
	}, "status"); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := f.ground.HubClient.Status().Update(ctx, repository); err != nil {
		return 0, err
	}
	err = f.ground.await(ctx, kindKustomization, f.ground.members, func(k *unstructured.Unstructured) bool {
		revision, _, _ := unstructured.NestedString(k.Object, "status", "lastAppliedRevision")
		return revision == artifact["revision"] && isReady(k)
	})
	return time.Since(start), err
}

// artifacts serves tarballs of bundles as the source-controller does.
type artifacts struct {
	server   *http.Server
	address  string
	mu       sync.Mutex
	tarballs map[string][]byte // by path
}

func serveArtifacts() (*artifacts, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It lives as long as the run.
	if err != nil {
		return nil, err
	}
	a := &artifacts{address: listener.Addr().String(), tarballs: map[string][]byte{}}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	go func() { _ = a.server.Serve(listener) }() // ends with stop
	return a, nil
}

func (a *artifacts) stop() { _ = a.server.Close() }

func (a *artifacts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	tarball, ok := a.tarballs[r.URL.Path]
	a.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(tarball) // a broken connection is the reader's to tell
}

// add renders a fleet, packs its bundles, and returns the artifact for a source's
// status.
func (a *artifacts) add(files fstest.MapFS) (map[string]any, error) {
	bundles, _, _, err := render(renderer.New(catalog.Builtin()), files)
	if err != nil {
		return nil, err
	}
	packed, err := bundle.Files(bundles)
	if err != nil {
		return nil, err
	}
	tarball, err := pack(packed)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(tarball)
	digest := hex.EncodeToString(sum[:])
	path := "/gitrepository/" + rig.Namespace + "/" + rig.FleetName + "/" + digest + ".tar.gz"
	a.mu.Lock()
	a.tarballs[path] = tarball
	a.mu.Unlock()
	return map[string]any{
		"digest": "sha256:" + digest, "path": path[1:], "url": "http://" + a.address + path,
		"revision": "main@sha1:" + digest[:40], "size": int64(len(tarball)),
		"lastUpdateTime": time.Now().UTC().Format(time.RFC3339),
	}, nil
}

func pack(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	packed := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := packed.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := packed.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := packed.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
