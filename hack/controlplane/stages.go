package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"sigs.k8s.io/yaml"
)

// printStages asks the binary for the stages of the kwok that is linked in.
func printStages(ctx context.Context, binaries Binaries) ([]byte, error) {
	stages, err := exec.CommandContext(ctx, binaries.Kube, "kwok-stages").Output()
	if err != nil {
		return nil, fmt.Errorf("print the stages of kwok: %w", err)
	}
	return stages, nil
}

// adaptStages makes kwok's stages fit this harness: with real istiods, kwok does
// not make their pods ready. Deleting them stays its work.
func adaptStages(stages []byte, realIstiods bool) ([]byte, error) {
	if !realIstiods {
		return stages, nil
	}
	var adapted [][]byte
	found := false
	for _, document := range strings.Split(string(stages), "\n---\n") {
		var stage map[string]any
		if err := yaml.Unmarshal([]byte(document), &stage); err != nil {
			return nil, fmt.Errorf("read kwok stage: %w", err)
		}
		metadata, _ := stage["metadata"].(map[string]any)
		if metadata["name"] == "pod-ready" {
			if err := exclude(stage, `.metadata.labels["app"]`, "istiod"); err != nil {
				return nil, err
			}
			found = true
		}
		content, err := yaml.Marshal(stage)
		if err != nil {
			return nil, fmt.Errorf("write kwok stage: %w", err)
		}
		adapted = append(adapted, content)
	}
	if !found {
		return nil, errors.New("kwok has no stage pod-ready: istiods would be played")
	}
	return bytes.Join(adapted, []byte("---\n")), nil
}

func exclude(stage map[string]any, key, value string) error {
	spec, _ := stage["spec"].(map[string]any)
	selector, _ := spec["selector"].(map[string]any)
	expressions, ok := selector["matchExpressions"].([]any)
	if !ok {
		return errors.New("kwok stage pod-ready selects no objects by expression")
	}
	selector["matchExpressions"] = append(expressions, map[string]any{
		"key": key, "operator": "NotIn", "values": []any{value},
	})
	return nil
}
