package apply

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// found is an object that carries our label.
type found struct {
	Subject
	stage           bundle.Stage
	uid             types.UID
	keep            bool
	resourceVersion string
}

// sweep lists everything with our label, of every kind that the member serves.
// What has an owner is left out: it goes with that.
// It is the slow and certain way, for a lost inventory and for the proof that
// nothing is left. So it fails where an API group does not answer.
func (t *Target) sweep(ctx context.Context, mesh Mesh) ([]found, error) {
	t.member.Forget()
	lists, silent, err := t.member.Served()
	if err == nil {
		err = incomplete(silent)
	}
	if err != nil {
		return nil, err
	}
	var (
		mu  sync.Mutex
		all []found
	)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(parallel)
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			if !sweepable(r) {
				continue
			}
			work.Go(func() error {
				items, err := t.sweepKind(ctx, group.WithResource(r.Name), r.Namespaced, mesh)
				if err != nil && !passable(err) {
					return member.Wrap("list "+r.Name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				for i := range items {
					if len(items[i].OwnerReferences) > 0 {
						continue // made by a controller that copied its owner's labels
					}
					all = append(all, foundOf(group.WithKind(r.Kind), &items[i].ObjectMeta))
				}
				return nil
			})
		}
	}
	err = work.Wait()
	slices.SortFunc(all, func(a, b found) int { return compareSubjects(a.Subject, b.Subject) })
	return all, err
}

// sweepKind lists one kind in the whole cluster, or, without the right to that,
// in the system namespace.
func (t *Target) sweepKind(ctx context.Context, r schema.GroupVersionResource, namespaced bool, mesh Mesh) ([]metav1.PartialObjectMetadata, error) {
	which := selection{labels: ownedBy(mesh)}
	items, err := t.wire.list(ctx, r, which)
	if namespaced && apierrors.IsForbidden(err) {
		which.namespace = mesh.SystemNamespace
		return t.wire.list(ctx, r, which)
	}
	return items, err
}

// sweepable leaves out what cannot be listed by label or deleted, and Endpoints,
// which copy the labels of their Service and go with it.
func sweepable(r metav1.APIResource) bool {
	return slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") &&
		!strings.Contains(r.Name, "/") && r.Kind != "Event" && r.Kind != "Endpoints"
}

// passable are the answers for kinds that we cannot have written to either, and
// for kinds that went in the meantime.
func passable(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
}

func foundOf(kind schema.GroupVersionKind, o *metav1.ObjectMeta) found {
	s := Subject{kind.Group, kind.Version, kind.Kind, o.Namespace, o.Name}
	return found{
		Subject: s, stage: stageOf(o.Labels[LabelComponent], s), uid: o.UID,
		keep:            o.Annotations[AnnotationPrune] == PruneRelease,
		resourceVersion: o.ResourceVersion,
	}
}
