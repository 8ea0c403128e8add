package controlplane

import (
	"strings"
	"testing"
)

const podReady = `kind: Stage
metadata: {name: pod-ready}
spec: {selector: {matchExpressions: [{key: .status.phase, operator: In, values: [Pending]}]}}
`

const podDelete = `kind: Stage
metadata: {name: pod-delete}
spec: {selector: {matchExpressions: [{key: .metadata.deletionTimestamp, operator: Exists}]}}
`

func TestAdaptStages(t *testing.T) {
	stages := []byte(podReady + "\n---\n" + podDelete)

	played, err := adaptStages(stages, false)
	if err != nil || string(played) != string(stages) {
		t.Errorf("without real istiods: stages changed to %q, %v", played, err)
	}
	adapted, err := adaptStages(stages, true)
	if err != nil {
		t.Fatal(err)
	}
	ready, remove, _ := strings.Cut(string(adapted), "---\n")
	if !strings.Contains(ready, `.metadata.labels["app"]`) || !strings.Contains(ready, "NotIn") || !strings.Contains(ready, ".status.phase") {
		t.Errorf("pod-ready does not leave out istiod, or lost its own selector:\n%s", ready)
	}
	if strings.Contains(remove, "istiod") {
		t.Errorf("kwok would no longer delete istiod's pods:\n%s", remove)
	}
	if _, err := adaptStages([]byte(podDelete), true); err == nil {
		t.Error("another kwok without stage pod-ready was accepted")
	}
}
