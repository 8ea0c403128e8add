package renderer

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/renderer/validation"
)

// ReasonInvalidMeshConfig is the reason of a mesh config that istiod would not
// take, or not all of.
const ReasonInvalidMeshConfig = "InvalidMeshConfig"

const meshConfigPath = "spec.meshConfig"

// checkMeshConfigs checks what the networks of planned members add to Istio's
// mesh config, each field at its line.
func checkMeshConfigs(f *fleet.Fleet, decisions []plan.Decision) (fleet.Problems, error) {
	var problems fleet.Problems
	seen := map[*v1alpha1.ApplicationNetwork]bool{}
	for _, d := range decisions {
		if seen[d.Network] {
			continue
		}
		seen[d.Network] = true
		fields, err := fleet.MeshConfigOf(&d.Network.Spec)
		if err != nil {
			return nil, fmt.Errorf("read mesh config of network %q: %w", d.Network.Name, err)
		}
		for _, finding := range validation.CheckMeshConfig(fields) {
			problems = append(problems, atMeshConfig(f, d.Network, finding.Path, finding.Message, finding.Hint))
		}
	}
	return problems, nil
}

// checkMeshes checks the mesh configs as istiod will read them: merged with what
// isthmus and the release's profile set, and patched.
func checkMeshes(f *fleet.Fleet, bundles []bundle.Bundle) fleet.Problems {
	var problems fleet.Problems
	seen := map[string]bool{}
	for _, b := range bundles {
		config := mergedConfig(b)
		if config == nil || seen[b.Network+config.Digest] {
			continue
		}
		seen[b.Network+config.Digest] = true
		text, _, _ := unstructured.NestedString(config.Object.Object, "data", "mesh")
		for _, message := range validation.CheckMesh(text) {
			problems = append(problems, atMeshConfig(f, f.Network(b.Network), "",
				message+", in release "+b.Release, "of what spec.meshConfig, spec.telemetry and spec.patches come to"))
		}
	}
	return problems
}

// mergedConfig returns the ConfigMap that istiod reads the mesh config from, or nil.
func mergedConfig(b bundle.Bundle) *bundle.Object {
	for i, object := range b.Objects {
		if object.Object.GetKind() == "ConfigMap" && object.Object.GetName() == "istio" && object.Object.GetNamespace() == b.SystemNamespace {
			return &b.Objects[i]
		}
	}
	return nil
}

func atMeshConfig(f *fleet.Fleet, network *v1alpha1.ApplicationNetwork, path, message, hint string) fleet.Problem {
	at := meshConfigPath
	if path != "" {
		at += "." + path
	}
	return f.ProblemAt(v1alpha1.ApplicationNetworkKind, network.Name, at, fleet.Problem{
		Severity: fleet.SeverityError, Reason: ReasonInvalidMeshConfig, Message: message, Hint: hint,
	})
}
