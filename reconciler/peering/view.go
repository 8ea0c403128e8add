package peering

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
)

// View is what one member has of services, and what its istiod knows of those that
// others have. Members see of each other only this: it is a value, and how it
// travels is a choice.
type View struct {
	// Exports are what others discover of it.
	Exports Exports `json:"exports"`
	// Sees is what its istiod gives to proxies of services elsewhere, sorted.
	Sees []Remote `json:"sees,omitempty"`
	// Keeps has each of its namespaces, with the services in it that stay in it,
	// sorted.
	Keeps map[string][]string `json:"keeps,omitempty"`
}

// Exports is what a member gives to others.
type Exports struct {
	// Network that its pods are in.
	Network string `json:"network"`
	// Gateways are the addresses at which other networks reach it, in its own order.
	Gateways []string `json:"gateways,omitempty"`
	// Services sorted by namespace, then name.
	Services []Exported `json:"services,omitempty"`
}

// Exported is a service of a member that others discover.
type Exported struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Ports     []Port `json:"ports,omitempty"`
	// Ready and Unready endpoints in the member itself.
	Ready   int `json:"ready"`
	Unready int `json:"unready,omitempty"`
	// Accounts that they run as: namespace/name, sorted.
	Accounts []string `json:"accounts,omitempty"`
	// Waypoint is the Service of the waypoint that it is behind, as namespace/name;
	// empty without.
	Waypoint string `json:"waypoint,omitempty"`
}

// Key is the service as namespace/name.
func (e Exported) Key() string { return e.Namespace + "/" + e.Name }

// Port of a service.
type Port struct {
	// Port that it is called at, and the one that endpoints listen at: 0 where that is
	// a name.
	Port   uint32 `json:"port"`
	Target uint32 `json:"target,omitempty"`
}

// Remote is what istiod gives to proxies of services behind one gateway, or in one
// other member of its own network.
type Remote struct {
	Network string `json:"network"`
	// Member that has the gateway or the endpoints.
	Member string `json:"member"`
	// Gateway as address:port; empty in the own network.
	Gateway string `json:"gateway,omitempty"`
	// Services by namespace/name, with the number of endpoints that istiod reckons
	// with.
	Services map[string]uint32 `json:"services"`
}

const (
	// viewForm is the form that views are written in.
	viewForm = "isthmus.dev/v1alpha1"
	// zipAbove is from which size on a view is compressed: every replica of isthmus
	// keeps those of all members. maxView is what it may have then, in bytes: an object
	// of Kubernetes has room for a mebibyte.
	zipAbove, maxView = 16 << 10, 960 << 10
	// maxUnzipped bounds what is read of one.
	maxUnzipped = 64 << 20
)

type writtenView struct {
	Form string `json:"form"`
	View
}

// Encode writes a view, the same bytes for the same one, at most 960 KiB. A large one
// is compressed.
func (v View) Encode() ([]byte, error) {
	text, err := json.Marshal(writtenView{viewForm, v})
	if err != nil {
		return nil, fmt.Errorf("write what is known of services: %w", err)
	}
	if len(text) > zipAbove {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		_, _ = w.Write(text) // into memory
		_ = w.Close()
		text = zipped.Bytes()
	}
	if len(text) > maxView {
		return nil, fmt.Errorf("what is known of %d services takes %d KiB, and there is room for %d", len(v.Exports.Services), len(text)>>10, maxView>>10)
	}
	return text, nil
}

// DecodeView reads what [View.Encode] wrote.
func DecodeView(text []byte) (View, error) {
	if zipped := bytes.HasPrefix(text, []byte{0x1f, 0x8b}); zipped {
		r, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return View{}, fmt.Errorf("read what is known of services: %w", err)
		}
		if text, err = io.ReadAll(io.LimitReader(r, maxUnzipped)); err != nil {
			return View{}, fmt.Errorf("read what is known of services: %w", err)
		}
	}
	var written writtenView
	if err := json.Unmarshal(text, &written); err != nil {
		return View{}, fmt.Errorf("read what is known of services: %w", err)
	}
	if written.Form != viewForm {
		return View{}, fmt.Errorf("read what is known of services: it is in the form %q, and %q is read", written.Form, viewForm)
	}
	return written.View, nil
}
