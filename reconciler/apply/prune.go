package apply

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// removalOrder groups entries into those that may go together, in the reverse
// of the order in which they came. CRDs go before namespaces.
func removalOrder(entries []Entry) [][]Entry {
	rank := func(e Entry) int {
		r := slices.Index(bundle.Stages, e.Stage)*2*len(waves) + int(waveOf(e.Subject))*2
		if e.isCRD() {
			r++
		}
		return -r
	}
	byRank := map[int][]Entry{}
	for _, e := range entries {
		byRank[rank(e)] = append(byRank[rank(e)], e)
	}
	var ranks []int
	for r := range byRank {
		ranks = append(ranks, r)
	}
	slices.Sort(ranks)
	var groups [][]Entry
	for _, r := range ranks {
		groups = append(groups, byRank[r])
	}
	return groups
}

// verdict is what to do with an object that is not wanted any more.
type verdict int

const (
	// verdictGone: there is nothing to do.
	verdictGone verdict = iota
	// verdictPending: it is being deleted already.
	verdictPending
	// verdictForeign: it is not ours any more; nothing is done to it.
	verdictForeign
	// verdictRelease: give up our fields and keep it.
	verdictRelease
	// verdictDelete: delete it.
	verdictDelete
)

// judge decides about one entry; seen is nil where the object is gone.
func judge(e Entry, seen *sight, network string) verdict {
	switch {
	case seen == nil:
		return verdictGone
	case seen.network != network && (seen.network != "" || seen.applied.IsZero()):
		return verdictForeign
	case seen.deleting:
		return verdictPending
	case e.Keep || seen.keep:
		return verdictRelease
	}
	return verdictDelete
}

// takeAway removes entries from the member in reverse order and returns those
// that are gone or released. What is not gone in time is waited for no longer
// and stays in the inventory.
func (d *delivery) takeAway(ctx context.Context, entries []Entry) map[Subject]bool {
	gone := map[Subject]bool{}
	for _, group := range removalOrder(entries) {
		stage := group[0].Stage
		d.options.tell(Progress{Stage: stage, Doing: "remove objects"})
		pending := d.removeAll(ctx, group, gone)
		waiting := d.waitGone(ctx, stage, pending)
		for _, e := range pending {
			at := slices.IndexFunc(waiting, func(w Waiting) bool { return w.Subject == e.Subject })
			if at < 0 {
				gone[e.key()] = true
				continue
			}
			d.waiting = append(d.waiting, waiting[at])
		}
		if len(d.failed) > 0 {
			return gone // what a failed object needs must not go before it
		}
	}
	return gone
}

// removeAll starts the removal of a group and returns what has to go by itself now.
func (d *delivery) removeAll(ctx context.Context, group []Entry, gone map[Subject]bool) []Entry {
	var pending []Entry
	var work errgroup.Group
	work.SetLimit(parallel)
	for _, e := range group {
		work.Go(func() error {
			action, deleting, err := d.removeOne(ctx, e)
			if err != nil {
				d.fail(e.Subject, e.Stage, "remove", err)
				return nil
			}
			d.target.forget(e.Subject)
			d.mu.Lock()
			defer d.mu.Unlock()
			d.changes[e.key()] = Change{Subject: e.Subject, Stage: e.Stage, Action: action}
			d.written++
			if deleting {
				pending = append(pending, e)
			} else {
				gone[e.key()] = true
			}
			return nil
		})
	}
	_ = work.Wait() // failures are collected per object
	return pending
}

// removeOne deletes or releases one object; deleting says that it may take a while.
func (d *delivery) removeOne(ctx context.Context, e Entry) (action Action, deleting bool, err error) {
	mapping, seen, err := d.look(ctx, e.Subject)
	if err != nil {
		return "", false, err
	}
	v := judge(e, seen, d.mesh.Network)
	if v == verdictDelete && e.isGatewayAPI() && !d.leaving {
		// istiod goes on using it, and so may everybody.
		v = verdictRelease
	}
	if v == verdictDelete && e.isCRD() {
		used, err := d.inUse(ctx, e.Subject)
		if err != nil {
			return "", false, err
		}
		if used {
			v = verdictRelease
		}
	}
	switch v {
	case verdictGone:
		return Deleted, false, nil
	case verdictPending:
		return Deleted, true, nil
	case verdictForeign:
		return Released, false, nil
	case verdictRelease:
		return Released, false, d.release(ctx, mapping, e.Subject, seen.uid)
	}
	err = d.target.wire.delete(ctx, pathOf(mapping, e.Subject), seen.uid)
	if apierrors.IsNotFound(err) {
		return Deleted, false, nil
	}
	return Deleted, true, err
}

// look sees one object on the member; nil without an error where it is gone,
// which it also is when its kind is.
func (d *delivery) look(ctx context.Context, s Subject) (*meta.RESTMapping, *sight, error) {
	mapping, err := d.target.mapping(ctx, s.kind())
	if err != nil || mapping == nil {
		return nil, nil, err
	}
	live, err := d.target.wire.get(ctx, pathOf(mapping, s))
	if apierrors.IsNotFound(err) {
		return mapping, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	seen := sightOf(&live.ObjectMeta)
	return mapping, &seen, nil
}

// waitGone waits until objects that are being deleted are gone, and returns
// those that are not.
func (d *delivery) waitGone(ctx context.Context, stage bundle.Stage, pending []Entry) []Waiting {
	if len(pending) == 0 {
		return nil
	}
	left := slices.Clone(pending)
	waiting, err := d.waitFor(ctx, stage, d.options.GoneTimeout, "wait for deletion", func() ([]Waiting, error) {
		var waiting []Waiting
		var still []Entry
		for _, e := range left {
			why, err := d.notGone(ctx, e.Subject)
			if err != nil {
				return nil, err
			}
			if why != "" {
				still = append(still, e)
				waiting = append(waiting, Waiting{Subject: e.Subject, Stage: stage, Why: why})
			}
		}
		left = still
		return waiting, nil
	})
	if err == nil {
		return waiting
	}
	// Not known to be gone is not gone.
	for _, e := range left {
		waiting = append(waiting, Waiting{Subject: e.Subject, Stage: stage, Why: "being deleted"})
		d.failed = append(d.failed, objectError(e.Subject, stage, "wait for the deletion of", err))
	}
	return waiting
}

// notGone says what keeps an object that is being deleted; empty if it is gone.
func (d *delivery) notGone(ctx context.Context, s Subject) (string, error) {
	if s.isNamespace() {
		return d.namespaceNotGone(ctx, s)
	}
	mapping, err := d.target.mapping(ctx, s.kind())
	if err != nil || mapping == nil {
		return "", err
	}
	live, err := d.target.wire.get(ctx, pathOf(mapping, s))
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", err
	case live.DeletionTimestamp == nil:
		return "", nil // a new one of the same name; the next call judges it
	case len(live.Finalizers) > 0:
		return "being deleted; finalizers: " + strings.Join(live.Finalizers, ", "), nil
	}
	return "being deleted", nil
}

func (d *delivery) namespaceNotGone(ctx context.Context, s Subject) (string, error) {
	live, err := d.live(ctx, s)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// The finalizers first: content remains because of them, and only a person can
	// see to them.
	for _, name := range []string{"NamespaceFinalizersRemaining", "NamespaceDeletionDiscoveryFailure", "NamespaceContentRemaining"} {
		if c := condition(live, name); c != nil && c.Status == metav1.ConditionTrue {
			return "being deleted: " + c.Message, nil
		}
	}
	return "being deleted", nil
}

// release gives up our fields. An object loses them by applying nothing: what
// nobody else owns goes, our labels above all. A CRD would lose its schema that
// way, and a policy its rules: they keep every field, and only our name goes.
func (d *delivery) release(ctx context.Context, m *meta.RESTMapping, s Subject, uid types.UID) error {
	if s.isCRD() || s.isAdmissionPolicy() {
		return d.disown(ctx, m, s)
	}
	bare := &unstructured.Unstructured{}
	bare.SetGroupVersionKind(m.GroupVersionKind)
	bare.SetNamespace(s.Namespace)
	bare.SetName(s.Name)
	bare.SetUID(uid) // else a lost object would be created, empty
	body, err := json.Marshal(bare)
	if err != nil {
		return err
	}
	_, _, err = d.target.wire.apply(ctx, pathOf(m, s), body, false, takeOver)
	return err
}

func (d *delivery) disown(ctx context.Context, m *meta.RESTMapping, s Subject) error {
	live, err := d.target.wire.get(ctx, pathOf(m, s))
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(live.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == FieldManager
	})
	if len(others) == 0 {
		others = []metav1.ManagedFieldsEntry{{}} // an empty list would mean: as they are
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": live.UID, "resourceVersion": live.ResourceVersion,
		"labels":        map[string]any{LabelNetwork: nil, LabelComponent: nil},
		"annotations":   map[string]any{AnnotationPrune: nil},
		"managedFields": others,
	}})
	if err != nil {
		return err
	}
	return d.target.wire.merge(ctx, pathOf(m, s), body)
}

// inUse reports whether a CRD has objects that are not ours: deleting it would
// delete them too.
func (d *delivery) inUse(ctx context.Context, s Subject) (bool, error) {
	live, err := d.live(ctx, s)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	kinds := servedKinds(live)
	if len(kinds) == 0 {
		return false, nil
	}
	plural, _, _ := unstructured.NestedString(live.Object, "spec", "names", "plural")
	resource := schema.GroupVersionResource{Group: kinds[0].Group, Version: kinds[0].Version, Resource: plural}
	items, err := d.target.wire.list(ctx, resource, selection{labels: LabelNetwork + "!=" + d.mesh.Network})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return len(items) > 0, err
}
