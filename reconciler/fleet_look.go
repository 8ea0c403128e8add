package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// AllowNonFastForward is the annotation by which a person allows one head that
// does not descend from the accepted commit: its value is that head's commit.
const AllowNonFastForward = "isthmus.dev/allow-non-fast-forward"

// look is what a look at the repository found.
type look struct {
	// head is what the reference leads to; zero when it could not be read.
	head source.Head
	// verified is who signed the head; nil when that was not looked at.
	verified *status.Verified
	// accepted is the commit to hold members to, freshly rendered; nil when that
	// has not changed.
	accepted *accepted
	// problems of the head, warnings included.
	problems fleet.Problems
	// failure of the head; nil when it is accepted.
	failure *status.Failure
}

// looker reads fleets from Git and renders them.
type looker struct {
	hub      client.Reader
	renderer *renderers
	cache    string
	now      func() time.Time
}

// look fetches what the fleet follows and renders its head when that is new,
// signed as asked for and may follow the accepted commit; otherwise, when nothing
// is held yet (after a start), the accepted commit itself. held is what the store
// has, nil for nothing.
func (l looker) look(ctx context.Context, f *v1alpha1.Fleet, held *accepted, now published) look {
	repository, failure := l.open(ctx, f)
	if failure != nil {
		return look{failure: failure}
	}
	head, err := repository.Fetch(ctx, source.CommitOf(f.Status.AcceptedRevision))
	countFetch(err)
	if err != nil {
		found := look{failure: sourceFailure(err)}
		l.fallBack(ctx, repository, &found, f, held, now)
		return found
	}
	found := look{head: head}
	found.verified, found.failure = l.verify(ctx, f, repository, head)
	seen := observed(now)
	if found.failure == nil && held != nil && head.Commit == held.commit && head.Name == held.branch &&
		held.isOf(f) && sameKubernetes(held.observed, seen) {
		return found
	}
	if found.failure == nil {
		found.failure = mayFollow(f, head)
	}
	if found.failure == nil {
		found.accepted, found.problems, found.failure = l.render(ctx, repository, f, head.Revision(), seen)
	}
	if found.failure == nil {
		found.failure = guard(l.previous(ctx, repository, f, held, now), now, found.accepted)
	}
	if found.failure != nil {
		found.accepted = nil
		l.fallBack(ctx, repository, &found, f, held, now)
	}
	return found
}

// fallBack renders the last good commit when the head cannot be used and
// nothing is held: a start must not leave members unwatched because the head is
// bad or the server is away.
func (l looker) fallBack(ctx context.Context, repository *source.Repository, found *look, f *v1alpha1.Fleet, held *accepted, now published) {
	before := f.Status.AcceptedRevision
	if before == "" || held != nil {
		return
	}
	if last, _, failure := l.render(ctx, repository, f, before, observed(now)); failure == nil {
		found.accepted = last
	}
}

// previous is the accepted commit: what is held or, after a start, rendered anew.
// It is nil where there is none and where it does not render any more.
func (l looker) previous(ctx context.Context, repository *source.Repository, f *v1alpha1.Fleet, held *accepted, now published) *accepted {
	before := f.Status.AcceptedRevision
	if held != nil || before == "" {
		return held
	}
	last, _, _ := l.render(ctx, repository, f, before, observed(now))
	return last
}

// mayFollow refuses a head that does not descend from the accepted commit: a
// force push, a tag that moved or went could bring back an older state that was
// once reviewed and signed.
func mayFollow(f *v1alpha1.Fleet, head source.Head) *status.Failure {
	before := source.CommitOf(f.Status.AcceptedRevision)
	if head.Ancestry == source.Descends || f.Annotations[AllowNonFastForward] == head.Commit {
		return nil
	}
	why := fmt.Sprintf("does not descend from the accepted commit %s", status.Short(before))
	if head.Ancestry == source.TooFar {
		why = fmt.Sprintf("is not known to descend from the accepted commit %s, which is not among its last %d", status.Short(before), source.MaxHistory)
	}
	return &status.Failure{
		Reason:  status.ReasonNonFastForward,
		Stalled: true,
		Message: fmt.Sprintf("commit %s of %s %s: restore it, or annotate the Fleet with %s=%s",
			status.Short(head.Commit), head.Words(), why, AllowNonFastForward, head.Commit),
	}
}

// render loads and renders one commit whole, or says why not.
func (l looker) render(ctx context.Context, repository *source.Repository, f *v1alpha1.Fleet, revision string, seen plan.Observed) (*accepted, fleet.Problems, *status.Failure) {
	commit := source.CommitOf(revision)
	snapshot, err := repository.Snapshot(commit)
	if err != nil {
		return nil, nil, sourceFailure(err)
	}
	loaded, problems := fleet.Load(snapshot.FS)
	if failure := invalid(problems); failure != nil {
		return nil, problems, failure
	}
	if failure := notDelivered(loaded, f.Spec.Member); failure != nil {
		return nil, problems, failure
	}
	of, unfit, failure := l.renderer.of(ctx, loaded, seen)
	problems = append(problems, unfit...)
	if failure != nil {
		return nil, problems, failure
	}
	result, err := of.Render(loaded, seen)
	if err != nil {
		return nil, problems, &status.Failure{Reason: status.ReasonInvalidFleet, Stalled: true, Message: "render: " + err.Error()}
	}
	problems = append(problems, result.Problems...)
	if failure := invalid(problems); failure != nil {
		return nil, problems, failure
	}
	bundles := map[string]bundle.Bundle{}
	for _, b := range result.Bundles {
		bundles[b.Member] = b
	}
	a := &accepted{
		commit: commit, branch: source.NameOf(revision), path: f.Spec.Path,
		networks: loaded.Networks, members: loaded.Members, bundles: bundles, observed: seen,
	}
	a.keepOnly(f.Spec.Member)
	return a, problems, nil
}

// notDelivered refuses what renders and cannot be delivered whole: an istiod in
// another member waits for Secrets that nobody makes yet.
func notDelivered(f *fleet.Fleet, only string) *status.Failure {
	for _, member := range f.Members {
		if only != "" && member.Name != only {
			continue
		}
		if member.Spec.ControlPlane.Placement == v1alpha1.PlacementHosted {
			return &status.Failure{Reason: status.ReasonNotSupported, Stalled: true,
				Message: fmt.Sprintf("member %q has its control plane in another member, which is rendered and cannot be delivered yet: use placement Member", member.Name)}
		}
	}
	return nil
}

// observed tells the plan what members run, so that an omitted version keeps it.
func observed(now published) plan.Observed {
	out := plan.Observed{Members: map[string]plan.Seen{}, TrustDomains: map[string]string{}}
	networks := map[string]string{}
	for _, network := range now.networks {
		networks[network.Name] = network.Spec.Trust.Domain
	}
	for _, member := range now.members {
		out.Members[member.Name] = plan.Seen{Release: member.Status.Release, Kubernetes: member.Status.KubernetesVersion}
		if member.Status.Release != "" {
			out.TrustDomains[member.Spec.ApplicationNetwork] = networks[member.Spec.ApplicationNetwork]
		}
	}
	return out
}

// sameKubernetes tells whether members run the versions of Kubernetes that a
// commit was planned for: channels lead elsewhere for others. A member that is
// new since then changes nothing.
func sameKubernetes(planned, now plan.Observed) bool {
	for name, seen := range planned.Members {
		if later, ok := now.Members[name]; ok && later.Kubernetes != seen.Kubernetes {
			return false
		}
	}
	return true
}

// invalid returns why problems stop a commit, or nil when none does.
func invalid(problems fleet.Problems) *status.Failure {
	errs := problems.Errors()
	if len(errs) == 0 {
		return nil
	}
	message := errs[0].String()
	if len(errs) > 1 {
		message = fmt.Sprintf("%d problems, the first: %s", len(errs), message)
	}
	return &status.Failure{Reason: status.ReasonInvalidFleet, Message: message, Stalled: true}
}

// sourceFailure is the status of a repository that cannot be read. Servers come
// back; everything else waits for a person.
func sourceFailure(err error) *status.Failure {
	reason := source.ReasonOf(err)
	return &status.Failure{Reason: string(reason), Message: source.Explain(err), Stalled: !reason.Transient()}
}

func hubFailure(doing string, err error) *status.Failure {
	return &status.Failure{Reason: status.ReasonHubFailed, Message: doing + ": " + err.Error()}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
