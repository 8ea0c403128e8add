package member

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// serves is a member whose API server serves kinds of the group a.test, as
// aggregated discovery has it. Before is called before each answer, unless it is nil.
func serves(t *testing.T, before func(), names func() []string) *Member {
	return serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before()
		}
		w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		if r.URL.Path == "/api" {
			_, _ = io.WriteString(w, `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2"}`)
			return
		}
		var resources []string
		for _, name := range names() {
			resources = append(resources, fmt.Sprintf(`{"resource":%q,"responseKind":{"group":"a.test","version":"v1","kind":%q},"scope":"Cluster","verbs":["list"]}`,
				strings.ToLower(name)+"s", name))
		}
		_, _ = fmt.Fprintf(w, `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[{"metadata":{"name":"a.test"},"versions":[{"version":"v1","resources":[%s]}]}]}`,
			strings.Join(resources, ","))
	})
}

func kindOf(name string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "a.test", Version: "v1", Kind: name}
}

func kindsOfMember(t *testing.T, m *Member) *kinds {
	t.Helper()
	known, err := m.ask()
	if err != nil {
		t.Fatal(err)
	}
	return known.kinds
}

// TestKindsAreShared: members whose API servers answer alike hold the kinds once;
// one that answers otherwise has its own, and what nobody holds is given back.
func TestKindsAreShared(t *testing.T) {
	var more atomic.Bool
	plain := func() []string { return []string{"Shared"} }
	a, b := serves(t, nil, plain), serves(t, nil, plain)
	c := serves(t, nil, func() []string {
		if more.Load() {
			return []string{"Shared", "Added"}
		}
		return plain()
	})
	common := kindsOfMember(t, a)
	if kindsOfMember(t, b) != common || kindsOfMember(t, c) != common {
		t.Fatal("three members of one answer do not share it")
	}
	more.Store(true)
	c.Forget()
	if _, err := c.Mapping(kindOf("Added")); err != nil {
		t.Fatalf("a kind that came: %v", err)
	}
	if kindsOfMember(t, c) == common {
		t.Error("a member that answers otherwise shares with the others")
	}
	if _, err := a.Mapping(kindOf("Added")); ReasonOf(err) != KindMissing {
		t.Errorf("a kind of another member: %v", err)
	}
	more.Store(false)
	c.Forget()
	if kindsOfMember(t, c) != kindsOfMember(t, a) {
		t.Error("a member that answers like the others again does not share with them")
	}
	counted := func() int {
		allKinds.Lock()
		defer allKinds.Unlock()
		return len(allKinds.by)
	}
	before := counted()
	common = nil
	for _, m := range []*Member{a, b, c} {
		m.Forget()
	}
	for start := time.Now(); counted() >= before; time.Sleep(time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("%d answers are kept, as before: nobody uses this one", before)
		}
		runtime.GC()
	}
	_ = common
}

// TestForgetWhileAsking: what an API server answered before a definition came
// does not hold afterwards.
func TestForgetWhileAsking(t *testing.T) {
	var (
		m    *Member
		more atomic.Bool
	)
	m = serves(t, func() {
		if !more.Swap(true) {
			m.Forget() // the definition came while the first answer was on its way
		}
	}, func() []string { return []string{"Shared"} })
	first := kindsOfMember(t, m)
	if known, _ := m.knownServed(); known != nil {
		t.Error("an answer from before is kept")
	}
	if again := kindsOfMember(t, m); again != first {
		t.Error("the same answer is not shared")
	}
	if known, _ := m.knownServed(); known == nil {
		t.Error("an answer from afterwards is not kept")
	}
}
