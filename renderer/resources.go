package renderer

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// ReasonManifestClash is the reason of a manifest that isthmus renders itself.
const ReasonManifestClash = "ManifestClash"

// resources gives members the manifests that their networks deliver, during one
// rendering. It may be used by several goroutines at once.
type resources struct {
	// manifests by network, each with the object made from it.
	manifests map[string][]delivered

	mu       sync.Mutex
	problems map[fleet.Problem]bool
}

type delivered struct {
	manifest *fleet.Manifest
	object   bundle.Object
	id       bundle.Identity
}

// newResources makes the objects of the planned members' networks, once for all
// of them.
func newResources(f *fleet.Fleet, decisions []plan.Decision) (*resources, error) {
	r := &resources{manifests: map[string][]delivered{}, problems: map[fleet.Problem]bool{}}
	for _, d := range decisions {
		name := d.Network.Name
		if _, done := r.manifests[name]; done {
			continue
		}
		r.manifests[name] = nil
		for _, manifest := range f.Manifests(name) {
			object, err := ambient.Adopt(name, manifest.Object)
			if err != nil {
				return nil, fmt.Errorf("deliver manifests of network %q: %w", name, err)
			}
			r.manifests[name] = append(r.manifests[name], delivered{manifest, object, bundle.IdentityOf(object.Object)})
		}
	}
	return r, nil
}

// add returns the objects with what the member receives beside them. What has the
// name of one of them is reported and left out.
func (r *resources) add(d plan.Decision, drafts []ambient.Draft) []ambient.Draft {
	all := r.manifests[d.Network.Name]
	if len(all) == 0 {
		return drafts
	}
	rendered := make(map[bundle.Identity]bool, len(drafts))
	for _, draft := range drafts {
		rendered[bundle.IdentityOf(draft.Object.Object)] = true
	}
	out := slices.Clone(drafts)
	for _, own := range all {
		switch {
		case !own.manifest.For(d.Member):
		case rendered[own.id]:
			r.report(own.manifest, "metadata.name", fleet.Problem{
				Severity: fleet.SeverityError, Reason: ReasonManifestClash,
				Message: fmt.Sprintf("isthmus renders %s itself", describe(own.object.Object)),
				Hint:    "choose another name, or change that object with spec.patches",
			})
		default:
			out = append(out, ambient.Draft{Object: own.object})
		}
	}
	return out
}

// of returns the manifests that are for the member.
func (r *resources) of(d plan.Decision) []bundle.Object {
	var out []bundle.Object
	for _, own := range r.manifests[d.Network.Name] {
		if own.manifest.For(d.Member) {
			out = append(out, own.object)
		}
	}
	return out
}

// report tells a problem once, however many members have it.
func (r *resources) report(manifest *fleet.Manifest, path string, p fleet.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems[manifest.ProblemAt(path, p)] = true
}

// found returns, sorted, what was wrong with the manifests.
func (r *resources) found() fleet.Problems {
	problems := fleet.Problems(slices.Collect(maps.Keys(r.problems)))
	problems.Sort()
	return problems
}
