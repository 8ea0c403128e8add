package plan

import (
	"cmp"
	"embed"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Needs returns what has to be fetched, and added to the catalog, before the
// fleet can be planned and rendered: the charts of every release that a network
// declares, run or not, so that a wrong digest shows before an upgrade; and the
// Gateway API's CRDs that members are to receive. It is empty for a fleet that
// needs nothing beyond the catalog. What is wrong with the fleet is left to
// [Make] to tell.
func Needs(f *fleet.Fleet, c *catalog.Catalog, observed Observed) catalog.Needs {
	var needs catalog.Needs
	needs.Releases = declaredReleases(f, c)
	fetched := slices.Clone(needs.Releases)
	for i := range fetched {
		fetched[i].Charts = embed.FS{} // what is in them decides nothing
	}
	planned := Make(f, c.With(catalog.Additions{Releases: fetched}), observed)
	for _, d := range planned.Decisions {
		if api, ok := d.GatewayAPI(); ok && !slices.Contains(needs.GatewayAPIs, api) {
			needs.GatewayAPIs = append(needs.GatewayAPIs, api)
		}
	}
	slices.SortFunc(needs.GatewayAPIs, func(a, b catalog.GatewayAPI) int {
		return cmp.Or(catalog.Compare(a.Version, b.Version), cmp.Compare(a.Channel, b.Channel))
	})
	return needs
}

// declaredReleases returns each version that a network declares and the catalog
// lacks, as the first network has it.
func declaredReleases(f *fleet.Fleet, c *catalog.Catalog) []catalog.Release {
	var out []catalog.Release
	for _, network := range f.Networks {
		for _, declared := range network.Spec.Releases {
			_, known := c.Release(declared.Version)
			twice := slices.ContainsFunc(out, func(r catalog.Release) bool { return r.Version == declared.Version })
			if known || twice {
				continue
			}
			release, _ := c.Derive(declared.Version, sourceOf(declared))
			out = append(out, release)
		}
	}
	return out
}

func sourceOf(r v1alpha1.Release) catalog.Source {
	return catalog.Source{
		Repository: r.Charts.Repository,
		Digests: catalog.Digests{
			Base: string(r.Charts.Digests.Base), Istiod: string(r.Charts.Digests.Istiod),
			CNI: string(r.Charts.Digests.CNI), Ztunnel: string(r.Charts.Digests.Ztunnel),
		},
	}
}

// VisibleTo returns the catalog without the releases that only other networks
// declare: what one network declares must not upgrade another.
func VisibleTo(network *v1alpha1.ApplicationNetwork, c *catalog.Catalog) *catalog.Catalog {
	declared := map[string]catalog.Source{}
	for _, r := range network.Spec.Releases {
		declared[r.Version] = sourceOf(r)
	}
	return c.Seen(declared)
}

// eachRelease checks one release after another that a network declares.
func eachRelease(check func(g group, r v1alpha1.Release) (message, hint string)) func(group, reporter) {
	return func(g group, report reporter) {
		for i, declared := range g.network.Spec.Releases {
			if message, hint := check(g, declared); message != "" {
				report(g.ofNetwork(fmt.Sprintf("spec.releases[%d].version", i)), message, hint)
			}
		}
	}
}

// releaseConflict: bundles keep what a release's members share under its version.
func releaseConflict(g group, r v1alpha1.Release) (message, hint string) {
	for _, other := range g.fleet.Networks {
		for _, declared := range other.Spec.Releases {
			if declared.Version == r.Version && sourceOf(declared).Digests != sourceOf(r).Digests {
				return fmt.Sprintf("network %q declares release %q with other digests", other.Name, r.Version),
					"one version is one set of charts in the whole fleet"
			}
		}
	}
	return "", ""
}

// releaseBuiltIn is a warning and no error: the next isthmus may bring a release
// that a fleet declares.
func releaseBuiltIn(g group, r v1alpha1.Release) (message, hint string) {
	if known, ok := g.catalog.Release(r.Version); !ok || known.Source != nil {
		return "", ""
	}
	return fmt.Sprintf("release %q is part of this isthmus, whose own charts are taken", r.Version), "remove it here"
}

func minorUnknown(g group, r v1alpha1.Release) (message, hint string) {
	like, known := g.catalog.Derive(r.Version, sourceOf(r))
	if known {
		return "", ""
	}
	return fmt.Sprintf("nothing is known of %s, the minor of release %q: it is taken to support Kubernetes %s and Gateway API %s",
			like.Minor, r.Version, like.Kubernetes, like.GatewayAPI),
		"check what Istio says of the release, and its known faults; a newer isthmus may know it"
}

// notFetched is the problem of a release that was planned without its charts.
func notFetched(r catalog.Release) *fleet.Problem {
	return &fleet.Problem{
		Severity: fleet.SeverityError, Reason: ReasonReleaseNotFetched,
		Message: fmt.Sprintf("the charts of release %q have not been fetched from %q", r.Version, r.Source.Repository),
	}
}
