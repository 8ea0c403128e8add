package reconciler

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// A correction comes a moment after another reconcile: it asks nothing first.
func TestIdentify(t *testing.T) {
	calls, uid := 0, "one"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		answer := map[string]any{"gitVersion": "v1.34.1"}
		if r.URL.Path != "/version" {
			answer = map[string]any{
				"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
				"metadata": map[string]any{"name": "kube-system", "uid": uid},
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer server.Close()
	reached, err := member.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := &connection{member: reached, drifted: map[apply.Subject]time.Time{}}
	drift := func() { c.drift([]apply.Subject{{Kind: "Service"}}, now) }
	for _, tt := range []struct {
		reason string
		do     func()
		uid    string
		calls  int
	}{
		{"the first time it is asked", func() {}, "one", 2},
		{"drift a moment later", func() { drift(); now, uid = now.Add(time.Second), "two" }, "one", 2},
		{"a call that failed casts doubt", func() { c.redo(work{}) }, "two", 4},
		{"drift a minute later", func() { now, uid = now.Add(identityAge), "three" }, "three", 6},
		{"without drift it is asked each time", func() { c.due(demand{}); uid = "four" }, "four", 8},
		{"not when it has the bundle and is watched", func() { c.done, c.stopWatch, uid = "bundle/chain", func() {}, "five" }, "four", 8},
		{"but for a full compare", func() { now = now.Add(time.Hour) }, "five", 10},
		{"and when it has another bundle", func() { c.done, uid = "other/chain", "six" }, "six", 12},
		{"and when its watches have ended", func() { c.done, uid = "bundle/chain", "seven"; c.doubt() }, "seven", 14},
		{"once", func() { uid = "eight" }, "seven", 14},
	} {
		tt.do()
		got, err := c.identify(t.Context(), now, c.credible("bundle", time.Hour))
		if err != nil || string(got.uid) != tt.uid || got.kubernetes != "1.34.1" || calls != tt.calls {
			t.Errorf("%s: %+v after %d calls, error %v", tt.reason, got, calls, err)
		}
	}
	server.Close()
	if _, err := c.identify(t.Context(), now.Add(identityAge), identityAge); err == nil {
		t.Error("a cluster that does not answer was identified")
	}
}
