package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestRollout follows a change from its pull request to the end, on a real Gitea and
// two real members with real istiods: the review lets it be merged, Gitea's webhook has
// it act, and the commit shows ring by ring how far it is; a commit that is merged by
// force and cannot be accepted says why.
func TestRollout(t *testing.T) {
	r, _ := newRig(t)
	f := newForgeRig(t)
	f.binary = build(t)
	first := f.git("rev-parse", "HEAD")
	secret := func(name string, data map[string]string) v1alpha1.LocalObjectReference {
		check(t, r.HubClient.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: name}, StringData: data}))
		return v1alpha1.LocalObjectReference{Name: name}
	}
	git := secret("git", map[string]string{"username": f.Admin, "password": f.Password})
	address := freeAddress(t)
	runWith(t, r, reconciler.Options{VaultDirectory: r.Vault(), MetricsAddress: metricsAddress, LeaderElection: true, WebhookAddress: address})
	fleet := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: rig.FleetName}, Spec: v1alpha1.FleetSpec{
		URL: f.URL + "/" + f.Admin + "/fleet.git", Branch: "main", SecretRef: &git,
		Interval: metav1.Duration{Duration: time.Hour}, // only the webhook has a push act
		Webhook:  &v1alpha1.Webhook{Type: v1alpha1.WebhookGitea, SecretRef: secret("webhook", map[string]string{"token": "correct horse"})},
		Forge: &v1alpha1.Forge{Type: v1alpha1.ForgeGitea, API: f.URL + "/api/v1", Repository: f.Admin + "/fleet",
			SecretRef: secret("forge", map[string]string{"token": f.bot})},
	}}
	check(t, rig.Eventually(t.Context(), 20*time.Second, func() error { return r.HubClient.Create(t.Context(), fleet) }))
	check(t, r.WaitApplied(t.Context(), first, 2*time.Minute))
	whole, canary, rest := "isthmus/"+rig.FleetName+"/rollout", "isthmus/"+rig.FleetName+"/rollout/canary", "isthmus/"+rig.FleetName+"/rollout/rest"
	f.shows(first, map[string]string{whole: "success: 2 of 2 members have it"})
	f.must(http.MethodPost, f.path("/hooks"), map[string]any{
		"type": "gitea", "active": true, "events": []string{"push"},
		"config": map[string]string{"url": "http://" + address + "/hook/" + rig.Namespace + "/" + rig.FleetName, "content_type": "json", "secret": "correct horse"},
	}, nil)

	// A change of every node proxy, and rings.
	check(t, f.repository.Replace(network, "  upgrade:\n", `  components: {ztunnel: {drain: 40s}}
  rollout:
    rings:
    - {name: canary, selector: {matchLabels: {ring: canary}}}
    - {name: rest}
  upgrade:
`))
	head := f.push("drain", "Let connections live longer")
	raw, number := f.pull("drain")
	f.run(raw, 0)
	f.shows(head, map[string]string{"isthmus/fleet": "success: "})
	began := time.Now()
	check(t, f.merge(number))
	merged := f.mergeCommit(number)
	f.shows(merged, map[string]string{whole: "success: 2 of 2 members have it", canary: "success: 1 of 1 members have it", rest: "success: 1 of 1 members have it"})
	t.Logf("from the merge to all members: %s", time.Since(began).Round(100*time.Millisecond))
	if history := f.history(merged); !slices.ContainsFunc(history, func(line string) bool { return strings.HasPrefix(line, whole+" pending") }) {
		t.Errorf("the commit was never shown as under way: %v", history)
	} else {
		t.Logf("shown on the commit, in this order:\n%s", strings.Join(history, "\n"))
	}

	// What nobody should do: a fleet that does not load, past the review.
	f.git("fetch", "-q", "origin", "main")
	f.git("checkout", "-q", "-B", "broken", "origin/main")
	check(t, f.repository.Replace(network, "drain: 40s", "drain: soon"))
	broken := f.push("broken", "A typo")
	raw, number = f.pull("broken")
	f.run(raw, 1)
	f.shows(broken, map[string]string{"isthmus/fleet": "failure: "})
	f.blocked(number)
	check(t, f.API(t.Context(), f.Token, http.MethodPost, f.path(fmt.Sprintf("/pulls/%d/merge", number)), map[string]any{"Do": "merge", "force_merge": true}, nil))
	f.shows(f.mergeCommit(number), map[string]string{whole: "failure: not accepted: "})
	now, err := r.Fleet(t.Context())
	check(t, err)
	if got := source.CommitOf(now.Status.AppliedRevision); got != merged {
		t.Errorf("members have commit %q, want the last good one, %q", got, merged)
	}
}

// shows waits until a commit has statuses that begin so.
func (f *forgeRig) shows(commit string, want map[string]string) {
	f.t.Helper()
	check(f.t, rig.Eventually(f.t.Context(), 2*time.Minute, func() error {
		got := f.statuses(commit)
		for name, text := range want {
			if !strings.HasPrefix(got[name], text) {
				return fmt.Errorf("commit %s shows %v, want %v", commit, got, want)
			}
		}
		return nil
	}))
}

// history are all statuses that a commit was given, oldest first.
func (f *forgeRig) history(commit string) []string {
	f.t.Helper()
	var all []struct {
		ID          int64  `json:"id"`
		Context     string `json:"context"`
		Status      string `json:"status"`
		Description string `json:"description"`
	}
	f.must(http.MethodGet, f.path("/commits/"+commit+"/statuses?limit=50"), nil, &all)
	slices.SortFunc(all, func(a, b struct {
		ID          int64  `json:"id"`
		Context     string `json:"context"`
		Status      string `json:"status"`
		Description string `json:"description"`
	}) int {
		return int(a.ID - b.ID)
	})
	var out []string
	for _, s := range all {
		out = append(out, s.Context+" "+s.Status+": "+s.Description)
	}
	return out
}

// mergeCommit is the commit that a pull request was merged as.
func (f *forgeRig) mergeCommit(number int) string {
	f.t.Helper()
	var pull struct {
		Commit string `json:"merge_commit_sha"`
	}
	f.must(http.MethodGet, f.path(fmt.Sprintf("/pulls/%d", number)), nil, &pull)
	if len(pull.Commit) != 40 {
		f.t.Fatalf("pull request %d has no merge commit", number)
	}
	return pull.Commit
}
