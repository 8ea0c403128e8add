package apply

import (
	"context"
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// caSecret is where istiod reads its CA.
const caSecret = "cacerts"

// prunable are the entries that the set lacks and that may go. The CA does not: a
// set without it cannot mean that istiod is to sign by one of its own. It goes when
// the member leaves, or when istiod mounts its CA; then also one that no inventory
// lists, because somebody else has made it with our label.
func (d *delivery) prunable(ctx context.Context, set Set, all []wanted) ([]Entry, error) {
	stale := slices.DeleteFunc(d.inventory.stale(all), func(e Entry) bool { return e.isSecret() && e.Name == caSecret })
	if !set.MountedCA {
		return stale, nil
	}
	left := Entry{Stage: bundle.StageControlPlane, Subject: Subject{Version: "v1", Kind: "Secret", Namespace: set.SystemNamespace, Name: caSecret}}
	_, seen, err := d.look(ctx, left.Subject)
	if err != nil {
		return nil, objectError(left.Subject, left.Stage, "read", err)
	}
	if judge(left, seen, d.mesh.Network) == verdictDelete {
		stale = append(stale, left)
	}
	return stale, nil
}

// strays are the entries of a Secret of the set that others have put there. istiod
// reads whatever has a name that it knows: with revocation lists that are not its
// CA's it refuses the CA.
func strays(w wanted, managers []metav1.ManagedFieldsEntry) []string {
	if !w.trust {
		return nil
	}
	ours, _, _ := unstructured.NestedMap(w.object.Object, "data")
	var out []string
	ownedBesideUs(managers, "").Iterate(func(p fieldpath.Path) {
		if len(p) != 2 || p[0].FieldName == nil || *p[0].FieldName != "data" || p[1].FieldName == nil {
			return
		}
		if _, wanted := ours[*p[1].FieldName]; !wanted {
			out = append(out, *p[1].FieldName)
		}
	})
	return out
}

// strip takes strays out of an object that was just applied, which is what it then is.
func (d *delivery) strip(ctx context.Context, a attempt, applied *metav1.PartialObjectMetadata) (*metav1.PartialObjectMetadata, error) {
	names := strays(a.wanted, applied.ManagedFields)
	if len(names) == 0 {
		return applied, nil
	}
	gone := map[string]any{}
	for _, name := range names {
		gone[name] = nil
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": applied.UID}, "data": gone})
	if err != nil {
		return nil, err
	}
	if err := d.target.wire.merge(ctx, a.at, body); err != nil {
		return nil, err
	}
	return d.target.wire.get(ctx, a.at)
}
