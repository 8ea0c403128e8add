package renderer_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/catalog/fetch"
	"github.com/isthmus-mesh/isthmus/catalog/fetch/fetchtest"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// gatewayAPIFleet has members that receive the Gateway API in three ways and one
// that has its own.
func gatewayAPIFleet(t *testing.T) *fleet.Fleet {
	files := fstest.MapFS{"network.yaml": {Data: []byte(`apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec:
  gatewayAPI: {owner: isthmus}
  upgrade: {version: 1.31.0}
`)}}
	for name, spec := range map[string]string{
		"a-default":      "{}",
		"b-again":        "{}",
		"c-older":        "{version: v1.5.1}",
		"d-experimental": "{channel: Experimental}",
		"e-own":          "{owner: Member}",
	} {
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, "1.31.0") + "  gatewayAPI: " + spec + "\n")}
	}
	return load(t, files)
}

// complete returns the catalog with what the fleet needs.
func complete(t *testing.T, f *fleet.Fleet) *catalog.Catalog {
	t.Helper()
	needs := plan.Needs(f, catalog.Builtin(), plan.Observed{})
	var versions []string
	for _, api := range needs.GatewayAPIs {
		versions = append(versions, api.Version)
	}
	proxy := fetchtest.ModuleProxy(t, versions...)
	c, failures := fetch.New(fetch.Options{Cache: t.TempDir(), ModuleProxy: proxy}).Fetch(context.Background(), catalog.Builtin(), needs)
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	return c
}

func TestGatewayAPIIsDelivered(t *testing.T) {
	t.Parallel()
	f := gatewayAPIFleet(t)
	bundles := renderBy(t, renderer.New(complete(t, f)), f)
	want := map[string]string{
		"a-default": "v1.6.0-standard", "b-again": "v1.6.0-standard", "c-older": "v1.5.1-standard",
		"d-experimental": "v1.6.0-experimental", "e-own": "",
	}
	for _, b := range bundles {
		if b.GatewayAPI != want[b.Member] {
			t.Errorf("member %s receives %q, want %q", b.Member, b.GatewayAPI, want[b.Member])
		}
		version, channel, _ := strings.Cut(b.GatewayAPI, "-")
		crds := 0
		for _, o := range b.Objects {
			if o.Object.GetLabels()[bundle.ComponentLabel] != string(bundle.ComponentGatewayAPI) {
				continue
			}
			crds++
			// The policy's annotations are not kept up to date by those who make it.
			annotations := o.Object.GetAnnotations()
			if o.Object.GetKind() == "CustomResourceDefinition" && (annotations["gateway.networking.k8s.io/bundle-version"] != version || annotations["gateway.networking.k8s.io/channel"] != channel) {
				t.Errorf("member %s: %s is of %v, not of %s", b.Member, id(o.Object), annotations, b.GatewayAPI)
			}
			if o.Stage != bundle.StageFoundation || o.Object.GetLabels()[bundle.NetworkLabel] != "prod" {
				t.Errorf("member %s: %s in stage %s with labels %v", b.Member, id(o.Object), o.Stage, o.Object.GetLabels())
			}
		}
		if (crds > 0) != (b.GatewayAPI != "") {
			t.Errorf("member %s has %d objects of the Gateway API %q", b.Member, crds, b.GatewayAPI)
		}
	}
	files, err := bundle.Files(bundles)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"v1.6.0-standard", "v1.5.1-standard", "v1.6.0-experimental"} {
		for _, name := range []string{"gateways.gateway.networking.k8s.io.yaml", "validatingadmissionpolicy-safe-upgrades.gateway.networking.k8s.io.yaml"} {
			path := "releases/gateway-api/" + dir + "/" + name
			if content := files[path]; len(content) == 0 || strings.Contains(string(content), bundle.NetworkLabel) {
				t.Errorf("%s is not there, or belongs to a network: %d bytes", path, len(content))
			}
		}
	}
	buildsAreBundles(t, bundles)
}

// A release that is built with an older Gateway API delivers that one, and says
// which kinds the release leaves alone if an older one is named.
func TestGatewayAPIRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason, spec, release string
		problems              []string
	}{
		{"what members are said to have is enough", "{version: v1.6.0}", "1.31.0", nil},
		{"nothing is said of what members have", "{}", "1.31.0", nil},
		{"members have an older one", "{version: v1.4.1}", "1.31.0", []string{
			`GatewayAPIOld member.yaml:9: spec.gatewayAPI.version: with Gateway API v1.4.1, release "1.31.0" leaves objects of some kinds alone: TLSRoute (from v1.5.0), TCPRoute (from v1.6.0)`}},
		{"an older release minds less", "{version: v1.4.1}", "1.29.1", nil},
		{"a version without a checksum is not delivered", "{owner: isthmus, version: v1.4.1}", "1.29.1", []string{
			`GatewayAPIUnknown member.yaml:9: spec.gatewayAPI.version: isthmus has no checksum of Gateway API "v1.4.1" and does not deliver it`}},
		{"what was not fetched cannot be delivered", "{owner: isthmus, version: v1.5.1}", "1.30.4", []string{
			`GatewayAPINotFetched member.yaml:9: spec.gatewayAPI.version: the CRDs of Gateway API v1.5.1 standard have not been fetched`}},
	} {
		f := load(t, fstest.MapFS{
			"network.yaml": {Data: []byte("apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec: {}\n")},
			"member.yaml":  {Data: []byte(memberFile("one", tt.release) + "  gatewayAPI: " + tt.spec + "\n")},
		})
		var got []string
		for _, p := range plan.Make(f, catalog.Builtin(), plan.Observed{}).Problems {
			if strings.HasPrefix(p.Reason, "GatewayAPI") {
				got = append(got, p.Reason+" "+p.String())
			}
		}
		if !slices.Equal(got, tt.problems) {
			t.Errorf("%s: problems %q, want %q", tt.reason, got, tt.problems)
		}
	}
}
