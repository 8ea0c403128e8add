package reconciler

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/catalog/fetch"
	"github.com/isthmus-mesh/isthmus/catalog/fetch/fetchtest"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// followed is a repository with a fleet and what looks at it.
type followed struct {
	repository *rig.Repository
	looker     looker
	fleet      *v1alpha1.Fleet
}

func follow(t *testing.T, cache string) *followed {
	t.Helper()
	repository, err := rig.NewRepository(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &followed{
		repository: repository,
		looker:     looker{renderer: newRenderers(Options{CacheDirectory: cache}), cache: cache},
		fleet:      &v1alpha1.Fleet{Spec: v1alpha1.FleetSpec{URL: repository.URL(), Branch: "main"}},
	}
}

// push commits a fleet whose only member runs 1.31.9 of the source.
func (f *followed) push(t *testing.T, source catalog.Source) string {
	t.Helper()
	err := f.repository.Write("fleet.yaml", fmt.Sprintf(`apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec:
  releases: [{version: 1.31.9, charts: {repository: %q, digests: %s}}]
---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: one}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: one}}
  upgrade: {version: 1.31.9}
`, source.Repository, fetchtest.Digests(source)))
	if err != nil {
		t.Fatal(err)
	}
	commit, err := f.repository.Push(t.Context(), "change")
	if err != nil {
		t.Fatal(err)
	}
	return commit
}

// A registry that is down fails the look and takes nothing back; what was fetched
// before needs no registry, also after a start.
func TestLookWithoutRegistry(t *testing.T) {
	t.Parallel()
	registry := fetchtest.Start(t)
	good := registry.PushRelease(t, "istio/charts", "1.31.0", "1.31.9")
	moved := registry.PushRelease(t, "mirror/charts", "1.30.4", "1.31.9")
	cache := t.TempDir()
	f := follow(t, cache)
	first := f.push(t, good)

	found := f.looker.look(context.Background(), f.fleet, nil, published{})
	if found.failure != nil || found.accepted == nil || found.accepted.bundles["one"].Release != "1.31.9" {
		t.Fatalf("the first look: %+v", found)
	}
	held := found.accepted
	f.fleet.Status.AcceptedRevision = source.Revision("main", first)

	unfit := good
	unfit.Digests.Istiod = good.Digests.Base
	f.push(t, unfit)
	found = f.looker.look(context.Background(), f.fleet, held, published{})
	if found.failure == nil || found.failure.Reason != "InvalidFleet" || !found.failure.Stalled || found.accepted != nil {
		t.Errorf("a digest of nothing: %+v", found)
	}
	if len(found.problems) != 1 || found.problems[0].Path != "spec.releases[0].charts.digests.istiod" || found.problems[0].Line != 5 {
		t.Errorf("a digest of nothing: problems %v", found.problems)
	}

	registry.Stop()
	f.push(t, moved)
	found = f.looker.look(context.Background(), f.fleet, held, published{})
	if found.failure == nil || found.failure.Reason != string(fetch.RegistryUnreachable) || found.failure.Stalled || found.accepted != nil {
		t.Errorf("a registry that is down: %+v", found)
	}
	if !strings.Contains(found.failure.Message, "mirror/charts") {
		t.Errorf("which registry is down? %s", found.failure.Message)
	}

	// A start: nothing is held, the head cannot be had, the cache has the rest.
	f.looker.renderer = newRenderers(Options{CacheDirectory: cache})
	found = f.looker.look(context.Background(), f.fleet, nil, published{})
	if found.failure == nil || found.accepted == nil || found.accepted.commit != first {
		t.Errorf("after a start: %+v", found)
	}
	if found.accepted != nil && found.accepted.bundles["one"].Digest != held.bundles["one"].Digest {
		t.Error("after a start the last accepted commit renders otherwise")
	}
}

// CRDs that cannot be fetched stop the commit with a reason of their own.
func TestLookWithoutModuleProxy(t *testing.T) {
	t.Parallel()
	f := follow(t, t.TempDir())
	if err := f.repository.Write("fleet.yaml", `apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec: {gatewayAPI: {owner: isthmus}}
---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: one}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: one}}
`); err != nil {
		t.Fatal(err)
	}
	if _, err := f.repository.Push(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	found := f.looker.look(context.Background(), f.fleet, nil, published{})
	if found.failure == nil || found.failure.Reason != string(fetch.ModuleProxyMissing) || !found.failure.Stalled || !strings.Contains(found.failure.Message, "GOPROXY") {
		t.Errorf("without a proxy: %+v", found.failure)
	}

	f.looker.renderer = newRenderers(Options{CacheDirectory: t.TempDir(), ModuleProxy: fetchtest.ModuleProxy(t, "v1.5.1")})
	found = f.looker.look(context.Background(), f.fleet, nil, published{})
	if found.failure != nil || found.accepted.bundles["one"].GatewayAPI != "v1.5.1-standard" {
		t.Errorf("with a proxy: %+v", found)
	}
}

func TestGatewayAPIDiffers(t *testing.T) {
	for _, tt := range []struct {
		reason  string
		said    v1alpha1.GatewayAPI
		release string
		found   catalog.GatewayAPI
		want    string
	}{
		{"as the release is built", v1alpha1.GatewayAPI{}, "1.31.0", catalog.GatewayAPI{Version: "v1.6.0", Channel: "standard"}, ""},
		{"as the fleet says", v1alpha1.GatewayAPI{Version: "v1.5.1"}, "1.30.4", catalog.GatewayAPI{Version: "v1.5.1", Channel: "standard"}, ""},
		{"more than is asked for", v1alpha1.GatewayAPI{Channel: "Standard"}, "1.30.4", catalog.GatewayAPI{Version: "v1.5.1", Channel: "experimental"}, ""},
		{
			"another version than the fleet says", v1alpha1.GatewayAPI{Version: "v1.5.1"}, "1.29.1", catalog.GatewayAPI{Version: "v1.4.0", Channel: "standard"},
			"Gateway API v1.4.0: the fleet says version v1.5.1 and the member has v1.4.0",
		},
		{
			"another channel", v1alpha1.GatewayAPI{Channel: "Experimental"}, "1.30.4", catalog.GatewayAPI{Version: "v1.5.1", Channel: "standard"},
			"Gateway API v1.5.1: the fleet says channel experimental and the member has standard",
		},
		{
			"older than the release reads some kinds from", v1alpha1.GatewayAPI{}, "1.31.0", catalog.GatewayAPI{Version: "v1.5.1", Channel: "standard"},
			"Gateway API v1.5.1: release 1.31.0 leaves objects of kind TCPRoute alone below v1.6.0",
		},
		{"a CRD that does not say", v1alpha1.GatewayAPI{}, "1.31.0", catalog.GatewayAPI{}, ""},
	} {
		if got := gatewayAPIDiffers(tt.said, tt.release, tt.found); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}
