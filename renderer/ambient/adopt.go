package ambient

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Adopt returns an object of people's own as one of the network's: with its
// labels, without nulls, delivered with the gateways. The given object stays as
// it is.
func Adopt(network string, manifest *unstructured.Unstructured) (bundle.Object, error) {
	object := manifest.DeepCopy()
	if err := adjust(object, network, bundle.ComponentResources); err != nil {
		return bundle.Object{}, err
	}
	return bundle.NewObject(bundle.StageGateways, object)
}
