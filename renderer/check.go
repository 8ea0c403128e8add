package renderer

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/renderer/validation"
)

// The reasons of what a member would say of a manifest.
const (
	// ReasonManifestRefused: the API server or istiod would not take it.
	ReasonManifestRefused = "ManifestRefused"
	// ReasonManifestDiscouraged: istiod would take it and warn.
	ReasonManifestDiscouraged = "ManifestDiscouraged"
)

// definitions keeps the kinds that members have, compiled, from one rendering to
// the next.
type definitions struct {
	mu   sync.Mutex
	made map[kinds]*validation.Definitions
}

// kinds names the CRDs of a member as far as they are known.
type kinds struct {
	release string
	// gatewayAPI is empty where the CRDs are the member's own.
	gatewayAPI catalog.GatewayAPI
}

func (k kinds) String() string {
	if k.gatewayAPI == (catalog.GatewayAPI{}) {
		return "release " + k.release
	}
	return "release " + k.release + " with Gateway API " + k.gatewayAPI.Version
}

func (r *Renderer) kindsOf(d plan.Decision) kinds {
	k := kinds{release: d.Release.Version}
	api, ours := d.GatewayAPI()
	if _, there := r.catalog.GatewayAPI(api); ours && there {
		k.gatewayAPI = api
	}
	return k
}

// definitionsOf returns the kinds that a member has.
func (r *Renderer) definitionsOf(d plan.Decision) (*validation.Definitions, error) {
	k := r.kindsOf(d)
	r.definitions.mu.Lock()
	defer r.definitions.mu.Unlock()
	if found := r.definitions.made[k]; found != nil {
		return found, nil
	}
	crds, err := r.engine.Definitions(d.Release)
	if err != nil {
		return nil, err
	}
	if files, there := r.catalog.GatewayAPI(k.gatewayAPI); there {
		delivered, err := readObjects(files)
		if err != nil {
			return nil, fmt.Errorf("read the CRDs of Gateway API %s: %w", k.gatewayAPI, err)
		}
		crds = slices.Concat(crds, delivered)
	}
	made := validation.NewDefinitions(crds)
	if r.definitions.made == nil {
		r.definitions.made = map[kinds]*validation.Definitions{}
	}
	r.definitions.made[k] = made
	return made, nil
}

// readObjects returns the objects of files that have one each.
func readObjects(files fs.FS) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		content, err := yaml.YAMLToJSON(text)
		if err != nil {
			return err
		}
		object := &unstructured.Unstructured{}
		out = append(out, object)
		return object.UnmarshalJSON(content)
	})
	return out, err
}

// check validates every manifest by the kinds of each member that receives it.
func (r *Renderer) check(manifests *resources, decisions []plan.Decision) error {
	for network, all := range manifests.manifests {
		if len(all) == 0 {
			continue
		}
		groups := r.byKinds(decisions, network)
		for _, own := range all {
			if err := r.checkOne(manifests, own.manifest, groups); err != nil {
				return fmt.Errorf("check %s: %w", describe(own.manifest.Object), err)
			}
		}
	}
	return nil
}

// group is members that have the same kinds.
type group struct {
	kinds   kinds
	members []plan.Decision
}

// byKinds returns the members of a network by their kinds, sorted by release.
func (r *Renderer) byKinds(decisions []plan.Decision, network string) []*group {
	byKinds := map[kinds]*group{}
	var out []*group
	for _, d := range decisions {
		if d.Network.Name != network {
			continue
		}
		k := r.kindsOf(d)
		if byKinds[k] == nil {
			byKinds[k] = &group{kinds: k}
			out = append(out, byKinds[k])
		}
		byKinds[k].members = append(byKinds[k].members, d)
	}
	slices.SortStableFunc(out, func(a, b *group) int { return catalog.Compare(a.kinds.release, b.kinds.release) })
	return out
}

// checkOne validates a manifest by each group that has a member which receives it.
func (r *Renderer) checkOne(manifests *resources, manifest *fleet.Manifest, groups []*group) error {
	found := map[validation.Finding][]string{}
	receiving := 0
	for _, g := range groups {
		if !slices.ContainsFunc(g.members, func(d plan.Decision) bool { return manifest.For(d.Member) }) {
			continue
		}
		receiving++
		definitions, err := r.definitionsOf(g.members[0])
		if err != nil {
			return err
		}
		findings, err := definitions.Check(manifest.Object)
		if err != nil {
			return fmt.Errorf("by %s: %w", g.kinds, err)
		}
		for _, finding := range findings {
			found[finding] = append(found[finding], g.kinds.String())
		}
	}
	for finding, by := range found {
		manifests.report(manifest, finding.Path, refused(finding, by, receiving))
	}
	return nil
}

// refused returns a finding as a problem, which says by whose kinds unless it is
// by all.
func refused(finding validation.Finding, by []string, of int) fleet.Problem {
	p := fleet.Problem{Severity: fleet.SeverityError, Reason: ReasonManifestRefused, Message: finding.Message, Hint: finding.Hint}
	if finding.Warning {
		p.Severity, p.Reason = fleet.SeverityWarning, ReasonManifestDiscouraged
	}
	if len(by) < of {
		p.Message += ", in " + strings.Join(by, ", ")
	}
	return p
}
