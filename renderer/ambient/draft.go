package ambient

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// standIn is what drafts have in place of a member's identity.
var standIn = identity{
	cluster: StandInPrefix + "CLUSTER", network: StandInPrefix + "NETWORK",
	address: StandInPrefix + "ADDRESS", subnet: StandInPrefix + "SUBNET",
}

// StandInPrefix begins every stand-in. Text of a fleet that has it is never part
// of a draft with stand-ins: they would be taken for one.
const StandInPrefix = "ISTHMUS_"

// Draft is an object of a member. It is open while stand-ins are in the place of
// what the member settles alone; such a draft is the same for many members. It
// must not be changed.
type Draft struct {
	bundle.Object
	// open are the strings with stand-ins, each once.
	open []string
	// keyed says that one of them may be what an element of a list is known by.
	keyed bool
}

// newDraft finds the stand-ins in an object.
func newDraft(object bundle.Object) Draft {
	d := Draft{Object: object}
	d.look(object.Object.Object, false)
	return d
}

// closed returns objects as drafts without stand-ins.
func closed(objects []bundle.Object) []Draft {
	drafts := make([]Draft, len(objects))
	for i, object := range objects {
		drafts[i] = Draft{Object: object}
	}
	return drafts
}

// look collects the strings with stand-ins. An element of a list is known by
// itself or by one of its fields, which is never called value.
func (d *Draft) look(value any, listed bool) {
	switch value := value.(type) {
	case string:
		if strings.Contains(value, StandInPrefix) {
			d.keyed = d.keyed || listed
			if !slices.Contains(d.open, value) {
				d.open = append(d.open, value)
			}
		}
	case map[string]any:
		for key, element := range value {
			_, text := element.(string)
			d.look(element, listed && text && key != "value")
		}
	case []any:
		for _, element := range value {
			d.look(element, true)
		}
	}
}

// Open reports whether the draft has stand-ins.
func (d Draft) Open() bool { return len(d.open) > 0 }

// Keyed reports whether what an element of a list is known by may depend on the
// member.
func (d Draft) Keyed() bool { return d.keyed }

// Become returns the draft after its object was made into another one, which has
// the same stand-ins or fewer, in any place.
func (d Draft) Become(object bundle.Object) Draft {
	if !d.Open() {
		return Draft{Object: object}
	}
	return newDraft(object)
}

// Values are what one member puts in the place of stand-ins.
type Values struct {
	identity identity
	fill     func(string) string
}

// identityOf returns what the member settles alone.
func identityOf(member *v1alpha1.Member) identity {
	connectivity := member.Spec.Connectivity
	return identity{
		cluster: member.Name, network: connectivity.Network,
		address: connectivity.EastWestGateway.Address, subnet: connectivity.EastWestGateway.Subnet,
	}
}

func newValues(id identity) Values {
	return Values{identity: id, fill: strings.NewReplacer(
		standIn.cluster, id.cluster, standIn.network, id.network,
		standIn.address, id.address, standIn.subnet, id.subnet).Replace}
}

// Fill returns the draft as the member's own object, which is not open.
func (v Values) Fill(d Draft) (Draft, error) {
	if !d.Open() {
		return d, nil
	}
	filled, _ := replace(d.Object.Object.Object, v.fill)
	object, err := bundle.NewObject(d.Stage, &unstructured.Unstructured{Object: filled.(map[string]any)})
	return Draft{Object: object}, err
}

// fillAlone puts a member's identity in the place of stand-ins of its own.
func fillAlone(object bundle.Object, standIn, id identity) (Draft, error) {
	replacer := strings.NewReplacer(standIn.cluster, id.cluster, standIn.network, id.network)
	filled, changed := replace(object.Object.Object, replacer.Replace)
	if !changed {
		return Draft{Object: object}, nil
	}
	made, err := bundle.NewObject(object.Stage, &unstructured.Unstructured{Object: filled.(map[string]any)})
	return Draft{Object: made}, err
}

// Strings returns the strings of the draft that are the member's own.
func (v Values) Strings(d Draft) []string {
	out := make([]string, len(d.open))
	for i, text := range d.open {
		out[i] = v.fill(text)
	}
	return out
}

// Named returns the draft's object with the member's own metadata, by which it
// is found; the rest may have stand-ins.
func (v Values) Named(d Draft) *unstructured.Unstructured {
	if !d.Open() {
		return d.Object.Object
	}
	metadata, changed := replace(d.Object.Object.Object["metadata"], v.fill)
	if !changed {
		return d.Object.Object
	}
	named := maps.Clone(d.Object.Object.Object)
	named["metadata"] = metadata
	return &unstructured.Unstructured{Object: named}
}

// Abstract returns a draft that is open where the object has strings that are
// the member's own, and that is filled to the object. What an object is known by
// stays.
func (v Values) Abstract(d Draft) (Draft, error) {
	content := d.Object.Object.Object
	if d.Open() || contains(content, StandInPrefix) {
		return d, nil
	}
	abstracted, changed := replace(content, v.abstract)
	if !changed {
		return d, nil
	}
	content = maps.Clone(abstracted.(map[string]any))
	content["apiVersion"], content["kind"] = d.Object.Object.GetAPIVersion(), d.Object.Object.GetKind()
	object := &unstructured.Unstructured{Object: content}
	if metadata, ok := content["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		content["metadata"] = metadata
		for _, field := range []string{"name", "namespace"} {
			if text, ok := metadata[field].(string); ok {
				metadata[field] = v.fill(text)
			}
		}
	}
	made, err := bundle.NewObject(d.Stage, object)
	if err != nil {
		return d, err
	}
	return newDraft(made), nil
}

// abstract is the stand-in for a string of the member's own.
func (v Values) abstract(text string) string {
	switch text {
	case "":
		return ""
	case v.identity.address:
		return standIn.address
	case v.identity.network:
		return standIn.network
	case v.identity.subnet:
		return standIn.subnet
	case v.identity.cluster:
		return standIn.cluster
	}
	return text
}
