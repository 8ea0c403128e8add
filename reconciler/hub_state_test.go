package reconciler

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestDecideState(t *testing.T) {
	state := func(version string) *corev1.ConfigMap {
		return &corev1.ConfigMap{Data: map[string]string{stateVersionKey: version, stateByKey: "v0.5.0"}}
	}
	for _, tt := range []struct {
		reason string
		hub    *corev1.ConfigMap
		want   stateStep
		tooNew bool
		says   string
	}{
		{"a new hub", nil, stateWrite, false, ""},
		{"an older isthmus was here", state("1"), stateWrite, false, ""},
		{"we were here", state("2"), stateKeep, false, ""},
		{"a newer isthmus was here", state("3"), stateKeep, true, "use isthmus v0.5.0 or newer"},
		{"somebody broke it", state("two"), stateKeep, false, "restore it"},
		{"somebody emptied it", &corev1.ConfigMap{}, stateKeep, false, "restore it"},
	} {
		step, err := decideState(tt.hub, 2)
		if step != tt.want || errors.Is(err, ErrStateTooNew) != tt.tooNew || (err != nil) != (tt.says != "") {
			t.Errorf("%s: step %v, error %v", tt.reason, step, err)
		}
		if err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %q does not say %q", tt.reason, err, tt.says)
		}
	}
}
