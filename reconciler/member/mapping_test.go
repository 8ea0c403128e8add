package member

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestMappingOfSilentGroups: a kind is missing when the API server says what it
// serves in its group, and not when that group's server is away. Whoever took the
// one for the other would think objects gone that are there.
func TestMappingOfSilentGroups(t *testing.T) {
	var code atomic.Int32
	m := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api":
			_, _ = io.WriteString(w, `{"kind":"APIVersions","versions":["v1"]}`)
		case "/api/v1":
			_, _ = io.WriteString(w, `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","kind":"Pod","namespaced":true,"verbs":["list"]}]}`)
		case "/apis":
			_, _ = io.WriteString(w, `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"a.test","versions":[{"groupVersion":"a.test/v1","version":"v1"}]}]}`)
		default:
			w.WriteHeader(int(code.Load()))
		}
	})
	kind := schema.GroupVersionKind{Group: "a.test", Version: "v1", Kind: "Policy"}
	for status, want := range map[int]Reason{
		http.StatusServiceUnavailable: ServerFailing, http.StatusForbidden: AccessDenied, http.StatusNotFound: KindMissing,
	} {
		code.Store(int32(status))
		m.Forget()
		if _, err := m.Mapping(kind); ReasonOf(err) != want {
			t.Errorf("the group answers %d: %v, reason %s, want %s", status, err, ReasonOf(err), want)
		}
		if _, err := m.AnyMapping(kind); ReasonOf(err) != want {
			t.Errorf("the group answers %d, any version: %v, reason %s, want %s", status, err, ReasonOf(err), want)
		}
		if _, err := m.Mapping(schema.GroupVersionKind{Version: "v1", Kind: "Policy"}); ReasonOf(err) != KindMissing {
			t.Errorf("in a group that answers: %v", err)
		}
	}
}
