package apply

import (
	"k8s.io/apimachinery/pkg/types"

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
