package renderer

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/renderer/policy"
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

// Renderer renders fleets and keeps what their members share, and the bundles of
// the last fleet: a member that has not changed since is not rendered again. Keep
// one for each fleet. It may be used by several goroutines at once, which wait for
// each other.
type Renderer struct {
	catalog *catalog.Catalog
	engine  *ambient.Engine
	// definitions by which manifests are checked.
	definitions definitions

	mu sync.Mutex
	// kept members of the last fleet that rendered, by name.
	kept map[string]kept
	// made counts the members that were rendered and not kept, for tests.
	made atomic.Int64
}

// New returns a renderer of the catalog's releases.
func New(c *catalog.Catalog) *Renderer {
	return &Renderer{catalog: c, engine: ambient.New()}
}

// Render renders every member of the fleet. Observed is what members are seen
// to run now, so that one without a version keeps it; the zero value is fine.
func (r *Renderer) Render(f *fleet.Fleet, observed plan.Observed) (*Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	planned := plan.Make(f, r.catalog, observed)
	result := &Result{Decisions: planned.Decisions, Problems: append(planned.Problems, policy.Problems(f)...)}
	result.Problems.Sort()
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
	members, err := r.members(planned.Decisions, manifests, patches)
	if err != nil {
		return nil, err
	}
	result.Problems = slices.Concat(result.Problems, manifests.found(), patches.found(), checkMeshes(f, bundlesOf(members)))
	result.Problems.Sort()
	if len(result.Problems.Errors()) > 0 {
		return result, r.keepLast()
	}
	r.keep(members)
	result.Bundles = bundlesOf(members)
	return result, nil
}

// members renders the members, or takes those that have not changed, in the order
// of the decisions.
func (r *Renderer) members(decisions []plan.Decision, manifests *resources, patches *patcher) ([]kept, error) {
	networks, err := encodeNetworks(decisions)
	if err != nil {
		return nil, err
	}
	members := make([]kept, len(decisions))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, d := range decisions {
		group.Go(func() error {
			inputs, err := inputsOf(request(d), networks[d.Network], manifests.of(d))
			if err != nil {
				return err
			}
			if last, ok := r.kept[d.Member.Name]; ok && last.inputs == inputs {
				members[i] = last
				patches.see(d, last.matched)
				return r.engine.Keep(last.request)
			}
			members[i], err = r.member(d, manifests, patches)
			members[i].inputs = inputs
			return err
		})
	}
	return members, group.Wait()
}

// member renders one member.
func (r *Renderer) member(d plan.Decision, manifests *resources, patches *patcher) (kept, error) {
	r.made.Add(1)
	made := kept{request: request(d)}
	target := bundle.Target{
		Member: d.Member.Name, Network: d.Network.Name,
		SystemNamespace: d.Network.Spec.DataPlane.Namespace,
		Release:         d.Release.Version,
	}
	if api, ours := d.GatewayAPI(); ours {
		files, _ := r.catalog.GatewayAPI(api) // the plan has seen that they are there
		made.request.GatewayAPI = &ambient.GatewayAPI{GatewayAPI: api, Files: files}
		target.GatewayAPI = api.Version + "-" + api.Channel
	}
	drafts, values, err := r.engine.Drafts(made.request)
	if err != nil {
		return made, fmt.Errorf("render member %q: %w", d.Member.Name, err)
	}
	var objects []bundle.Object
	if objects, made.matched, err = patches.apply(d, manifests.add(d, drafts), values); err != nil {
		return made, fmt.Errorf("patch member %q: %w", d.Member.Name, err)
	}
	made.bundle, err = bundle.New(target, objects)
	return made, err
}

// request is what a decision asks of the engine.
func request(d plan.Decision) ambient.Request {
	r := ambient.Request{Network: d.Network, Member: d.Member, Release: d.Release, Gateway: d.Gateway}
	for _, hosted := range d.Hosted {
		r.Hosted = append(r.Hosted, request(hosted))
	}
	return r
}
