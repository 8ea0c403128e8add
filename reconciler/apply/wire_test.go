package apply

import (
	"context"
	"net/http"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
)

// TestReadsAreRepeated cuts the first read of everything: a leave, which has
// hundreds, would hardly ever come through a line that cuts one of them.
func TestReadsAreRepeated(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "patchy")
	if _, err := m.Mapping(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}); err != nil {
		t.Fatal(err) // discovery, which is client-go's
	}
	read := map[string]bool{}
	wire.Rule(func(c membertest.Call) membertest.Fate {
		if c.Method != http.MethodGet || read[c.Path] {
			return membertest.Pass
		}
		read[c.Path] = true
		return membertest.Cut
	})
	target := NewTarget(m)
	if _, err := target.wire.get(context.Background(), "/api/v1/namespaces/kube-system"); err != nil {
		t.Errorf("a read that was cut once: %v", err)
	}
	kinds := map[schema.GroupVersionKind]bool{}
	for _, o := range set.Objects {
		if s := SubjectOf(o.Object); s.Group == "" || s.Group == "apps" {
			kinds[s.kind()] = true
		}
	}
	if _, err := target.observe(context.Background(), set.Mesh, kinds, true); err != nil {
		t.Errorf("lists of which some were cut: %v", err)
	}
}

// TestWhatDoesNotPassIsNotRepeated: a refusal is one call, and so is what our own
// side does not send.
func TestWhatDoesNotPassIsNotRepeated(t *testing.T) {
	for _, err := range []error{
		context.DeadlineExceeded, context.Canceled,
		&member.Error{Reason: member.Unreachable, Doing: "not sent"}, &member.Error{Reason: member.Fenced},
	} {
		if passes(err) {
			t.Errorf("%v would be repeated", err)
		}
	}
}
