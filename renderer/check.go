package renderer

import (
	"fmt"
	"slices"
	"strings"
	"sync"

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

// definitions keeps the kinds of each release, compiled, from one rendering to
// the next.
type definitions struct {
	mu        sync.Mutex
	byRelease map[string]*validation.Definitions
}

// definitionsOf returns the kinds that a member of the release has.
func (r *Renderer) definitionsOf(release catalog.Release) (*validation.Definitions, error) {
	r.definitions.mu.Lock()
	defer r.definitions.mu.Unlock()
	if found := r.definitions.byRelease[release.Version]; found != nil {
		return found, nil
	}
	crds, err := r.engine.Definitions(release)
	if err != nil {
		return nil, err
	}
	made := validation.NewDefinitions(crds)
	if r.definitions.byRelease == nil {
		r.definitions.byRelease = map[string]*validation.Definitions{}
	}
	r.definitions.byRelease[release.Version] = made
	return made, nil
}

// check validates every manifest by the release of each member that receives it.
func (r *Renderer) check(manifests *resources, decisions []plan.Decision) error {
	for network, all := range manifests.manifests {
		for _, own := range all {
			releases := receiving(decisions, network, own.manifest)
			found := map[validation.Finding][]string{}
			for _, release := range releases {
				kinds, err := r.definitionsOf(release)
				if err != nil {
					return fmt.Errorf("check manifests of network %q: %w", network, err)
				}
				findings, err := kinds.Check(own.manifest.Object)
				if err != nil {
					return fmt.Errorf("check %s by release %s: %w", describe(own.manifest.Object), release.Version, err)
				}
				for _, finding := range findings {
					found[finding] = append(found[finding], release.Version)
				}
			}
			for finding, by := range found {
				manifests.report(own.manifest, finding.Path, refused(finding, by, len(releases)))
			}
		}
	}
	return nil
}

// receiving returns the releases of the members that receive a manifest, sorted.
func receiving(decisions []plan.Decision, network string, manifest *fleet.Manifest) []catalog.Release {
	byVersion := map[string]bool{}
	var out []catalog.Release
	for _, d := range decisions {
		if d.Network.Name == network && !byVersion[d.Release.Version] && manifest.For(d.Member) {
			byVersion[d.Release.Version] = true
			out = append(out, d.Release)
		}
	}
	slices.SortFunc(out, func(a, b catalog.Release) int { return catalog.Compare(a.Version, b.Version) })
	return out
}

// refused returns a finding as a problem, which names the releases unless it is
// all of them.
func refused(finding validation.Finding, by []string, of int) fleet.Problem {
	p := fleet.Problem{Severity: fleet.SeverityError, Reason: ReasonManifestRefused, Message: finding.Message, Hint: finding.Hint}
	if finding.Warning {
		p.Severity, p.Reason = fleet.SeverityWarning, ReasonManifestDiscouraged
	}
	if len(by) < of {
		p.Message += ", in release " + strings.Join(by, ", ")
	}
	return p
}
