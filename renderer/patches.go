package renderer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// The reasons of this package's problems.
const (
	// ReasonPatchMatchesNothing: no object is what the patch is for.
	ReasonPatchMatchesNothing = "PatchMatchesNothing"
	// ReasonPatchNotAllowed: the patch reaches for what is not its to change.
	ReasonPatchNotAllowed = "PatchNotAllowed"
	// ReasonPatchFails: the patch cannot be applied to what it matches.
	ReasonPatchFails = "PatchFails"
)

// ours begins every label and annotation by which objects are found again and
// treated when they go.
const ours = "isthmus.dev/"

// patcher applies the patches of one fleet during one rendering. It may be used
// by several goroutines at once.
type patcher struct {
	fleet *fleet.Fleet
	// patches by the object of the fleet that has them.
	patches map[holder][]*patch

	mu       sync.Mutex
	results  map[application]*result
	problems map[fleet.Problem]bool
}

// holder is an object of the fleet that has patches.
type holder struct{ kind, name string }

// patch is one patch and whether any object was for it.
type patch struct {
	holder  holder
	index   int
	patch   *kustomize.Patch
	matched bool
}

// application is a patch on a draft: what members share is patched once. An
// object may be equal to a draft, and its text no stand-in.
type application struct {
	patch  *patch
	digest string
	open   bool
}

type result struct {
	once  sync.Once
	draft ambient.Draft
	err   error
}

// newPatcher reads the patches of the networks and of the planned members. A
// network without members has nothing to patch.
func newPatcher(f *fleet.Fleet, decisions []plan.Decision) *patcher {
	p := &patcher{
		fleet: f, patches: map[holder][]*patch{},
		results: map[application]*result{}, problems: map[fleet.Problem]bool{},
	}
	for _, d := range decisions {
		p.read(holder{v1alpha1.ApplicationNetworkKind, d.Network.Name}, d.Network.Spec.Patches)
		p.read(holder{v1alpha1.MemberKind, d.Member.Name}, d.Member.Spec.Patches)
	}
	return p
}

func (p *patcher) read(h holder, written []v1alpha1.Patch) {
	if len(written) == 0 || p.patches[h] != nil {
		return
	}
	for i, w := range written {
		parsed := &patch{holder: h, index: i}
		var err error
		if parsed.patch, err = kustomize.NewPatch(w); err != nil {
			p.report(parsed, ReasonPatchFails, err.Error(), "")
			continue
		}
		p.patches[h] = append(p.patches[h], parsed)
	}
}

// of returns the network's patches and then the member's.
func (p *patcher) of(d plan.Decision) []*patch {
	return slices.Concat(
		p.patches[holder{v1alpha1.ApplicationNetworkKind, d.Network.Name}],
		p.patches[holder{v1alpha1.MemberKind, d.Member.Name}])
}

// apply returns the member's objects with its patches, and the positions of those
// patches that were for any of them.
func (p *patcher) apply(d plan.Decision, drafts []ambient.Draft, values ambient.Values) ([]bundle.Object, []int, error) {
	patches, matched := p.of(d), map[int]bool{}
	objects := make([]bundle.Object, 0, len(drafts))
	for _, draft := range drafts {
		var err error
		for i, patch := range patches {
			if !patch.patch.Matches(values.Named(draft)) {
				continue
			}
			matched[i] = true
			if draft, err = p.one(patch, draft, values); err != nil {
				return nil, nil, err
			}
		}
		if draft, err = values.Fill(draft); err != nil {
			return nil, nil, err
		}
		objects = append(objects, draft.Object)
	}
	positions := slices.Sorted(maps.Keys(matched))
	p.see(d, positions)
	return objects, positions, nil
}

// see notes that the patches at these positions were for one of the member's
// objects.
func (p *patcher) see(d plan.Decision, positions []int) {
	if len(positions) == 0 {
		return
	}
	patches := p.of(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range positions {
		patches[i].matched = true
	}
}

// one applies a patch to a member's object: to a draft that many members share,
// if it comes to the same. What cannot be patched is reported and stays as it
// is. The error is for objects that cannot be encoded.
func (p *patcher) one(patch *patch, draft ambient.Draft, values ambient.Values) (ambient.Draft, error) {
	shared, err := values.Abstract(draft)
	if err != nil {
		return draft, err
	}
	if !sameForAll(patch.patch, shared, values) {
		if shared, err = values.Fill(shared); err != nil {
			return draft, err
		}
	}
	after, refused := p.made(patch, shared)
	if refused != nil && shared.Open() && ownText(refused.Error()) {
		if shared, err = values.Fill(shared); err != nil {
			return draft, err
		}
		after, refused = p.made(patch, shared)
	}
	if refused == nil {
		return after, nil
	}
	reason, hint := ReasonPatchFails, ""
	var refusal *notAllowed
	if errors.As(refused, &refusal) {
		reason, hint = cmp.Or(refusal.reason, ReasonPatchNotAllowed), refusal.hint
	}
	p.report(patch, reason, fmt.Sprintf("%s: %v", describe(values.Named(shared)), refused), hint)
	return draft, nil
}

// ownText reports whether an error may have a stand-in in it, whole or cut off.
func ownText(message string) bool {
	return strings.Contains(message, ambient.StandInPrefix) || strings.HasSuffix(message, "…")
}

// sameForAll reports whether patching the draft and then filling it in gives
// what patching the member's own object gives. A patch looks at strings only to
// compare them: with its own, and, for what elements of a list are known by,
// with each other.
func sameForAll(patch *kustomize.Patch, draft ambient.Draft, values ambient.Values) bool {
	return !draft.Keyed() && !patch.MentionsPart(ambient.StandInPrefix) &&
		!slices.ContainsFunc(values.Strings(draft), patch.Mentions)
}

// made returns the draft with the patch applied, made once for all members.
func (p *patcher) made(patch *patch, draft ambient.Draft) (ambient.Draft, error) {
	key := application{patch, draft.Digest, draft.Open()}
	p.mu.Lock()
	entry := p.results[key]
	if entry == nil {
		entry = &result{}
		p.results[key] = entry
	}
	p.mu.Unlock()
	entry.once.Do(func() {
		var object bundle.Object
		if object, entry.err = patched(patch.patch, draft.Object); entry.err != nil {
			return
		}
		if entry.err = patch.keepsUniform(draft.Object.Object, object.Object); entry.err == nil {
			entry.draft = draft.Become(object)
		}
	})
	return entry.draft, entry.err
}

// notAllowed is the error for a patch that does what no patch may.
type notAllowed struct{ message, hint, reason string }

func (e *notAllowed) Error() string { return e.message }

func patched(patch *kustomize.Patch, object bundle.Object) (bundle.Object, error) {
	switch component := object.Object.GetLabels()[bundle.ComponentLabel]; bundle.Component(component) {
	case bundle.ComponentCRDs, bundle.ComponentGatewayAPI:
		return object, &notAllowed{message: "CRDs are the same for all members of a release",
			hint: fmt.Sprintf("leave them out: labelSelector: %s notin (%s,%s)", bundle.ComponentLabel, bundle.ComponentCRDs, bundle.ComponentGatewayAPI)}
	}
	after, err := patch.Apply(object.Object)
	if errors.Is(err, kustomize.ErrRemoved) {
		return object, &notAllowed{message: "the patch removes it"}
	}
	if err != nil {
		return object, err
	}
	if what := taken(object.Object, after); what != "" {
		return object, &notAllowed{message: "the patch changes its " + what, hint: "objects are found again by it"}
	}
	if what := keptVariable(object.Object, after); what != "" {
		return object, &notAllowed{message: "the patch changes the variable " + what, hint: keptVariables[what]}
	}
	if what, why := reserved(object.Object, after); what != "" {
		return object, &notAllowed{message: "the patch changes its " + what, hint: why}
	}
	return bundle.NewObject(object.Stage, after)
}

// keepsUniform refuses what a member's patch may not change for its member alone.
func (p *patch) keepsUniform(before, after *unstructured.Unstructured) error {
	what := uniform(before, after)
	if what == "" || p.holder.kind != v1alpha1.MemberKind {
		return nil
	}
	return &notAllowed{reason: ReasonMembersDiffer, message: "the patch changes its " + what + " on this member alone",
		hint: "Istio needs the same on every member: make it a patch of the network"}
}

// taken names what the patch changed although it makes the object that object,
// or makes it ours.
func taken(before, after *unstructured.Unstructured) string {
	switch {
	case before.GetAPIVersion() != after.GetAPIVersion():
		return "apiVersion"
	case before.GetKind() != after.GetKind():
		return "kind"
	case before.GetName() != after.GetName():
		return "name"
	case before.GetNamespace() != after.GetNamespace():
		return "namespace"
	case !maps.Equal(begun(before.GetLabels(), ours), begun(after.GetLabels(), ours)):
		return "labels of " + ours
	case !maps.Equal(begun(before.GetAnnotations(), ours), begun(after.GetAnnotations(), ours)):
		return "annotations of " + ours
	}
	return ""
}

func describe(object *unstructured.Unstructured) string {
	name := object.GetName()
	if namespace := object.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	return object.GetKind() + " " + name
}

func (p *patcher) report(patch *patch, reason, message, hint string) {
	problem := p.fleet.ProblemAt(patch.holder.kind, patch.holder.name, fmt.Sprintf("spec.patches[%d]", patch.index), fleet.Problem{
		Severity: fleet.SeverityError, Reason: reason, Message: message, Hint: hint,
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems[problem] = true
}

// found returns, sorted, what was wrong with the patches once they were applied
// to every member.
func (p *patcher) found() fleet.Problems {
	for _, patches := range p.patches {
		for _, patch := range patches {
			if !patch.matched {
				p.report(patch, ReasonPatchMatchesNothing, "matches no object of any member",
					"`isthmus render` without the patch shows the objects that there are")
			}
		}
	}
	problems := fleet.Problems(slices.Collect(maps.Keys(p.problems)))
	problems.Sort()
	return problems
}
