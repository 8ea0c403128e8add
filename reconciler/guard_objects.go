package reconciler

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

const (
	// defaultObjectsPercent is how much of what members have a commit may delete.
	defaultObjectsPercent = 20
	// fewObjects may go whatever their share: one of four objects is 25 % and no
	// mass deletion. A mesh is about fifty objects, so of a whole one a share of
	// 20 % is more than this.
	fewObjects = 5
	// namedDeletions are as many as a message names.
	namedDeletions = 5
)

// deletion is one object that a commit takes off one member.
type deletion struct {
	member    string
	subject   apply.Subject
	protected bool
}

func (d deletion) String() string { return d.subject.String() + " on " + d.member }

// guardObjects stops a commit that deletes more of the members' objects than it
// may, or an object of a kind that takes others along. The acknowledgement is a
// digest of what would be deleted: it allows that and nothing else, so one that
// is left in the file does no harm.
func guardObjects(previous *accepted, now published, next *accepted) *status.Failure {
	for _, network := range next.networks {
		percent := percentOf(network)
		if previous == nil {
			if failure := guardCounts(network, now.members, next); failure != nil {
				return failure
			}
			continue
		}
		all, had := deletions(network.Name, previous, next)
		why := excess(all, had, percent)
		token := acknowledgement(all)
		if why == "" || slices.Contains(network.Spec.DeletionGuard.Allow, token) {
			continue
		}
		return &status.Failure{Reason: status.ReasonDeletionGuard, Stalled: true, Message: fmt.Sprintf(
			"commit %s deletes %s of network %q: %s (%s): if that is meant, put %q into spec.deletionGuard.allow, which allows just these",
			status.Short(next.commit), objectCount(len(all)), network.Name, why, nameDeletions(all), token)}
	}
	return nil
}

func percentOf(network *v1alpha1.ApplicationNetwork) int {
	if p := network.Spec.DeletionGuard.ObjectsPercent; p != nil {
		return int(*p)
	}
	return defaultObjectsPercent
}

// deletions of a commit in one network, sorted, and how many objects each of its
// members had. A member that goes leaves by a plan of its own, and one that is
// new has nothing to lose. What is released when it leaves the set is not deleted.
func deletions(network string, previous, next *accepted) (all []deletion, had map[string]int) {
	had = map[string]int{}
	for _, name := range previous.memberNames() {
		before, after := previous.bundles[name], next.bundles[name]
		if before.Network != network || after.Network != network {
			continue
		}
		had[name] = len(before.Objects)
		if before.Digest != "" && before.Digest == after.Digest {
			continue
		}
		stays := map[apply.Subject]bool{}
		for _, o := range after.Objects {
			stays[identityOf(o.Object)] = true
		}
		for _, o := range before.Objects {
			if subject := identityOf(o.Object); !stays[subject] && !released(o.Object) {
				all = append(all, deletion{member: name, subject: subject, protected: protected(subject)})
			}
		}
	}
	slices.SortFunc(all, func(a, b deletion) int {
		// Protected ones first: they are what a person has to see.
		return cmp.Or(compareBool(b.protected, a.protected), cmp.Compare(a.member, b.member), cmp.Compare(a.subject.String(), b.subject.String()),
			cmp.Compare(a.subject.Group, b.subject.Group))
	})
	return all, had
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// identityOf is the same for every version of an object's kind.
func identityOf(o *unstructured.Unstructured) apply.Subject {
	s := apply.SubjectOf(o)
	s.Version = ""
	return s
}

// released objects stay on the member when they leave the set: those that say
// so, and the CRDs of the Gateway API.
func released(o *unstructured.Unstructured) bool {
	return o.GetAnnotations()[bundle.PruneAnnotation] == bundle.PruneRelease ||
		o.GetLabels()[bundle.ComponentLabel] == string(bundle.ComponentGatewayAPI)
}

// protected kinds take along what is not ours: a namespace all that is in it, a
// CRD all objects of its kind, the CA every workload's identity.
func protected(s apply.Subject) bool {
	switch s.Kind {
	case "Namespace":
		return s.Group == ""
	case "CustomResourceDefinition":
		return true
	case "Secret":
		return s.Group == "" && s.Name == "cacerts"
	}
	return false
}

// excess says why deletions are too many; empty where they are not. The network
// is judged like one large member, so that many small losses are seen too.
func excess(all []deletion, had map[string]int, percent int) string {
	if len(all) == 0 {
		return ""
	}
	if all[0].protected {
		return fmt.Sprintf("%s would go with what is in it or of it", all[0])
	}
	lost := map[string]int{}
	total := 0
	for _, d := range all {
		lost[d.member]++
	}
	for _, name := range sortedKeys(had) {
		total += had[name]
		if tooMany(lost[name], had[name], percent) {
			return fmt.Sprintf("on %s %d of %d, the guard lets %d %% pass", name, lost[name], had[name], percent)
		}
	}
	if tooMany(len(all), total, percent) {
		return fmt.Sprintf("on all its members %d of %d, the guard lets %d %% pass", len(all), total, percent)
	}
	return ""
}

// tooMany compares by count and by share. A guard of 0 % lets nothing pass.
func tooMany(lost, had, percent int) bool {
	if percent == 0 {
		return lost > 0
	}
	return lost > fewObjects && lost*100 > had*percent
}

// acknowledgement names deletions: the same ones have the same, others another.
func acknowledgement(all []deletion) string {
	sum := sha256.New()
	for _, d := range all {
		s := d.subject
		_, _ = fmt.Fprintf(sum, "%q %q %q %q %q\n", d.member, s.Group, s.Kind, s.Namespace, s.Name)
	}
	return "objects-" + hex.EncodeToString(sum.Sum(nil))[:12]
}

func nameDeletions(all []deletion) string {
	var names []string
	for _, d := range all[:min(namedDeletions, len(all))] {
		names = append(names, d.String())
	}
	if more := len(all) - namedDeletions; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// guardCounts stands in where the accepted commit cannot be rendered any more,
// by an isthmus that is newer than it: members tell how many objects they have,
// and a bundle of fewer objects deletes at least the difference.
func guardCounts(network *v1alpha1.ApplicationNetwork, members []v1alpha1.Member, next *accepted) *status.Failure {
	percent := percentOf(network)
	for _, member := range members {
		after, stays := next.bundles[member.Name]
		had := int(member.Status.Objects)
		if member.Spec.ApplicationNetwork != network.Name || !stays || after.Network != network.Name {
			continue
		}
		if lost := had - len(after.Objects) - 1; tooMany(lost, had, percent) && !slices.Contains(network.Spec.DeletionGuard.Allow, member.Name) {
			return &status.Failure{Reason: status.ReasonDeletionGuard, Stalled: true, Message: fmt.Sprintf(
				"commit %s deletes at least %d of %d objects on %s, the guard lets %d %% pass; which ones is not known, because the accepted commit does not render any more: if that is meant, put %q into spec.deletionGuard.allow of network %q",
				status.Short(next.commit), lost, had, member.Name, percent, member.Name, network.Name)}
		}
	}
	return nil
}

func objectCount(n int) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}
