package renderer

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// Result is what a fleet renders to.
type Result struct {
	// Bundles sorted by member name; empty when Problems has an error.
	Bundles []bundle.Bundle
	// Decisions sorted by member name: which release each member runs and why.
	Decisions []plan.Decision
	// Problems that only show once the catalog and the members are known. Those
	// of the fleet itself are from loading it.
	Problems fleet.Problems
}

// Render renders every member of the fleet, as new ones: nothing is observed of
// what they run. The error is for charts that do not render, which is a fault of
// the catalog and not of the fleet.
func Render(f *fleet.Fleet, c *catalog.Catalog) (*Result, error) {
	return New(c).Render(f, plan.Observed{})
}

// Renderer renders fleets and keeps what their members share. It may be used by
// several goroutines at once.
type Renderer struct {
	catalog *catalog.Catalog
	engine  *ambient.Engine
	// definitions by which manifests are checked.
	definitions definitions
}

// New returns a renderer of the catalog's releases.
func New(c *catalog.Catalog) *Renderer {
	return &Renderer{catalog: c, engine: ambient.New()}
}

// Render renders every member of the fleet. Observed is what members are seen
// to run now, so that one without a version keeps it; the zero value is fine.
func (r *Renderer) Render(f *fleet.Fleet, observed plan.Observed) (*Result, error) {
	planned := plan.Make(f, r.catalog, observed)
	result := &Result{Decisions: planned.Decisions, Problems: planned.Problems}
	if len(result.Problems.Errors()) > 0 {
		return result, nil
	}
	patches := newPatcher(f, planned.Decisions)
	manifests, err := newResources(f, planned.Decisions)
	if err != nil {
		return nil, err
	}
	if err := r.check(manifests, planned.Decisions); err != nil {
		return nil, err
	}
	added, err := checkMeshConfigs(f, planned.Decisions)
	if err != nil {
		return nil, err
	}
	if len(added) > 0 { // charts may not even render with it
		result.Problems = slices.Concat(result.Problems, manifests.found(), added)
		result.Problems.Sort()
		return result, nil
	}
	bundles := make([]bundle.Bundle, len(planned.Decisions))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, decision := range planned.Decisions {
		group.Go(func() error {
			var err error
			bundles[i], err = r.member(decision, manifests, patches)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	result.Problems = slices.Concat(result.Problems, manifests.found(), patches.found(), checkMeshes(f, bundles))
	result.Problems.Sort()
	if len(result.Problems.Errors()) == 0 {
		result.Bundles = bundles
	}
	return result, nil
}

// member renders one member.
func (r *Renderer) member(d plan.Decision, manifests *resources, patches *patcher) (bundle.Bundle, error) {
	drafts, values, err := r.engine.Drafts(request(d))
	if err != nil {
		return bundle.Bundle{}, fmt.Errorf("render member %q: %w", d.Member.Name, err)
	}
	objects, err := patches.apply(d, manifests.add(d, drafts), values)
	if err != nil {
		return bundle.Bundle{}, fmt.Errorf("patch member %q: %w", d.Member.Name, err)
	}
	return bundle.New(bundle.Target{
		Member: d.Member.Name, Network: d.Network.Name,
		SystemNamespace: d.Network.Spec.DataPlane.Namespace,
		Release:         d.Release.Version,
	}, objects)
}

// request is what a decision asks of the engine.
func request(d plan.Decision) ambient.Request {
	r := ambient.Request{Network: d.Network, Member: d.Member, Release: d.Release, Gateway: d.Gateway}
	for _, hosted := range d.Hosted {
		r.Hosted = append(r.Hosted, request(hosted))
	}
	return r
}
