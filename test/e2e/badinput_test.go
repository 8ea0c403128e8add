package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestBadInput pushes one bad commit after another, and breaks one member's
// access after another: each gets its reason at the right place, the last good
// state stays, and the other member does not notice.
func TestBadInput(t *testing.T) {
	r, commit := newRig(t)
	settled(t, r, commit)
	t.Run("commits", func(t *testing.T) { testBadCommits(t, r, commit) })
	t.Run("repository", func(t *testing.T) { testBadRepository(t, r) })
	t.Run("access", func(t *testing.T) { testBadAccess(t, r) })
	t.Run("two members with one cluster", func(t *testing.T) { testOneClusterTwice(t, r) })
}

func testBadCommits(t *testing.T, r *rig.Rig, good string) {
	for _, tt := range []struct {
		name string
		harm func() error
		want []string
	}{
		{"unknown field", func() error { return r.Repository.Replace(network, "mtls: Permissive", "mlts: Permissive") },
			[]string{network + ":", "spec.dataPlane.mlts"}},
		{"wrong enum", func() error { return r.Repository.Replace(network, "mtls: Permissive", "mtls: Lax") },
			[]string{network + ":", "spec.dataPlane.mtls", "Lax"}},
		{"duplicate member", func() error { return r.Repository.Replace(memberFile(west), "name: westus-1", "name: eastus-1") },
			[]string{memberFile(west) + ":", "eastus-1"}},
		{"unknown release", func() error { return r.Repository.Replace(network, "1.30.4", "1.99.0") },
			[]string{network + ":", "1.99.0"}},
		{"member of a missing network", func() error {
			return r.Repository.Replace(memberFile(west), "applicationNetwork: prod", "applicationNetwork: prd")
		}, []string{memberFile(west) + ":", "spec.applicationNetwork", "prd"}},
		{"YAML that does not parse", func() error {
			return r.Repository.Write(memberFile(west), "apiVersion: isthmus.dev/v1alpha1\nkind: [\n")
		},
			[]string{memberFile(west) + ":"}},
		{"both members gone", func() error {
			if err := r.Repository.Remove(memberFile(west)); err != nil {
				return err
			}
			return r.Repository.Remove(memberFile(east))
		}, []string{"removes all members", "eastus-1, westus-1", "deletionGuard.allow"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			check(t, tt.harm())
			push(t, r, tt.name)
			check(t, rig.Eventually(t.Context(), 20*time.Second, func() error {
				return fleetSays(t, r, tt.want...)
			}))
			assertNoWrites(t, r, start)
			assertAccepted(t, r, good)
			// The next case starts from the good state, by a commit on top.
			check(t, r.Repository.Reset(t.Context(), good))
			check(t, r.Request(t.Context()))
			push(t, r, "restore")
			check(t, r.WaitFleet(t.Context(), 30*time.Second, "Ready", metav1.ConditionTrue, status.ReasonApplied))
			good = acceptedCommit(t, r)
		})
	}
}

func testBadRepository(t *testing.T, r *rig.Rig) {
	good := acceptedCommit(t, r)
	empty, err := rig.NewRepository(t.Context(), t.TempDir())
	check(t, err)
	for _, tt := range []struct {
		name   string
		harm   func(*v1alpha1.Fleet)
		reason string
	}{
		{"a missing branch", func(f *v1alpha1.Fleet) { f.Spec.Branch = "nope" }, "BranchNotFound"},
		{"a missing folder", func(f *v1alpha1.Fleet) { f.Spec.Path = "nope" }, "PathNotFound"},
		{"no repository", func(f *v1alpha1.Fleet) { f.Spec.URL = "file:///nowhere.git" }, "RepositoryNotFound"},
		{"an empty repository", func(f *v1alpha1.Fleet) { f.Spec.URL = empty.URL() }, "RepositoryEmpty"},
		{"nobody there", func(f *v1alpha1.Fleet) { f.Spec.URL = "http://127.0.0.1:1/fleet.git" }, "SourceUnreachable"},
		{"a missing Secret", func(f *v1alpha1.Fleet) { f.Spec.SecretRef = &v1alpha1.LocalObjectReference{Name: "nope"} }, "SecretNotFound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			f, err := r.Fleet(t.Context())
			check(t, err)
			whole := f.Spec
			before := f.DeepCopy()
			tt.harm(f)
			check(t, r.HubClient.Patch(t.Context(), f, client.MergeFrom(before)))
			check(t, r.WaitFleet(t.Context(), 20*time.Second, "Ready", metav1.ConditionFalse, tt.reason))
			assertNoWrites(t, r, start)
			assertAccepted(t, r, good)
			check(t, rig.Eventually(t.Context(), 10*time.Second, func() error {
				f, err := r.Fleet(t.Context())
				if err != nil {
					return err
				}
				f.Spec = whole
				return r.HubClient.Update(t.Context(), f)
			}))
			check(t, r.WaitFleet(t.Context(), 20*time.Second, "Ready", metav1.ConditionTrue, status.ReasonApplied))
		})
	}
	t.Run("a force push to an older commit", func(t *testing.T) {
		old := good
		good = push(t, r, "one more")
		check(t, r.WaitApplied(t.Context(), good, 30*time.Second))
		check(t, r.Repository.Reset(t.Context(), old))
		push(t, r, "rewritten")
		check(t, r.WaitFleet(t.Context(), 20*time.Second, "Stalled", metav1.ConditionTrue, status.ReasonNonFastForward))
		assertAccepted(t, r, good)
		f, err := r.Fleet(t.Context())
		check(t, err)
		before := f.DeepCopy()
		head, _ := strings.CutPrefix(f.Status.AttemptedRevision, "main@sha1:")
		metav1.SetMetaDataAnnotation(&f.ObjectMeta, "isthmus.dev/allow-non-fast-forward", head)
		check(t, r.HubClient.Patch(t.Context(), f, client.MergeFrom(before)))
		check(t, r.WaitApplied(t.Context(), head, 30*time.Second))
	})
}

func testBadAccess(t *testing.T, r *rig.Rig) {
	good := r.Members[west].Kubeconfig()
	exec := bytes.ReplaceAll(good, []byte("client-certificate-data"), []byte("exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [pwned], interactiveMode: Never}\n    client-certificate-data"))
	hub := r.Hub.Kubeconfig()
	otherKey := swapCredentials(t, good, hub)
	for _, tt := range []struct {
		name       string
		kubeconfig []byte
		reason     string
	}{
		{"a kubeconfig that runs a program", exec, "KubeconfigRefused"},
		{"not a kubeconfig", []byte("{"), "KubeconfigRefused"},
		{"nobody listens", bytes.ReplaceAll(good, []byte(r.Members[west].Server()), []byte("https://127.0.0.1:1")), "Unreachable"},
		{"credentials of another cluster", otherKey, "CredentialsRejected"},
		{"another cluster", r.Members[east].Kubeconfig(), "ClusterChanged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, r.SetKubeconfig(t.Context(), west, tt.kubeconfig))
			check(t, r.WaitMember(t.Context(), west, 40*time.Second, "Ready", metav1.ConditionFalse, tt.reason))
			// The other member does not notice: drift there is put back as before.
			member, err := r.ClientOf(east)
			check(t, err)
			if _, err := changes[0].cause(t, member); err != nil {
				t.Errorf("the other member is affected: %v", err)
			}
			check(t, r.SetKubeconfig(t.Context(), west, good))
			check(t, r.WaitMember(t.Context(), west, 40*time.Second, "Ready", metav1.ConditionTrue, status.ReasonApplied))
		})
	}
}

// swapCredentials returns a kubeconfig with the server of one and the client
// certificate of another cluster.
func swapCredentials(t *testing.T, server, user []byte) []byte {
	t.Helper()
	out := string(server)
	for _, field := range []string{"client-certificate-data: ", "client-key-data: "} {
		out = strings.Replace(out, valueOf(t, string(server), field), valueOf(t, string(user), field), 1)
	}
	return []byte(out)
}

func valueOf(t *testing.T, text, field string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, field)
	if !ok {
		t.Fatalf("kubeconfig has no %s", field)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// testOneClusterTwice joins a second Member to a cluster that is a member
// already: it is refused, and leaving does not touch the first one.
func testOneClusterTwice(t *testing.T, r *rig.Rig) {
	check(t, r.SetKubeconfig(t.Context(), "twin-1", r.Members[east].Kubeconfig()))
	check(t, r.Repository.Write(memberFile("twin-1"), `apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: twin-1}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: twin-1}}
`))
	start := time.Now()
	push(t, r, "A twin")
	check(t, r.WaitMember(t.Context(), "twin-1", 20*time.Second, "Stalled", metav1.ConditionTrue, status.ReasonClusterClaimed))
	check(t, r.Repository.Remove(memberFile("twin-1")))
	commit := push(t, r, "No twin")
	check(t, r.WaitApplied(t.Context(), commit, 30*time.Second))
	assertNoWrites(t, r, start)
}

func fleetSays(t *testing.T, r *rig.Rig, parts ...string) error {
	t.Helper()
	f, err := r.Fleet(t.Context())
	if err != nil {
		return err
	}
	ready := rig.Condition(f.Status.Conditions, "Ready")
	all := ready + strings.Join(f.Status.Problems, "\n")
	for _, part := range append(parts, "Ready=False", "still at") {
		if !strings.Contains(all, part) {
			return &missing{part: part, all: all}
		}
	}
	return nil
}

type missing struct{ part, all string }

func (m *missing) Error() string { return "fleet does not say " + m.part + ": " + m.all }

func acceptedCommit(t *testing.T, r *rig.Rig) string {
	t.Helper()
	f, err := r.Fleet(t.Context())
	check(t, err)
	commit, _ := strings.CutPrefix(f.Status.AcceptedRevision, "main@sha1:")
	return commit
}

func assertAccepted(t *testing.T, r *rig.Rig, commit string) {
	t.Helper()
	if got := acceptedCommit(t, r); got != commit {
		t.Errorf("accepted commit is %s, want %s", got, commit)
	}
	for _, name := range names(r) {
		m, err := r.Member(t.Context(), name)
		check(t, err)
		if m.Status.AppliedRevision != "main@sha1:"+commit {
			t.Errorf("%s is at %s, want %s", name, m.Status.AppliedRevision, commit)
		}
	}
}
