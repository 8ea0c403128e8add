package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/faultproxy"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// newTrustRig starts two members with the real istiods of two releases, behind
// proxies, and pushes fleet-example.
func newTrustRig(t *testing.T) *kills {
	t.Helper()
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{
		Members: []string{east, west}, Istiods: []string{oneRelease, otherRelease}, LogDir: logDir(t), Progress: os.Stderr,
	})
	check(t, err)
	t.Cleanup(r.Stop)
	check(t, r.Repository.Copy(os.DirFS(filepath.Join(rig.Root(), "fleet-example"))))
	check(t, r.Repository.Replace(network, `version: "1.30.4"`, fmt.Sprintf("version: %q", oneRelease)))
	check(t, r.Repository.Replace(memberFile(west), "  # upgrade:\n  #   mode: SelfManaged\n  #   version: \"1.31.0\"", fmt.Sprintf("  upgrade: {mode: SelfManaged, version: %q}", otherRelease)))
	// The proxies know the reconciler's tokens only: an istiod that starts would wait for
	// peers behind them, for half a minute each time.
	check(t, r.Repository.Replace(network, "\n  namespaces:", "\n  discovery: {peers: [{selector: {matchLabels: {discovers: nobody}}}]}\n  namespaces:"))
	k := &kills{rig: r, proxies: proxied(t, r)}
	k.commit = push(t, r, "Two members")
	return k
}

const oneRelease, otherRelease = "1.30.4", "1.31.0"

// TestTrust follows the CAs of a network through all that replaces them, while
// workloads get certificates from the real istiods and look at each other.
func TestTrust(t *testing.T) {
	t.Parallel() // it mostly waits
	k := newTrustRig(t)
	// Of this test, and not of its parts: a process ends with whose it is.
	restart := func() *process { return k.trustProcess(t) }
	running := restart()
	check(t, k.rig.Follow(t.Context(), time.Second))
	check(t, k.rig.WaitApplied(t.Context(), k.commit, 4*time.Minute))
	k.proven(t, time.Minute)
	mesh := startMesh(t, k.rig, leafLife)
	t.Run("intermediates are replaced, and stay so when istiod starts anew", func(t *testing.T) { testIntermediates(t, k, mesh) })
	t.Run("what others do to the CA is put back", func(t *testing.T) { testForeignCA(t, k, mesh) })
	t.Run("a root is replaced", func(t *testing.T) { k.replaceRoot(t, "", func(string, bool) {}) })
	t.Run("a root is replaced by reconcilers that are killed at every step", func(t *testing.T) {
		testKilledInARotation(t, k, func() {
			running.kill()
			running = restart()
		})
	})
	t.Run("a member that is away holds a replacement up, and nobody breaks", func(t *testing.T) { testAway(t, k) })
	t.Run("no key is told", func(t *testing.T) { k.assertNoKeys(t) })
	running.kill()
	served := mesh.end(t)
	expectServed(t, served, "AB", "BC", "CD")
}

// expectServed checks what each member served in replacements of roots, each of which
// is the name of the old root and that of the new one.
func expectServed(t *testing.T, served map[string][]string, replacements ...string) {
	t.Helper()
	for name, got := range served {
		want := []string{"trusts A, signs under A"}
		for _, pair := range replacements {
			before, after := pair[:1], pair[1:]
			want = append(want, "trusts "+before+"+"+after+", signs under "+before, "trusts "+before+"+"+after+", signs under "+after, "trusts "+after+", signs under "+after)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s served %q, want %q", name, got, want)
		}
	}
}

func (k *kills) trustProcess(t *testing.T) *process {
	t.Helper()
	return start(t, k.rig, func(s *settings) { s.LeafLife, s.Metrics = leafLife, metricsAddress })
}

// proven waits until all members are proven to have what they were issued.
func (k *kills) proven(t *testing.T, timeout time.Duration) {
	t.Helper()
	for _, name := range names(k.rig) {
		check(t, k.rig.WaitMember(t.Context(), name, timeout, status.TrustReady, metav1.ConditionTrue, status.ReasonTrustProven))
	}
}

func (k *kills) trustOf(t *testing.T, name string) v1alpha1.MemberTrustStatus {
	t.Helper()
	m, err := k.rig.Member(t.Context(), name)
	check(t, err)
	if m.Status.Trust == nil || m.Status.Trust.Issued == nil {
		t.Fatalf("%s has no CA in its status", name)
	}
	return *m.Status.Trust
}

// networkTrust is where the network's root is.
func (k *kills) networkTrust(ctx context.Context) (*v1alpha1.NetworkTrustStatus, error) {
	var n v1alpha1.ApplicationNetwork
	if err := k.rig.HubClient.Get(ctx, client.ObjectKey{Namespace: rig.Namespace, Name: "prod"}, &n); err != nil {
		return nil, err
	}
	if n.Status.Trust == nil {
		return nil, fmt.Errorf("the network's status has no CA")
	}
	return n.Status.Trust, nil
}

// setTrust pushes what is to be in spec.trust beside the vault.
func (k *kills) setTrust(t *testing.T, trust string) {
	t.Helper()
	const begin, end = "    vault:\n      type: Directory\n", "\n  dataPlane:"
	content, err := os.ReadFile(filepath.Join(k.rig.Repository.Work, network))
	check(t, err)
	head, rest, ok := strings.Cut(string(content), begin)
	_, tail, also := strings.Cut(rest, end)
	if !ok || !also {
		t.Fatal("fleet-example has changed")
	}
	check(t, k.rig.Repository.Write(network, head+begin+trust+end+tail))
	k.commit = push(t, k.rig, "Trust: "+trust)
}

func testIntermediates(t *testing.T, k *kills, mesh *mesh) {
	before := map[string]string{}
	for _, name := range names(k.rig) {
		before[name] = k.trustOf(t, name).Issued.Serial
	}
	k.setTrust(t, fmt.Sprintf("    intermediate: {replaceIssuedBefore: %q}\n", time.Now().UTC().Format(time.RFC3339)))
	check(t, k.rig.WaitApplied(t.Context(), k.commit, time.Minute))
	check(t, rig.Eventually(t.Context(), 2*time.Minute, func() error {
		for _, name := range names(k.rig) {
			trust := k.trustOf(t, name)
			if trust.Issued.Serial == before[name] || trust.Proven == nil || trust.Proven.Serial != trust.Issued.Serial {
				return fmt.Errorf("%s: issued %s, proven %+v, before %s: %s", name, trust.Issued.Serial, trust.Proven, before[name], trust.Unproven)
			}
		}
		return nil
	}))
	k.expectIssuers(t, mesh)
	k.restartIstiods(t)
	k.expectIssuers(t, mesh)
}

// expectIssuers waits until workloads get certificates of the CA that was issued.
func (k *kills) expectIssuers(t *testing.T, mesh *mesh) {
	t.Helper()
	for _, name := range names(k.rig) {
		want := k.trustOf(t, name).Issued.Serial
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			if got := mesh.issuer(name); got != want {
				return fmt.Errorf("%s signs with %s, want %s", name, got, want)
			}
			return nil
		}))
	}
}

// restartIstiods deletes the pods of istiod and waits for new ones.
func (k *kills) restartIstiods(t *testing.T) {
	t.Helper()
	for _, name := range names(k.rig) {
		member, err := k.rig.ClientOf(name)
		check(t, err)
		var pods corev1.PodList
		check(t, member.List(t.Context(), &pods, client.InNamespace(system), client.MatchingLabels{"app": "istiod"}))
		old := map[string]bool{}
		for i := range pods.Items {
			old[pods.Items[i].Name] = true
			check(t, member.Delete(t.Context(), &pods.Items[i]))
		}
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			for _, istiod := range k.rig.Members[name].Istiods() {
				if !old[istiod.Pod] && istiod.Ready {
					return nil
				}
			}
			return fmt.Errorf("no new istiod of %s is ready", name)
		}))
	}
}

// testForeignCA edits and deletes the CA while istiod starts anew: it comes back
// with the one that it had, and no workload ever sees another root.
func testForeignCA(t *testing.T, k *kills, mesh *mesh) {
	for _, change := range changes[len(changes)-2:] { // the CA, edited and deleted
		for _, name := range names(k.rig) {
			member, err := k.rig.ClientOf(name)
			check(t, err)
			latency, err := change.cause(t, member)
			check(t, err)
			t.Logf("%s, %s: back after %s", name, change.name, latency)
		}
		k.restartIstiods(t)
		k.expectIssuers(t, mesh)
	}
	k.proven(t, time.Minute)
}

// replaceRoot replaces the root on demand, by what spec.trust.root has besides.
func (k *kills) replaceRoot(t *testing.T, besides string, look func(step string, isNew bool)) {
	t.Helper()
	before, err := k.networkTrust(t.Context())
	check(t, err)
	k.setTrust(t, fmt.Sprintf("    root: {replaceIssuedBefore: %q%s}\n", time.Now().UTC().Format(time.RFC3339), besides))
	k.followRoot(t, len(before.Roots)+1, look)
}

// followRoot waits until a network with so many roots is settled, and calls look again
// and again with the step that it is at, and whether that is a new one.
func (k *kills) followRoot(t *testing.T, roots int, look func(step string, isNew bool)) {
	t.Helper()
	last := ""
	check(t, rig.Eventually(t.Context(), 6*time.Minute, func() error {
		is, err := k.networkTrust(t.Context())
		if err != nil {
			return err
		}
		isNew := is.Step != last
		if last = is.Step; isNew {
			t.Logf("%s: %s", is.Step, is.Why)
		}
		look(is.Step, isNew)
		if is.Step != "Settled" || len(is.Roots) < roots {
			return fmt.Errorf("step %s: %+v", is.Step, is.Blockers)
		}
		return nil
	}))
	k.proven(t, time.Minute)
}

// testKilledInARotation replaces a root while the process is killed at each step of
// the network, and in each of them at each member: when it writes the member's CA,
// once before that arrives and once after. What the next one finds is right then, so
// it writes no more; every death has a step of its own.
func testKilledInARotation(t *testing.T, k *kills, restart func()) {
	const steps, deaths = 3, 2
	came := make(chan string, 100)
	died := map[string]int{}
	for name, p := range k.proxies {
		var hits atomic.Int32
		p.Inject(faultproxy.Rule{Match: writes(http.MethodPatch, "/secrets/cacerts"), Do: func(x *faultproxy.Exchange) {
			fault := faultproxy.Before
			if hits.Add(1)%deaths == 0 {
				fault = faultproxy.After
			}
			fault(func() { came <- name })(x)
		}})
		defer p.Heal()
	}
	k.replaceRoot(t, "", func(step string, isNew bool) {
		select {
		case name := <-came:
			died[name]++
		default:
			if !isNew {
				return
			}
			died["the network"]++
		}
		restart()
	})
	t.Logf("killed: %v", died)
	for name := range k.proxies {
		if died[name] != steps*deaths {
			t.Errorf("killed at %d writes of the CA of %s, want %d", died[name], name, steps*deaths)
		}
	}
}

// testAway replaces a root while one member cannot be reached, until it can.
func testAway(t *testing.T, k *kills) {
	k.proxies[west].Mute()
	defer k.proxies[west].Heal()
	held := false
	k.replaceRoot(t, "", func(step string, isNew bool) {
		if step != "TrustBoth" || !isNew {
			return
		}
		// Twice the wait that is enough while all follow.
		for end := time.Now().Add(4 * leafLife); time.Now().Before(end); time.Sleep(time.Second) {
			is, err := k.networkTrust(t.Context())
			check(t, err)
			if is.Step != "TrustBoth" {
				t.Errorf("step %s with a member that is away", is.Step)
			}
			held = held || slices.ContainsFunc(is.Blockers, func(b v1alpha1.TrustBlocker) bool { return b.Member == west && b.Until == nil })
		}
		k.proxies[west].Heal()
	})
	if !held {
		t.Errorf("the network's status does not name %s as what it waits for", west)
	}
}

// assertNoKeys searches all that was told in the whole run, what was rendered, and
// every object of the repository, for the keys of roots and of members.
func (k *kills) assertNoKeys(t *testing.T) {
	t.Helper()
	f := &faults{rig: k.rig, proxies: k.proxies}
	keys, told := vaultSecrets(t, k.rig.Vault()), f.told(t)
	objects, err := exec.CommandContext(t.Context(), "git", "-C", k.rig.Repository.Bare, "cat-file", "--batch", "--batch-all-objects").Output()
	check(t, err)
	told["Git"] = string(objects)
	if len(keys) < 4 {
		t.Errorf("only %d keys: are they still found?", len(keys))
	}
	for where, text := range told {
		if len(text) == 0 {
			t.Errorf("%s is empty: is it still found?", where)
		}
		for _, found := range leaks(text, keys) {
			t.Errorf("%s holds %s", where, found)
		}
	}
	t.Logf("searched %d outputs for %d keys", len(told), len(keys))
}
