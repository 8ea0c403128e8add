package deletion_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/deletion"
)

// TestReleased: what stays on the member is no deletion, neither for the guard nor in a
// review.
func TestReleased(t *testing.T) {
	for reason, tt := range map[string]struct {
		labels, annotations map[string]string
		want                bool
	}{
		"a plain object":       {nil, nil, false},
		"one that says so":     {nil, map[string]string{bundle.PruneAnnotation: bundle.PruneRelease}, true},
		"the Gateway API's":    {map[string]string{bundle.ComponentLabel: string(bundle.ComponentGatewayAPI)}, nil, true},
		"of another component": {map[string]string{bundle.ComponentLabel: "istiod"}, nil, false},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}}
		o.SetName("gateways.gateway.networking.k8s.io")
		o.SetLabels(tt.labels)
		o.SetAnnotations(tt.annotations)
		if got := deletion.Released(o); got != tt.want {
			t.Errorf("%s: %t", reason, got)
		}
		side := func(objects ...bundle.Object) map[string]bundle.Bundle {
			return map[string]bundle.Bundle{"west": {Member: "west", Network: "prod", Objects: objects}}
		}
		d := deletion.Of("prod", side(bundle.Object{Object: o}), side())
		if stops := d.Excess(100) != ""; stops == tt.want {
			t.Errorf("%s: the guard stops a CRD: %t", reason, stops)
		}
	}
}
