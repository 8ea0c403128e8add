package apply

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// fingerprint stands for everything of an object but its status, as its
// metadata shows it: two equal ones of one object mean that nobody wrote in
// between. Many kinds (ConfigMap, Secret, RBAC) have no generation; of those the
// managed fields tell, and the resourceVersion too unless the object has a
// status, with which it moves.
//
// An API server answers a write, or a dry run, that changes nothing with the
// managed fields as they were, times included. So a dry run whose answer has
// the live object's fingerprint has found nothing to change.
type fingerprint [16]byte

func fingerprintOf(o *metav1.ObjectMeta) fingerprint {
	seen := struct {
		UID        types.UID
		Generation int64
		Deleting   bool
		Labels     map[string]string
		Annotation map[string]string
		Finalizers []string
		Owners     []metav1.OwnerReference
		Fields     []metav1.ManagedFieldsEntry
		Version    string
	}{
		UID: o.UID, Generation: o.Generation, Deleting: o.DeletionTimestamp != nil,
		Labels: o.Labels, Annotation: o.Annotations, Finalizers: o.Finalizers, Owners: o.OwnerReferences,
	}
	for _, entry := range o.ManagedFields {
		if entry.Subresource != "status" {
			seen.Fields = append(seen.Fields, entry)
		}
	}
	// The times of managed fields are whole seconds: only the version tells two
	// writes of one second apart.
	if o.Generation == 0 && len(seen.Fields) == len(o.ManagedFields) {
		seen.Version = o.ResourceVersion
	}
	raw, err := json.Marshal(seen)
	if err != nil {
		// Only values that JSON cannot hold fail, and these came as JSON.
		return fingerprint{}
	}
	sum := sha256.Sum256(raw)
	return fingerprint(sum[:16])
}

// sight is what was seen of one object on the member.
type sight struct {
	uid     types.UID
	version string // resourceVersion
	live    fingerprint
	// by is the field manager that wrote last, statuses aside.
	by string
	// at is when, by the API server's clock.
	at time.Time
	// network is the value of our label, empty where there is none.
	network string
	// applied is when somebody last applied under our name; zero for never.
	applied time.Time
	// deleting: it has a deletion timestamp.
	deleting bool
	// keep: it carries the annotation that keeps it when it leaves the set.
	keep bool
	// content: somebody else owns more of it than labels and annotations.
	content bool
}

// beyondMetadata reports whether fields are of more than an object's metadata.
func beyondMetadata(fields *metav1.FieldsV1) bool {
	var parts map[string]json.RawMessage
	if fields == nil || json.Unmarshal(fields.GetRawBytes(), &parts) != nil {
		return false
	}
	delete(parts, "f:metadata")
	return len(parts) > 0
}

func sightOf(o *metav1.ObjectMeta) sight {
	s := sight{
		uid: o.UID, version: o.ResourceVersion, live: fingerprintOf(o), network: o.Labels[LabelNetwork],
		deleting: o.DeletionTimestamp != nil, keep: o.Annotations[AnnotationPrune] == PruneRelease,
	}
	var last metav1.Time
	for _, entry := range o.ManagedFields {
		switch ours := entry.Manager == FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply; {
		case ours && entry.Time != nil:
			s.applied = entry.Time.Time
		case !ours && entry.Subresource == "" && beyondMetadata(entry.FieldsV1):
			s.content = true
		}
		// Of two in one second the other one is more interesting than ourselves.
		if entry.Subresource == "status" || entry.Time == nil || entry.Time.Before(&last) ||
			(entry.Time.Equal(&last) && entry.Manager == FieldManager) {
			continue
		}
		last, s.by, s.at = *entry.Time, entry.Manager, entry.Time.Time
	}
	return s
}
