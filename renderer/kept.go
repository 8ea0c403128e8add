package renderer

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// kept is a rendered member, which stays as it is while its inputs do.
type kept struct {
	inputs  [sha256.Size]byte
	request ambient.Request
	bundle  bundle.Bundle
	// matched are the positions, in the network's patches and then the member's,
	// of those that were for one of its objects.
	matched []int
}

func bundlesOf(members []kept) []bundle.Bundle {
	out := make([]bundle.Bundle, len(members))
	for i, member := range members {
		out[i] = member.bundle
	}
	return out
}

// encodeNetworks returns all that members take from their networks.
func encodeNetworks(decisions []plan.Decision) (map[*v1alpha1.ApplicationNetwork][]byte, error) {
	out := map[*v1alpha1.ApplicationNetwork][]byte{}
	for _, d := range decisions {
		if out[d.Network] != nil {
			continue
		}
		encoded, err := json.Marshal([]any{d.Network.Name, d.Network.Labels, d.Network.Annotations, d.Network.Spec})
		if err != nil {
			return nil, fmt.Errorf("encode network %q: %w", d.Network.Name, err)
		}
		out[d.Network] = encoded
	}
	return out, nil
}

// inputsOf is a digest of all that a member is rendered from: what is asked of the
// engine, and the manifests that are delivered beside it.
func inputsOf(r ambient.Request, network []byte, manifests []bundle.Object) (sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	hash.Write(network)
	for _, each := range append([]ambient.Request{r}, r.Hosted...) {
		own, err := json.Marshal([]any{
			each.Release.Version, each.Gateway, each.Member.Name, each.Member.Labels, each.Member.Annotations, each.Member.Spec,
		})
		if err != nil {
			return sum, fmt.Errorf("encode member %q: %w", each.Member.Name, err)
		}
		hash.Write(own)
	}
	for _, manifest := range manifests {
		fmt.Fprint(hash, manifest.Stage, " ", manifest.Digest)
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// keep holds on to the members, and to nothing that they do not need.
func (r *Renderer) keep(members []kept) {
	r.kept = make(map[string]kept, len(members))
	for _, member := range members {
		r.kept[member.bundle.Member] = member
	}
	r.engine.Sweep()
}

// keepLast stays with the last fleet that rendered: the next one will be more like
// it than like one that does not render.
func (r *Renderer) keepLast() error {
	for _, member := range r.kept {
		if err := r.engine.Keep(member.request); err != nil {
			return err
		}
	}
	r.engine.Sweep()
	return nil
}
