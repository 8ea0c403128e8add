package renderer_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// fleetOf returns a fleet of so many members on one release, in so many groups
// of equal settings.
func fleetOf(b *testing.B, members, groups int) *fleet.Fleet {
	files := fstest.MapFS{"network.yaml": {Data: []byte(networkFile)}}
	for i := range members {
		name := fmt.Sprintf("member-%04d", i)
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, "1.30.4") + groupSettings(i%groups))}
	}
	return load(b, files)
}

// groupSettings are settings that are other in each group; the first has none.
func groupSettings(group int) string {
	if group == 0 {
		return ""
	}
	return fmt.Sprintf("  components: {istiod: {replicas: {max: %d}}, ztunnel: {drain: %ds}, cni: {resources: {requests: {cpu: %dm}}}}\n", group, group, group)
}

// BenchmarkRenderFirst renders one member from nothing: charts are parsed and
// run.
func BenchmarkRenderFirst(b *testing.B) {
	f := fleetOf(b, 1, 1)
	for b.Loop() {
		if _, err := renderer.Render(f, catalog.Builtin()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRenderMember renders one more member of a mesh that is known.
func BenchmarkRenderMember(b *testing.B) {
	f := fleetOf(b, 1, 1)
	r := renderer.New(catalog.Builtin())
	if _, err := r.Render(f, plan.Observed{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Render(f, plan.Observed{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRender1000 renders a thousand members from nothing.
func BenchmarkRender1000(b *testing.B) {
	f := fleetOf(b, 1000, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := renderer.Render(f, catalog.Builtin()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRender1000In10Groups renders a thousand members from nothing, in ten
// groups of settings that run the charts of every component anew.
func BenchmarkRender1000In10Groups(b *testing.B) {
	f := fleetOf(b, 1000, 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := renderer.Render(f, catalog.Builtin()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRender1000Patched renders a thousand members from nothing, with two
// patches that are for objects of which each member has its own.
func BenchmarkRender1000Patched(b *testing.B) {
	files := fstest.MapFS{"network.yaml": {Data: []byte(networkFile + networkPatches)}}
	for i := range 1000 {
		name := fmt.Sprintf("member-%04d", i)
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, "1.30.4"))}
	}
	f := load(b, files)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := renderer.Render(f, catalog.Builtin()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFiles1000 lays out a thousand rendered members as files.
func BenchmarkFiles1000(b *testing.B) {
	bundles := render(b, fleetOf(b, 1000, 1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bundle.Files(bundles); err != nil {
			b.Fatal(err)
		}
	}
}
