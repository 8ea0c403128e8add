package apply

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Inventory is what isthmus has, or may have, on a member.
type Inventory struct {
	// Network, Release, Commit and Digest of the set last applied whole; empty
	// before the first was.
	Network string `json:"network"`
	Release string `json:"release,omitempty"`
	Commit  string `json:"commit,omitempty"`
	Digest  string `json:"digest,omitempty"`
	// Entries sorted by stage, then kind, namespace and name.
	Entries []Entry `json:"entries"`
}

// Entry is one object of an inventory.
type Entry struct {
	Subject `json:",inline"`
	Stage   bundle.Stage `json:"stage"`
	// UID of the object when it was last applied; empty for one that is only intended.
	UID types.UID `json:"uid,omitempty"`
	// Hash of what was last applied; empty for Secrets and for what is only intended.
	Hash string `json:"hash,omitempty"`
	// Keep the object when it leaves: it was there before us.
	Keep bool `json:"keep,omitempty"`
}

// inventoryVersion is raised when an older isthmus could misread what we write.
const inventoryVersion = 1

// maxPart is how much of an inventory one ConfigMap holds, in bytes. etcd takes
// 1.5 MiB by default; half of it leaves room for metadata.
const maxPart = 700 << 10

// Size of the inventory as it is stored, in bytes.
func (i Inventory) Size() int { return len(i.encode()) }

func (i Inventory) find(s Subject) *Entry {
	at := slices.IndexFunc(i.Entries, func(e Entry) bool { return e.key() == s.key() })
	if at < 0 {
		return nil
	}
	return &i.Entries[at]
}

// byKey indexes the entries.
func (i Inventory) byKey() map[Subject]*Entry {
	index := make(map[Subject]*Entry, len(i.Entries))
	for at := range i.Entries {
		index[i.Entries[at].key()] = &i.Entries[at]
	}
	return index
}

// with adds the entries that are not listed yet, and takes their stage and keep
// for those that are: the inventory to write ahead.
func (i Inventory) with(intended []Entry) Inventory {
	out := i
	out.Entries = slices.Clone(i.Entries)
	index := out.byKey()
	for _, e := range intended {
		if have := index[e.key()]; have != nil {
			have.Stage, have.Keep = e.Stage, have.Keep || e.Keep
			continue
		}
		out.Entries = append(out.Entries, Entry{Subject: e.Subject, Stage: e.Stage, Keep: e.Keep})
	}
	out.sort()
	return out
}

func (i *Inventory) sort() {
	slices.SortFunc(i.Entries, func(a, b Entry) int {
		return cmp.Or(compareStages(a.Stage, b.Stage), compareSubjects(a.Subject, b.Subject))
	})
}

// stale are the entries of i whose objects are not wanted any more.
func (i Inventory) stale(all []wanted) []Entry {
	wants := make(map[Subject]bool, len(all))
	for _, w := range all {
		wants[w.key()] = true
	}
	var out []Entry
	for _, e := range i.Entries {
		if !wants[e.key()] {
			out = append(out, e)
		}
	}
	return out
}

// same reports whether writing b over i would say anything new. The commit
// alone does not: it is that of the last change.
func (i Inventory) same(b Inventory) bool {
	return i.Network == b.Network && i.Release == b.Release && i.Digest == b.Digest && slices.Equal(i.Entries, b.Entries)
}

func (i Inventory) encode() []byte {
	raw, err := json.Marshal(i)
	if err != nil {
		panic(err) // strings and booleans only
	}
	return raw
}

// head is what the ConfigMap of the inventory's own name holds. Large
// inventories are in parts, each a ConfigMap named by its content; the head
// names them, so the inventory changes in one write whatever its size.
type head struct {
	Version   int        `json:"version"`
	Inventory *Inventory `json:"inventory,omitempty"`
	Parts     []string   `json:"parts,omitempty"`
}

// split returns the head and the content of the parts by name.
func (i Inventory) split(limit int) (head, map[string]string) {
	raw := i.encode()
	if len(raw) <= limit {
		return head{Version: inventoryVersion, Inventory: &i}, nil
	}
	h, parts := head{Version: inventoryVersion}, map[string]string{}
	for chunk := range slices.Chunk(raw, limit) {
		sum := sha256.Sum256(chunk)
		name := inventoryName + "-" + hex.EncodeToString(sum[:8])
		h.Parts, parts[name] = append(h.Parts, name), string(chunk)
	}
	return h, parts
}

// errUnreadable says that somebody wrote over an inventory. The parser's error is
// not wrapped: it would read as an answer of the API server that broke off.
var errUnreadable = errors.New("parse the inventory: it is not as isthmus writes it")

func parseHead(raw string) (head, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal([]byte(raw), &version); err != nil {
		return head{}, errUnreadable
	}
	if version.Version > inventoryVersion {
		return head{}, &member.Error{Reason: InventoryTooNew, Doing: fmt.Sprintf(
			"read the inventory: it has version %d, this isthmus knows %d; use a newer one", version.Version, inventoryVersion)}
	}
	var h head
	if err := json.Unmarshal([]byte(raw), &h); err != nil {
		return head{}, errUnreadable
	}
	if h.Version < 1 || h.Inventory == nil && len(h.Parts) == 0 {
		return head{}, fmt.Errorf("parse the inventory: it has no version or no content")
	}
	return h, nil
}
