package fleetgen_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/test/fleetgen"
)

// large is a fleet of a thousand members with every field varied. It takes about
// a minute to run every chart for every one of them.
var large = fleetgen.Options{Seed: 20260822, Networks: 8, Members: 1000}

// However a fleet is rendered, each member gets, byte for byte, what the charts
// give when they are run for it alone and each patch is applied to each object.
func TestRenderingEqualsPlainCharts(t *testing.T) {
	t.Parallel()
	f := load(t, large)
	result, err := renderer.Render(f, catalog.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if errs := result.Problems.Errors(); len(errs) > 0 {
		t.Fatalf("render: %v", errs)
	}
	if len(result.Bundles) != large.Members {
		t.Fatalf("%d bundles of %d members", len(result.Bundles), large.Members)
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, d := range result.Decisions {
		if fleetgen.LooksLikeANumber(d.Member.Name) {
			continue // not every chart quotes it; the renderer has tests for it
		}
		group.Go(func() error {
			// CRDs take most of the time, and a member has no say in them.
			if err := differs(result.Bundles[i], d, i%25 == 0); err != nil {
				t.Error(err)
			}
			return nil
		})
	}
	_ = group.Wait()
	sameDefinitions(t, result.Bundles)
}

// The comparison must find a member that got another's name or network, and one
// whose patches or settings are other ones.
func TestTheComparisonFindsDifferences(t *testing.T) {
	t.Parallel()
	o := fleetgen.Options{Seed: 1, Networks: 1, Members: 24}
	f := load(t, o)
	result, err := renderer.Render(f, catalog.Builtin())
	if err != nil || len(result.Bundles) != o.Members {
		t.Fatal(err, result.Problems)
	}
	at := slices.IndexFunc(result.Decisions, func(d plan.Decision) bool { return d.Member.Name == "member-00020" })
	d, b := result.Decisions[at], result.Bundles[at]
	if err := differs(b, d, true); err != nil {
		t.Fatal(err)
	}
	for reason, replacer := range map[string]*strings.Replacer{
		"another's name":    strings.NewReplacer(d.Member.Name, "member-00021"),
		"a stand-in":        strings.NewReplacer(d.Member.Name, "ISTHMUS_CLUSTER"),
		"another's network": strings.NewReplacer(d.Member.Spec.Connectivity.Network, "elsewhere"),
		"another image":     strings.NewReplacer("ztunnel", "ztunnel2"),
	} {
		changed, err := mutate(b, replacer.Replace)
		if err != nil {
			t.Fatal(err)
		}
		if changed.Digest != b.Digest && differs(changed, d, true) == nil {
			t.Errorf("%s is not found", reason)
		}
		if changed.Digest == b.Digest {
			t.Errorf("%s: there is nothing to find", reason)
		}
	}
}

// mutate returns the bundle with each string in its workloads changed.
func mutate(b bundle.Bundle, with func(string) string) (bundle.Bundle, error) {
	objects := slices.Clone(b.Objects)
	for i, object := range objects {
		spec, ok := object.Object.Object["spec"].(map[string]any)
		if kind := object.Object.GetKind(); !ok || kind != "Deployment" && kind != "DaemonSet" {
			continue
		}
		copied := object.Object.DeepCopy()
		copied.Object["spec"] = changeStrings(spec, with)
		made, err := bundle.NewObject(object.Stage, copied)
		if err != nil {
			return bundle.Bundle{}, err
		}
		objects[i] = made
	}
	return bundle.New(targetOf(b), objects)
}

func changeStrings(value any, with func(string) string) any {
	switch value := value.(type) {
	case string:
		return with(value)
	case map[string]any:
		out := map[string]any{}
		for key, element := range value {
			out[key] = changeStrings(element, with)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, element := range value {
			out[i] = changeStrings(element, with)
		}
		return out
	}
	return value
}

func targetOf(b bundle.Bundle) bundle.Target {
	return bundle.Target{Member: b.Member, Network: b.Network, SystemNamespace: b.SystemNamespace, Release: b.Release}
}

// differs returns how a bundle differs from what plain charts and patches give.
func differs(got bundle.Bundle, d plan.Decision, definitions bool) error {
	objects, err := ambient.Plain(ambient.Request{Network: d.Network, Member: d.Member, Release: d.Release, Gateway: d.Gateway}, definitions)
	if err != nil {
		return err
	}
	if err := patchEach(objects, slices.Concat(d.Network.Spec.Patches, d.Member.Spec.Patches)); err != nil {
		return fmt.Errorf("member %s: %w", d.Member.Name, err)
	}
	if !definitions {
		got.Objects = slices.DeleteFunc(slices.Clone(got.Objects), isDefinition)
	}
	want, err := bundle.New(bundle.Target{
		Member: d.Member.Name, Network: d.Network.Name, SystemNamespace: d.Network.Spec.DataPlane.Namespace, Release: d.Release.Version,
	}, objects)
	if err != nil {
		return err
	}
	if got, err = bundle.New(targetOf(got), got.Objects); err != nil {
		return err
	}
	if want.Digest == got.Digest {
		return nil
	}
	wantFiles, err := bundle.Files([]bundle.Bundle{want})
	if err != nil {
		return err
	}
	gotFiles, err := bundle.Files([]bundle.Bundle{got})
	if err != nil {
		return err
	}
	return fmt.Errorf("member %s has another bundle: %w", d.Member.Name, compareFiles(d.Member.Name, wantFiles, gotFiles))
}

func compareFiles(member string, want, got map[string][]byte) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !bytes.Equal(want[name], got[name]) {
			errs = append(errs, fmt.Errorf("member %s: %s (-plain +got):\n%s", member, name, cmp.Diff(string(want[name]), string(got[name]))))
		}
	}
	if len(want) != len(got) {
		errs = append(errs, fmt.Errorf("member %s: %d files, plain charts give %d", member, len(got), len(want)))
	}
	return errors.Join(errs...)
}

// patchEach applies each patch to each object that it is for, by itself.
func patchEach(objects []bundle.Object, patches []v1alpha1.Patch) error {
	for _, written := range patches {
		patch, err := kustomize.NewPatch(written)
		if err != nil {
			return err
		}
		for i, object := range objects {
			if !patch.Matches(object.Object) {
				continue
			}
			var after *unstructured.Unstructured
			if after, err = patch.Apply(object.Object); err != nil {
				return err
			}
			if objects[i], err = bundle.NewObject(object.Stage, after); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameDefinitions checks that members of one network and release share their
// CRDs: those of some of them are compared with plain charts.
func sameDefinitions(t *testing.T, bundles []bundle.Bundle) {
	t.Helper()
	known := map[string]string{}
	for _, b := range bundles {
		var digests strings.Builder
		for _, object := range b.Objects {
			if isDefinition(object) {
				digests.WriteString(object.Digest)
			}
		}
		key := b.Network + " " + b.Release
		if known[key] == "" {
			known[key] = digests.String()
		}
		if digests.String() != known[key] {
			t.Errorf("member %s has other CRDs than the first of %s", b.Member, key)
		}
	}
}

func isDefinition(object bundle.Object) bool {
	return object.Object.GetKind() == "CustomResourceDefinition"
}
