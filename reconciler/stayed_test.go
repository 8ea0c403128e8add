package reconciler

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// TestStayed: only a member that is ready with the same bundle as before is not
// worth an event.
func TestStayed(t *testing.T) {
	t.Parallel()
	with := func(digest string, ready metav1.ConditionStatus) *v1alpha1.Member {
		m := &v1alpha1.Member{}
		m.Status.Digest = digest
		m.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: ready}}
		return m
	}
	for _, tt := range []struct {
		reason        string
		before, after *v1alpha1.Member
		want          bool
	}{
		{"another commit, the same bundle", with("sha256:a", "True"), with("sha256:a", "True"), true},
		{"another bundle", with("sha256:a", "True"), with("sha256:b", "True"), false},
		{"ready again", with("sha256:a", "False"), with("sha256:a", "True"), false},
		{"no longer ready", with("sha256:a", "True"), with("sha256:a", "False"), false},
		{"the first bundle", with("", "Unknown"), with("sha256:a", "True"), false},
		{"nothing yet", with("", "True"), with("", "True"), false},
	} {
		if got := stayed(tt.before, tt.after); got != tt.want {
			t.Errorf("%s: %t", tt.reason, got)
		}
	}
}
