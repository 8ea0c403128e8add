package ambient

import (
	"fmt"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// GatewayAPI is CRDs of the Gateway API to deliver.
type GatewayAPI struct {
	catalog.GatewayAPI
	// Files are manifests in YAML, one kind each.
	Files fs.FS
}

// objects returns the CRDs, and the policy that guards them against going back,
// without a network's label.
func (g GatewayAPI) objects() ([]bundle.Object, error) {
	names, err := fs.Glob(g.Files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var out []bundle.Object
	for _, name := range names {
		content, err := fs.ReadFile(g.Files, name)
		if err != nil {
			return nil, fmt.Errorf("read Gateway API %s: %w", g, err)
		}
		decoded, err := decode(string(content))
		if err != nil {
			return nil, fmt.Errorf("decode %q of Gateway API %s: %w", name, g, err)
		}
		for _, object := range decoded {
			made, err := g.object(object)
			if err != nil {
				return nil, err
			}
			out = append(out, made)
		}
	}
	return out, nil
}

func (g GatewayAPI) object(object *unstructured.Unstructured) (bundle.Object, error) {
	switch object.GetKind() {
	case "CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding":
	default:
		return bundle.Object{}, fmt.Errorf("Gateway API %s has an object of kind %q", g, object.GetKind())
	}
	prune(object.Object)
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[bundle.ComponentLabel] = string(bundle.ComponentGatewayAPI)
	object.SetLabels(labels)
	return bundle.NewObject(bundle.StageFoundation, object)
}
