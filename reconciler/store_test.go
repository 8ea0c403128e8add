package reconciler

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

func TestSuperseded(t *testing.T) {
	fleet := types.NamespacedName{Namespace: "isthmus-system", Name: "fleet"}
	with := func(digest string) *accepted {
		a := commit(v1alpha1.DeletionGuard{}, "eastus-1", "westus-1")
		a.bundles["eastus-1"] = bundle.Bundle{Member: "eastus-1", Network: "prod", Digest: digest}
		return a
	}
	suspended := with("sha256:1")
	m := aMember("prod", "eastus-1")
	m.Spec.Suspend = true
	suspended.members = append(suspended.members, &m)
	for _, tt := range []struct {
		reason string
		next   *accepted
		want   bool
	}{
		{"another bundle", with("sha256:2"), true},
		{"a commit that leaves the member as it is", with("sha256:1"), false},
		{"the member goes", commit(v1alpha1.DeletionGuard{}, "westus-1"), true},
		{"the member is paused", suspended, true},
	} {
		s := newStore()
		s.accept(fleet, with("sha256:1"))
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan bool)
		go func() { got <- s.superseded(ctx, fleet, "eastus-1", "sha256:1") }()
		s.accept(fleet, tt.next)
		if !tt.want {
			cancel()
		}
		if over := <-got; over != tt.want {
			t.Errorf("%s: superseded %v, want %v", tt.reason, over, tt.want)
		}
		cancel()
	}
}
