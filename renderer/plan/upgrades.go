package plan

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// minorSkipped refuses an upgrade in place that Istio does not support.
func minorSkipped(d Decision, seen Seen, report reporter) {
	if seen.Release != "" && catalog.Compare(seen.Release, d.Release.UpgradeFrom) < 0 {
		report(d.where, fmt.Sprintf("member %q moves from %q to %q, which skips a minor", d.Member.Name, seen.Release, d.Release.Version),
			fmt.Sprintf("go by %s first; a member that cannot move now keeps its own spec.upgrade", d.Release.UpgradeFrom))
	}
}

// goesBack tells whether a member moves to an older minor, and whether by more
// than one.
func goesBack(d Decision, seen Seen) (back, far bool) {
	if seen.Release == "" || catalog.Minor(seen.Release) == d.Release.Minor || catalog.Compare(seen.Release, d.Release.Version) < 0 {
		return false, false
	}
	return true, catalog.Previous(catalog.Minor(seen.Release)) != d.Release.Minor
}

func rollbackTooFar(d Decision, seen Seen, report reporter) {
	if _, far := goesBack(d, seen); far {
		report(d.where, fmt.Sprintf("member %q goes back from %q to %q, more than one minor", d.Member.Name, seen.Release, d.Release.Version),
			fmt.Sprintf("go back to %s at most", catalog.Previous(catalog.Minor(seen.Release))))
	}
}

// rollback warns: what was written with the newer release's CRDs loses the
// fields that the older ones lack.
func rollback(d Decision, seen Seen, report reporter) {
	if back, far := goesBack(d, seen); back && !far {
		report(d.where, fmt.Sprintf("member %q goes back from %q to %q", d.Member.Name, seen.Release, d.Release.Version),
			"only to a release that ran there before; settings that came with the newer one are lost")
	}
}

// kubernetesTooOld: charts and CRDs use what older API servers do not have. A
// member that runs the release already is left alone.
func kubernetesTooOld(d Decision, seen Seen, report reporter) {
	if seen.Kubernetes == "" || seen.Release == d.Release.Version || catalog.Compare(catalog.Minor(seen.Kubernetes), d.Release.Kubernetes.Min) >= 0 {
		return
	}
	report(d.where, fmt.Sprintf("release %q needs Kubernetes %s, and member %q has %s", d.Release.Version, d.Release.Kubernetes, d.Member.Name, seen.Kubernetes),
		"upgrade the cluster first, or name an older release")
}

func kubernetesTooNew(d Decision, seen Seen, report reporter) {
	if seen.Kubernetes == "" || catalog.Compare(catalog.Minor(seen.Kubernetes), d.Release.Kubernetes.Max) <= 0 {
		return
	}
	report(d.where, fmt.Sprintf("release %q is tested with Kubernetes %s, and member %q has %s", d.Release.Version, d.Release.Kubernetes, d.Member.Name, seen.Kubernetes),
		"move to a newer release")
}

// membersTooApart warns when members of one network are more than one minor
// apart: they share a wire protocol, and Istio tests neighbours only.
func membersTooApart(g group, report reporter) {
	if len(g.members) == 0 {
		return
	}
	oldest, newest := g.members[0], g.members[0]
	for _, d := range g.members[1:] {
		if catalog.Compare(d.Release.Version, oldest.Release.Version) < 0 {
			oldest = d
		}
		if catalog.Compare(d.Release.Version, newest.Release.Version) > 0 {
			newest = d
		}
	}
	if catalog.Compare(oldest.Release.Version, newest.Release.UpgradeFrom) >= 0 {
		return
	}
	report(oldest.where, fmt.Sprintf("member %q runs %q and member %q of the same network runs %q: more than one minor apart",
		oldest.Member.Name, oldest.Release.Version, newest.Member.Name, newest.Release.Version),
		fmt.Sprintf("bring %q to %s first", oldest.Member.Name, newest.Release.UpgradeFrom))
}
