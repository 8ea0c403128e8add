package apisim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// content is what an object is, without what makes it the one object of one
// member: uid, version and times. It is constant and shared.
type content struct {
	// head and tail are the JSON before and after the metadata.
	head, tail []byte
	// meta is the JSON of the metadata, cut where a slot is to be filled in.
	meta       [][]byte
	slots      []slot
	labels     map[string]string
	generation int64
}

// slot is what stands between two pieces of metadata: uid, version or a time.
type slot int

const (
	slotUID slot = -1 - iota
	slotVersion
	slotCreated
	slotDeleted
	// From 0 on: the time of the managed fields with that index.
)

// Stand-ins in the JSON of metadata that is about to be cut.
const (
	standInUID     = "apisim-uid"
	standInVersion = "9223372036854775807"
)

// standIn is a time that stands for a slot, and sorts as the index does.
func standIn(s slot) metav1.Time { return metav1.NewTime(time.Unix(10+int64(s), 0).UTC()) }

// object is one object of one member.
type object struct {
	*content
	uid      types.UID
	version  uint64 // 0 for one that a dry run would make
	created  int64  // seconds, as all times
	deleted  int64  // 0 for not
	times    []int64
	kind     kind
	identity types.NamespacedName
}

// abstract makes content of an object whose own values were replaced by stand-ins.
func abstract(o *unstructured.Unstructured) (*content, error) {
	metadata, err := json.Marshal(o.Object["metadata"])
	if err != nil {
		return nil, err
	}
	c := &content{labels: o.GetLabels(), generation: o.GetGeneration()}
	if err := c.cut(metadata, len(o.GetManagedFields())); err != nil {
		return nil, err
	}
	rest := make(map[string]any, len(o.Object))
	for name, value := range o.Object {
		if name != "metadata" && name != "apiVersion" && name != "kind" {
			rest[name] = value
		}
	}
	if c.tail, err = json.Marshal(rest); err != nil {
		return nil, err
	}
	if c.tail[0] = ','; len(rest) == 0 {
		c.tail = []byte("}")
	}
	c.head = fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":`, o.GetAPIVersion(), o.GetKind())
	return c, nil
}

func (c *content) cut(metadata []byte, entries int) error {
	type at struct {
		from, to int
		slot     slot
	}
	var found []at
	look := func(text string, s slot) {
		if i := bytes.Index(metadata, []byte(text)); i >= 0 {
			found = append(found, at{i, i + len(text), s})
		}
	}
	look(standInUID, slotUID)
	look(standInVersion, slotVersion)
	for s := slotDeleted; s < slot(entries); s++ {
		if s != slotUID && s != slotVersion {
			look(standIn(s).Format(time.RFC3339), s)
		}
	}
	slices.SortFunc(found, func(a, b at) int { return a.from - b.from })
	from := 0
	for _, f := range found {
		if f.from < from {
			return fmt.Errorf("slots overlap in %s", metadata)
		}
		c.meta, c.slots = append(c.meta, metadata[from:f.from]), append(c.slots, f.slot)
		from = f.to
	}
	c.meta = append(c.meta, metadata[from:])
	return nil
}

// metadata appends the JSON of the object's metadata.
func (o *object) metadata(to []byte) []byte {
	for i, piece := range o.content.meta {
		to = append(to, piece...)
		if i == len(o.slots) {
			break
		}
		switch s := o.slots[i]; s {
		case slotUID:
			to = append(to, o.uid...)
		case slotVersion:
			if o.version > 0 {
				to = strconv.AppendUint(to, o.version, 10)
			}
		case slotCreated:
			to = appendTime(to, o.created)
		case slotDeleted:
			to = appendTime(to, o.deleted)
		default:
			to = appendTime(to, o.times[s])
		}
	}
	return to
}

func appendTime(to []byte, seconds int64) []byte {
	return time.Unix(seconds, 0).UTC().AppendFormat(to, time.RFC3339)
}

// json appends the whole object, or only its metadata.
func (o *object) json(to []byte, form form) []byte {
	if form == metadataOnly {
		to = append(to, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":`...)
		return append(o.metadata(to), '}')
	}
	to = append(to, o.head...)
	return append(o.metadata(to), o.tail...)
}

// form of an answer.
type form int

const (
	whole form = iota
	metadataOnly
)

// decode returns the object with stand-ins in place of its own values.
func (c *content) decode() (*unstructured.Unstructured, error) {
	stand := &object{content: c, uid: standInUID, created: standIn(slotCreated).Unix(), deleted: standIn(slotDeleted).Unix()}
	stand.version, _ = strconv.ParseUint(standInVersion, 10, 64)
	for _, s := range c.slots {
		if s >= 0 {
			stand.times = append(stand.times, standIn(slot(len(stand.times))).Unix())
		}
	}
	return stand.decode()
}

// decode returns the object as a client sees it.
func (o *object) decode() (*unstructured.Unstructured, error) {
	out := &unstructured.Unstructured{}
	return out, out.UnmarshalJSON(o.json(nil, whole))
}
