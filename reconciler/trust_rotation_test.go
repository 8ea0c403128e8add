package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/proof"
)

const (
	// rotationLeaf is how long workloads' certificates live here, rotationTurn how
	// much time passes from one turn of all members to the next.
	rotationLeaf, rotationTurn = time.Hour, 10 * time.Minute
	// rotationMost turns are more than any replacement of a root takes.
	rotationMost = 150
)

// rotationWorld is a network of two members, as far as their CAs go: a vault, what
// the hub has of them, their Secrets, istiods that take what is in those, and
// workloads that get certificates from the istiods. Processes come and go, with all
// that they know.
type rotationWorld struct {
	t       *testing.T
	now     func() time.Time
	pass    func(time.Duration) // lets time pass
	open    func() trust.Vault  // for another process
	git     *v1alpha1.ApplicationNetwork
	hub     *v1alpha1.ApplicationNetwork // its status
	members []*rotatingMember
	deaths  *deaths

	r      *memberReconciler // of the process that runs
	starts int
}

// rotatingMember is a member as it is, whoever looks at it.
type rotatingMember struct {
	name string
	hub  *v1alpha1.Member // its status
	api  *member.Member
	conn *connection // of the process that runs

	mu     sync.Mutex
	secret *unstructured.Unstructured // nil: none yet

	istiod    trust.Chain // what it has taken from the Secret
	leaves    []rotatingLeaf
	restarted time.Time // proxies are younger
}

// rotatingLeaf is a workload: who signed its certificate, and whom it trusts.
type rotatingLeaf struct {
	signer trust.Fingerprint
	trusts []trust.Fingerprint
	until  time.Time
}

// deaths ends processes at their writes, of whatever kind.
type deaths struct {
	// at is the write that is the last of its process, from 1 and whoever writes; 0
	// for none. Its process does not learn that it has arrived; with before, it does
	// not arrive.
	at     int
	before bool
	// each lets every process die after its first write.
	each bool

	log []string // all writes that have arrived, in order
	n   int
}

// death is what a process dies of.
type death struct{ write string }

func (d *deaths) write(what string, do func() error) error {
	d.n++
	dies := d.each || d.n == d.at
	if dies && d.before {
		panic(death{what})
	}
	err := do()
	d.log = append(d.log, what)
	if dies {
		panic(death{what})
	}
	return err
}

// mortalVault is a vault whose writes are deaths.
type mortalVault struct {
	trust.Vault
	deaths *deaths
}

func (v mortalVault) CreateKey(ctx context.Context, name string, spec trust.KeySpec) (key trust.Key, err error) {
	if key, err := v.Key(ctx, name, ""); err == nil {
		return key, nil // nothing is written
	}
	err = v.deaths.write("vault: key "+name, func() (err error) { key, err = v.Vault.CreateKey(ctx, name, spec); return err })
	return key, err
}

func (v mortalVault) Create(ctx context.Context, name string, document trust.Document) error {
	return v.deaths.write("vault: "+name, func() error { return v.Vault.Create(ctx, name, document) })
}

func (v mortalVault) Put(ctx context.Context, name string, document trust.Document) error {
	return v.deaths.write("vault: "+name, func() error { return v.Vault.Put(ctx, name, document) })
}

// newRotationWorld has two members with CAs that are proven.
func newRotationWorld(t *testing.T, now func() time.Time, pass func(time.Duration), open func() trust.Vault) *rotationWorld {
	t.Helper()
	w := &rotationWorld{t: t, now: now, pass: pass, open: open, deaths: &deaths{}}
	w.git = &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	w.git.Spec.DataPlane.Namespace = "applink-system"
	w.hub = w.git.DeepCopy()
	for name, release := range map[string]string{"east": "1.30.4", "west": "1.31.0"} {
		m := &rotatingMember{name: name, hub: &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, Generation: 1}}}
		m.hub.Spec.ApplicationNetwork, m.hub.Status.Release = "prod", release
		server := httptest.NewServer(m)
		t.Cleanup(server.Close)
		var err error
		m.api, err = member.Connect(&rest.Config{Host: server.URL})
		must(t, err)
		w.members = append(w.members, m)
	}
	slices.SortFunc(w.members, func(a, b *rotatingMember) int { return strings.Compare(a.name, b.name) })
	w.start()
	w.until("both members are proven", w.proven)
	return w
}

// ServeHTTP is the member's API as far as CAs go.
func (m *rotatingMember) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	if m.secret != nil && strings.HasSuffix(r.URL.Path, "/secrets/"+trust.SecretName) {
		_ = json.NewEncoder(rw).Encode(m.secret.Object)
		return
	}
	status := apierrors.NewNotFound(schema.GroupResource{Resource: "x"}, "x").Status()
	status.APIVersion, status.Kind = "v1", "Status"
	answer(rw, http.StatusNotFound, &status)
}

// start is a process that begins: it knows what the hub has, and nothing else.
func (w *rotationWorld) start() {
	w.starts++
	l := newLedger(newVaults(nil, Options{}, nil), Options{Log: logr.Discard(), LeafLife: rotationLeaf}, newWakes())
	l.now = w.now
	l.vaults.directory = trust.NewAuthority(mortalVault{w.open(), w.deaths}, w.now)
	w.r = &memberReconciler{ledger: l, now: w.now}
	l.turn(w.hub)
	for _, m := range w.members {
		m.conn = &connection{member: m.api, mesh: apply.Mesh{Network: "prod", SystemNamespace: "applink-system"}}
		l.observe(m.hub)
	}
}

// say is a commit.
func (w *rotationWorld) say(change func(*v1alpha1.Trust)) {
	w.git = w.git.DeepCopy()
	change(&w.git.Spec.Trust)
}

// round lets time pass, istiods and workloads do what they do, and the process work.
func (w *rotationWorld) round() {
	w.tick()
	w.work()
}

func (w *rotationWorld) tick() {
	w.pass(rotationTurn)
	w.happen()
}

// work looks at members, one after the other; a process that dies is followed by
// another one.
func (w *rotationWorld) work() {
	for _, m := range w.members {
		w.living(func() { w.turn(m) })
	}
	w.living(w.report)
	w.living(w.look)
}

func (w *rotationWorld) until(what string, done func() bool) {
	w.t.Helper()
	for range rotationMost {
		if w.round(); done() {
			return
		}
	}
	w.t.Fatalf("not in %d turns: %s; the network: %+v; writes:\n\t%s", rotationMost, what, w.hub.Status.Trust, strings.Join(w.deaths.log, "\n\t"))
}

// living runs a part of a process's work.
func (w *rotationWorld) living(work func()) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if _, ok := cause.(death); !ok {
			panic(cause)
		}
		w.start()
	}()
	work()
}

// happen is what goes on without us: istiod takes its Secret, and refuses a list of
// roots that does not go with the one before; a workload begins; and all of them look
// at each other.
func (w *rotationWorld) happen() {
	now := w.now()
	for _, m := range w.members {
		if m.secret != nil {
			chain, err := trust.ParseChain(filesOf(m.secret), now)
			must(w.t, err)
			if has, next := fingerprintsOf(m.istiod.Trusts), fingerprintsOf(chain.Trusts); len(has) > 0 && !within(has, next) && !within(next, has) {
				w.t.Fatalf("istiod of %s refuses %v after %v", m.name, next, has)
			}
			m.istiod = chain
		}
		if m.istiod.Intermediate == nil {
			continue
		}
		m.leaves = slices.DeleteFunc(m.leaves, func(l rotatingLeaf) bool { return !now.Before(l.until) })
		m.leaves = append(m.leaves, m.leaf(now))
	}
	for _, a := range w.members {
		for _, b := range w.members {
			for _, verifier := range a.leaves {
				for _, peer := range b.leaves {
					if !slices.Contains(verifier.trusts, peer.signer) {
						w.t.Fatalf("a workload of %s refuses one of %s; writes:\n\t%s", a.name, b.name, strings.Join(w.deaths.log, "\n\t"))
					}
				}
			}
		}
	}
}

func (m *rotatingMember) leaf(now time.Time) rotatingLeaf {
	return rotatingLeaf{signer: m.istiod.Signer(), trusts: fingerprintsOf(m.istiod.Trusts), until: now.Add(rotationLeaf)}
}

func within(part, all []trust.Fingerprint) bool {
	return !slices.ContainsFunc(part, func(f trust.Fingerprint) bool { return !slices.Contains(all, f) })
}

// turn is a look at one member, as memberReconciler.deliver does it.
func (w *rotationWorld) turn(m *rotatingMember) {
	is := m.hub.DeepCopy()
	want := desired{network: w.git}
	outcome := status.Member{Attempted: "4f2c9e1", Applied: "4f2c9e1"}
	given, failure := w.r.authorize(w.t.Context(), m.conn, is, want)
	if outcome.Failure = failure; failure == nil {
		w.deliver(m, want, given)
		w.prove(m, is, given)
		w.restart(m, is, given)
	}
	outcome.Trust = trustOutcome(is, given.unavailable)
	setConditions(is, outcome.Conditions(), 1)
	if reflect.DeepEqual(is.Status, m.hub.Status) {
		return
	}
	_ = w.deaths.write("hub: "+m.name, func() error { m.hub = is; return nil })
	w.r.ledger.observe(is)
}

func (w *rotationWorld) deliver(m *rotatingMember, want desired, given authorized) {
	set, err := setOf(want, given.chain)
	must(w.t, err)
	secret := set.Secrets[0]
	if m.secret != nil && reflect.DeepEqual(filesOf(secret), filesOf(m.secret)) {
		return
	}
	_ = w.deaths.write("member: cacerts of "+m.name, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.secret = secret
		return nil
	})
	m.conn.proof.changed([]apply.Change{{Subject: apply.Subject{Kind: "Secret", Name: trust.SecretName}, Action: apply.Configured}})
}

// prove asks an istiod that answers at once.
func (w *rotationWorld) prove(m *rotatingMember, is *v1alpha1.Member, given authorized) {
	now, known := w.now(), is.Status.Trust
	if known == nil || known.Issued == nil || m.istiod.Intermediate == nil || !m.conn.proof.due(now, known) {
		return
	}
	found := proof.Finding{Some: m.istiod.Trusts, Roots: m.istiod.Trusts, Issuer: m.istiod.Intermediate}
	known.Proven, known.Unproven = learned(known.Proven, found, given.chain, given.position.roots, now)
	m.conn.proof.took(now, hasFollowed(known), len(given.position.Old) > 0)
}

// restart takes two looks: one that begins it, and one that finds it complete.
func (w *rotationWorld) restart(m *rotatingMember, is *v1alpha1.Member, given authorized) {
	after := restartAfter(given, is)
	switch {
	case after.IsZero():
		is.Status.Trust.Restarting = ""
	case m.restarted.Before(after):
		_ = w.deaths.write("member: proxies of "+m.name, func() error {
			m.restarted, m.leaves = after, []rotatingLeaf{m.leaf(w.now())}
			return nil
		})
		restarted(is.Status.Trust, after, []apply.Waiting{{Subject: apply.Subject{Kind: "DaemonSet", Name: "ztunnel"}, Why: "waiting for node-1"}}, nil)
	default:
		restarted(is.Status.Trust, after, nil, nil)
	}
}

func (w *rotationWorld) following() following {
	return following{network: w.git, fleet: types.NamespacedName{Namespace: "n"}}
}

// report is what fleetReconciler.reportTrust does.
func (w *rotationWorld) report() {
	p, failure := w.r.ledger.where(w.t.Context(), w.following(), nil)
	if failure != nil {
		return
	}
	is := w.hub.DeepCopy()
	is.Status.Trust = networkStatus(p.Decision, p.roots)
	turned(w.hub.Status.Trust, is.Status.Trust, p.policy, p.Decision, w.now())
	if reflect.DeepEqual(is.Status, w.hub.Status) {
		return
	}
	_ = w.deaths.write("hub: network", func() error { w.hub = is; return nil })
	w.r.ledger.turn(is)
}

// look is what ledger.run does.
func (w *rotationWorld) look() {
	l := w.r.ledger
	for _, network := range l.takeDirty() {
		l.look(w.t.Context(), network)
		for len(l.wakes.members) > 0 {
			<-l.wakes.members
		}
		for len(l.wakes.fleets) > 0 {
			<-l.wakes.fleets
		}
	}
}

// proven says that all members serve what they were issued.
func (w *rotationWorld) proven() bool {
	return !slices.ContainsFunc(w.members, func(m *rotatingMember) bool { return !hasFollowed(m.hub.Status.Trust) })
}

// settledWith says that so many roots were made, and that all members have the last
// one only.
func (w *rotationWorld) settledWith(roots int) func() bool {
	return func() bool {
		is := w.hub.Status.Trust
		if is == nil || is.Step != string(trust.StepSettled) || len(is.Roots) != roots || !w.proven() {
			return false
		}
		newest := is.Roots[roots-1]
		return !slices.ContainsFunc(w.members, func(m *rotatingMember) bool {
			trusts := m.hub.Status.Trust.Proven.Trusts
			return m.hub.Status.Trust.Proven.Signer != newest.Signer || len(trusts) != 1 || trusts[0].Fingerprint != newest.Fingerprint
		})
	}
}

// trustReady is the condition of a member.
func (m *rotatingMember) trustReady() metav1.Condition {
	if c := apimeta.FindStatusCondition(m.hub.Status.Conditions, status.TrustReady); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// simulated is a clock that only the test moves.
func simulated() (now func() time.Time, pass func(time.Duration)) {
	at := trustStart
	return func() time.Time { return at }, func(d time.Duration) { at = at.Add(d) }
}

// wholeRotation are the writes of a replacement but for those to the hub, in the only
// order that they have: each step for each member, in the vault first and then in
// the member. Restarts are those of an emergency.
var (
	wholeRotation = []string{
		"vault: key prod/root-2", "vault: prod/root-2",
		"vault: prod/members/east", "member: cacerts of east", "vault: prod/members/west", "member: cacerts of west", // trust both
		"vault: prod/members/east", "member: cacerts of east", "vault: prod/members/west", "member: cacerts of west", // sign by new
		"vault: prod/members/east", "member: cacerts of east", "vault: prod/members/west", "member: cacerts of west", // trust new
	}
	wholeEmergency = slices.Concat(
		wholeRotation[:6], []string{"member: proxies of east", "member: proxies of west"},
		wholeRotation[6:10], []string{"member: proxies of east", "member: proxies of west"},
		wholeRotation[10:], []string{"member: proxies of east", "member: proxies of west"},
	)
)

// TestKilledAtEveryWriteOfARotation ends the process at each write of a replacement
// of a root, once before it arrives and once after: the vault's, each member's and the
// hub's. The next process goes on, no workload is ever refused by another one, no
// istiod is given what it refuses, and there is never a third root.
func TestKilledAtEveryWriteOfARotation(t *testing.T) {
	t.Parallel()
	for _, emergency := range []bool{false, true} {
		t.Run(fmt.Sprintf("emergency %t", emergency), func(t *testing.T) {
			t.Parallel()
			whole := replaceRootIn(t, emergency, deaths{})
			want := wholeRotation
			if emergency {
				want = wholeEmergency
			}
			outside := slices.DeleteFunc(slices.Clone(whole.deaths.log), func(write string) bool { return strings.HasPrefix(write, "hub: ") })
			if !slices.Equal(outside, want) {
				t.Fatalf("the writes of a replacement:\n\t%s\nwant:\n\t%s", strings.Join(outside, "\n\t"), strings.Join(want, "\n\t"))
			}
			killed := 0
			for _, before := range []bool{true, false} {
				for at := 1; ; at++ {
					w := replaceRootIn(t, emergency, deaths{at: at, before: before})
					if w.deaths.n < at {
						break
					}
					if w.starts != 2 {
						t.Fatalf("write %d: %d processes, want 2", at, w.starts)
					}
					killed++
				}
			}
			each := replaceRootIn(t, emergency, deaths{each: true})
			t.Logf("%d writes; %d processes were killed one at a time, and %d in a row after one write each", len(whole.deaths.log), killed, each.starts-1)
			if killed < 2*len(want) || each.starts <= len(want) {
				t.Errorf("killed %d and %d times, want one for each write", killed, each.starts-1)
			}
		})
	}
}

// replaceRootIn follows one replacement of a root, with deaths, to its end.
func replaceRootIn(t *testing.T, emergency bool, d deaths) *rotationWorld {
	t.Helper()
	now, pass := simulated()
	folder := t.TempDir() + "/vault"
	w := newRotationWorld(t, now, pass, func() trust.Vault {
		vault, err := trust.OpenDirectory(folder)
		must(t, err)
		return vault
	})
	*w.deaths = d
	w.say(func(trust *v1alpha1.Trust) {
		trust.Root.ReplaceIssuedBefore, trust.Root.Emergency = &metav1.Time{Time: now()}, emergency
	})
	w.until("the root is replaced", w.settledWith(2))
	for range 10 { // and it stays so
		w.round()
	}
	if !w.settledWith(2)() {
		t.Fatalf("not settled any more: %+v", w.hub.Status.Trust)
	}
	return w
}

// keyless is a vault that makes no keys.
type keyless struct{ trust.Vault }

func (keyless) CreateKey(context.Context, string, trust.KeySpec) (trust.Key, error) {
	return nil, &trust.VaultError{Reason: trust.VaultReadOnly, Op: "make key", Message: "the vault takes no writes now"}
}

// TestRootIsTriedAgain: a vault that did not make a root is asked again soon, though no
// member has changed; and until then the network says why.
func TestRootIsTriedAgain(t *testing.T) {
	t.Parallel()
	now, pass := simulated()
	folder := t.TempDir() + "/vault"
	w := newRotationWorld(t, now, pass, func() trust.Vault {
		vault, err := trust.OpenDirectory(folder)
		must(t, err)
		return vault
	})
	w.r.ledger.vaults.directory = trust.NewAuthority(keyless{w.open()}, now)
	w.say(func(trust *v1alpha1.Trust) { trust.Root.ReplaceIssuedBefore = &metav1.Time{Time: now()} })
	p, failure := w.r.ledger.where(t.Context(), w.following(), nil)
	if failure != nil || len(p.Blockers) != 1 || p.Blockers[0].Reason != trust.BlockedVault || !strings.Contains(p.Blockers[0].Message, "takes no writes") {
		t.Fatalf("blockers %+v: %v", p.Blockers, failure)
	}
	w.look()
	if until := w.r.ledger.networks["prod"].until; !until.Equal(now().Add(vaultRetry)) {
		t.Errorf("looked at again at %s, want in %s", until, vaultRetry)
	}
}
