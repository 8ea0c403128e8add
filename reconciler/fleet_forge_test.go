package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// statusServer is a Gitea that takes statuses of commits, unless it is away.
type statusServer struct {
	*httptest.Server
	mu sync.Mutex
	// asked are all calls, got the statuses that were written.
	asked, got []string
	away       bool
}

func startStatusServer(t *testing.T) *statusServer {
	t.Helper()
	s := &statusServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		s.asked = append(s.asked, r.Method+" "+r.URL.Path)
		switch {
		case s.away:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"message":"token does not have at least one of required scope(s)"}`)
		case r.Method == http.MethodPost:
			var body struct{ Context, State, Description string }
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			commit := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
			s.got = append(s.got, commit[:4]+" "+body.Context+" "+body.State+": "+body.Description)
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{}`)
		default:
			fmt.Fprint(w, `{"statuses":[]}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *statusServer) set(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// wait returns what was told, once it is so much.
func (s *statusServer) wait(t *testing.T, n int) []string {
	t.Helper()
	for range 200 {
		s.mu.Lock()
		got := slices.Clone(s.got)
		s.mu.Unlock()
		if len(got) >= n {
			return got
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the forge was told %v, want %d statuses; asked %v", s.got, n, s.asked)
	return nil
}

var commitA, commitB = strings.Repeat("a", 40), strings.Repeat("b", 40)

// TestForgeIsTold: the rollout's way is on the commit, ring by ring; nothing is told
// twice, words of one state are told rarely, and a forge that refuses is asked again.
func TestForgeIsTold(t *testing.T) {
	t.Parallel()
	server := startStatusServer(t)
	f := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "prod"}, Spec: v1alpha1.FleetSpec{Forge: &v1alpha1.Forge{
		Type: v1alpha1.ForgeGitea, API: server.URL + "/api/v1", Repository: "team/fleet", SecretRef: v1alpha1.LocalObjectReference{Name: "forge"},
	}}}
	hub := fake.NewClientBuilder().WithObjects(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "forge"}, Data: map[string][]byte{"token": []byte("canary-token")},
	}).Build()
	events := record.NewFakeRecorder(100)
	var ahead atomic.Int64
	s := newForges(t.Context(), hub, events)
	s.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	at := func(commit string, a, b status.MemberSummary) status.Rollout {
		return status.Rollout{Commit: commit, Rings: []status.RingRollout{
			{Name: "canary", Members: []status.MemberSummary{a}}, {Name: "rest", Members: []status.MemberSummary{b}},
		}}
	}
	member := func(applied string, ready metav1.ConditionStatus) status.MemberSummary {
		return status.MemberSummary{Name: "m", Applied: applied, Ready: ready, Message: "why"}
	}

	server.set(true)
	s.tell(f, at(commitA, member("", "Unknown"), member("", "Unknown")))
	if event := <-events.Events; !strings.Contains(event, ReasonForgeFailed) || strings.Contains(event, "canary-token") {
		t.Errorf("event %q", event)
	}
	server.set(false)
	server.wait(t, 3)
	s.tell(f, at(commitA, member("", "Unknown"), member("", "Unknown")))
	s.tell(f, at(commitA, member(commitA, "True"), member("", "Unknown"))) // the whole says other words of the same state
	server.wait(t, 4)
	ahead.Store(int64(time.Minute))
	s.tell(f, at(commitA, member(commitA, "True"), member("", "Unknown")))
	server.wait(t, 5)
	s.tell(f, at(commitA, member(commitA, "True"), member(commitA, "True")))
	server.wait(t, 7)
	s.tell(f, status.Rollout{Commit: commitB, Failure: &status.Failure{Message: "network.yaml:6: unknown field"}})
	got := server.wait(t, 8)
	want := []string{
		"aaaa isthmus/prod/rollout pending: 0 of 2 members have it",
		"aaaa isthmus/prod/rollout/canary pending: 0 of 1 members have it",
		"aaaa isthmus/prod/rollout/rest pending: 0 of 1 members have it",
		"aaaa isthmus/prod/rollout/canary success: 1 of 1 members have it",
		"aaaa isthmus/prod/rollout pending: 1 of 2 members have it",
		"aaaa isthmus/prod/rollout success: 2 of 2 members have it",
		"aaaa isthmus/prod/rollout/rest success: 1 of 1 members have it",
		"bbbb isthmus/prod/rollout failure: not accepted: network.yaml:6: unknown field",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestForgeDelaysNobody: a forge that does not answer holds up no look at a fleet, and
// a process that ends does not wait for it.
func TestForgeDelaysNobody(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-silent:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(silent) })
	ctx, cancel := context.WithCancel(t.Context())
	hub := fake.NewClientBuilder().WithObjects(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "forge"}, Data: map[string][]byte{"token": []byte("t")},
	}).Build()
	s := newForges(ctx, hub, record.NewFakeRecorder(100))
	f := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "prod"}, Spec: v1alpha1.FleetSpec{Forge: &v1alpha1.Forge{
		Type: v1alpha1.ForgeGitea, API: server.URL, Repository: "team/fleet", SecretRef: v1alpha1.LocalObjectReference{Name: "forge"},
	}}}
	for range 100 {
		s.tell(f, status.Rollout{Commit: commitA})
	}
	cancel()
	for range 200 {
		s.mu.Lock()
		working := s.all[client.ObjectKeyFromObject(f)].working
		s.mu.Unlock()
		if !working {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the forge is still asked after the end")
}

// TestRolloutOfCommit says which members count to which ring.
func TestRolloutOfCommit(t *testing.T) {
	t.Parallel()
	network := func(name string, rings ...string) *v1alpha1.ApplicationNetwork {
		n := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, ring := range rings {
			n.Spec.Rollout.Rings = append(n.Spec.Rollout.Rings, v1alpha1.Ring{
				Name: ring, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"ring": ring}}})
		}
		return n
	}
	member := func(network, name, ring string) v1alpha1.Member {
		m := aMember(network, name)
		m.Labels = map[string]string{"ring": ring}
		return m
	}
	leaving := member("prod", "gone", "canary")
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	members := []v1alpha1.Member{member("prod", "a", "canary"), member("prod", "b", "none"), leaving, member("test", "c", "canary")}
	outcome := status.Fleet{Accepted: commitA, Members: []status.MemberSummary{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "gone"}}}
	names := func(r status.Rollout) (out []string) {
		for _, ring := range r.Rings {
			for _, m := range ring.Members {
				out = append(out, ring.Name+" "+m.Name)
			}
		}
		return out
	}
	one := &accepted{commit: commitA, networks: []*v1alpha1.ApplicationNetwork{network("prod", "canary", "rest")}}
	two := &accepted{commit: commitA, networks: []*v1alpha1.ApplicationNetwork{network("prod", "canary"), network("test", "canary")}}
	if diff := cmp.Diff([]string{"canary a", " b"}, names(rollout(one, members, outcome, commitA))); diff != "" {
		t.Errorf("one network (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"prod-canary a", "test-canary c", " b"}, names(rollout(two, members, outcome, commitA))); diff != "" {
		t.Errorf("two networks (-want +got):\n%s", diff)
	}
	outcome.Failure = &status.Failure{Message: "no"}
	if got := rollout(one, members, outcome, commitB); got.Commit != commitB || got.Failure == nil {
		t.Errorf("a refused commit: %+v", got)
	}
	if got := rollout(one, members, outcome, commitA); got.Commit != commitA || got.Failure != nil {
		t.Errorf("a repository that cannot be read says nothing of the accepted commit: %+v", got)
	}
}
