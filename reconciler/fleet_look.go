package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
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
	// head of the branch; empty when it could not be read.
	head string
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
}

// look fetches the branch and renders its head when it is new and may follow the
// accepted commit; otherwise, when nothing is held yet (after a start), the
// accepted commit itself. held is what the store has, nil for nothing.
func (l looker) look(ctx context.Context, f *v1alpha1.Fleet, held *accepted, now published) look {
	repository, failure := l.open(ctx, f)
	if failure != nil {
		return look{failure: failure}
	}
	before := source.CommitOf(f.Status.AcceptedRevision)
	head, err := repository.Fetch(ctx)
	if err != nil {
		found := look{failure: sourceFailure(err)}
		l.fallBack(ctx, repository, &found, f, held, now)
		return found
	}
	found := look{head: head}
	seen := observed(now)
	if held != nil && head == held.commit && held.isOf(f) && sameKubernetes(held.observed, seen) {
		return found
	}
	if found.failure = mayFollow(repository, f, before, head); found.failure == nil {
		found.accepted, found.problems, found.failure = l.render(ctx, repository, f, head, seen)
	}
	if found.failure == nil {
		found.failure = guard(now, found.accepted)
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
	before := source.CommitOf(f.Status.AcceptedRevision)
	if before == "" || held != nil {
		return
	}
	if last, _, failure := l.render(ctx, repository, f, before, observed(now)); failure == nil {
		found.accepted = last
	}
}

func (l looker) open(ctx context.Context, f *v1alpha1.Fleet) (*source.Repository, *status.Failure) {
	options := source.Options{URL: f.Spec.URL, Branch: f.Spec.Branch, Path: f.Spec.Path}
	if options.Branch == "" {
		options.Branch = "main"
	}
	if ref := f.Spec.SecretRef; ref != nil {
		var secret corev1.Secret
		err := l.hub.Get(ctx, types.NamespacedName{Namespace: f.Namespace, Name: ref.Name}, &secret)
		if apierrors.IsNotFound(err) {
			return nil, &status.Failure{Reason: status.ReasonSecretNotFound, Message: fmt.Sprintf("spec.secretRef names the Secret %q, which is not in namespace %q", ref.Name, f.Namespace)}
		}
		if err != nil {
			return nil, hubFailure("read Secret "+ref.Name, err)
		}
		options.Credentials = source.Credentials{
			Username:    string(secret.Data["username"]),
			Password:    string(secret.Data["password"]),
			BearerToken: string(secret.Data["bearerToken"]),
			CA:          secret.Data["ca.crt"],
		}
	}
	repository, err := source.Open(l.cache, options)
	if err != nil {
		return nil, sourceFailure(err)
	}
	return repository, nil
}

// mayFollow refuses a head that does not descend from the accepted commit: a
// force push could bring back an older state that was once reviewed and signed.
func mayFollow(repository *source.Repository, f *v1alpha1.Fleet, before, head string) *status.Failure {
	if before == "" || f.Annotations[AllowNonFastForward] == head {
		return nil
	}
	descends, err := repository.Descends(head, before)
	if err != nil {
		return sourceFailure(err)
	}
	if descends {
		return nil
	}
	return &status.Failure{
		Reason:  status.ReasonNonFastForward,
		Stalled: true,
		Message: fmt.Sprintf("head %s of branch %q does not descend from the accepted commit %s: restore the branch, or annotate the Fleet with %s=%s",
			status.Short(head), f.Spec.Branch, status.Short(before), AllowNonFastForward, head),
	}
}

// render loads and renders one commit whole, or says why not.
func (l looker) render(ctx context.Context, repository *source.Repository, f *v1alpha1.Fleet, commit string, seen plan.Observed) (*accepted, fleet.Problems, *status.Failure) {
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
		commit: commit, branch: snapshot.Branch, path: f.Spec.Path,
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
	return &status.Failure{Reason: string(reason), Message: err.Error(), Stalled: reason != source.ReasonUnreachable}
}

func hubFailure(doing string, err error) *status.Failure {
	return &status.Failure{Reason: status.ReasonHubFailed, Message: doing + ": " + err.Error()}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
