package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/faultproxy"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestFaults lets go wrong, one after another, what can go wrong between the
// reconciler and one of two members. Each time the other member receives its
// commit and has its drift put back while the fault lasts, the fault has its
// reason, calls are few, and the delivery completes when the fault ends. In the
// end nothing is orphaned, and nothing that was told has a secret in it.
func TestFaults(t *testing.T) {
	f := newFaults(t)
	before := objects(t, f.rig)
	t.Run("a first delivery over a bad line", f.badLine)
	for _, tt := range lineFaults {
		t.Run(tt.name, func(t *testing.T) { f.meets(t, tt) })
	}
	for _, tt := range watchFaults {
		t.Run(tt.name, func(t *testing.T) { f.driftIsFound(t, tt) })
	}
	f.run(nil)
	t.Run("an object of the hub that cannot be read", f.unreadable)
	t.Run("a disk that is full", f.fullDisk)
	t.Run("nothing told has a secret in it", f.assertNoSecrets)
	t.Run("a leave over a bad line", func(t *testing.T) { f.leaves(t, before[west]) })
}

// faults is a fleet of two members behind proxies.
type faults struct {
	rig     *rig.Rig
	proxies map[string]*faultproxy.Proxy
	git     *gitServer
	process *process
	changes int
	// whole test: its reconciler outlives each part.
	whole *testing.T
}

func newFaults(t *testing.T) *faults {
	t.Helper()
	// A dead connection is noticed by pings; after 45 s without these.
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "2")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	r, _ := newRig(t)
	check(t, r.Repository.Replace(network, "  # The release of members", "  resources: [{path: change}]\n\n  # The release of members"))
	f := &faults{rig: r, proxies: proxied(t, r), git: serveGit(t, r), whole: t}
	f.run(nil)
	return f
}

// run starts the reconciler, in place of the one that runs.
func (f *faults) run(change func(*settings)) {
	f.whole.Helper()
	if f.process != nil {
		f.process.kill()
	}
	f.process = start(f.whole, f.rig, func(s *settings) {
		s.Metrics, s.Timeout = metricsAddress, 2*time.Second
		if change != nil {
			change(s)
		}
	})
}

// change pushes a commit that changes an object on both members.
func (f *faults) change(t *testing.T) string {
	t.Helper()
	f.changes++
	check(t, f.rig.Repository.Write("networks/prod/change/all.yaml", configMaps(f.changes, f.changes+1)))
	return push(t, f.rig, fmt.Sprintf("Change %d", f.changes))
}

// badLine delivers to both members for the first time while some of everything
// goes wrong.
func (f *faults) badLine(t *testing.T) {
	for _, p := range f.proxies {
		p.Inject(badLine...)
	}
	commit := f.change(t)
	f.git.follow(t)
	check(t, f.rig.WaitApplied(t.Context(), commit, 3*time.Minute))
	for name, p := range f.proxies {
		hit := 0
		for _, c := range p.Calls() {
			if len(c.Rules) > 1 { // more than the delay
				hit++
			}
		}
		t.Logf("%s: %d calls, %d of them went wrong", name, p.Count(nil), hit)
		if hit == 0 {
			t.Errorf("%s: nothing went wrong", name)
		}
		p.Heal()
	}
}

// badLine is a line on which a look at a whole member often succeeds: one failed
// call of the hundred that it takes fails it.
var badLine = []faultproxy.Rule{
	{Name: "delay", Do: faultproxy.Delay(0, 20*time.Millisecond)},
	{Name: "reset", Chance: 0.002, Do: faultproxy.Reset},
	{Name: "lose", Match: faultproxy.Writes, Chance: 0.02, Do: faultproxy.Lose},
	{Name: "unavailable", Chance: 0.002, Do: faultproxy.Refuse(503)},
	{Name: "internal error", Match: faultproxy.Writes, Chance: 0.02, Do: faultproxy.Refuse(500)},
	{Name: "throttle", Match: faultproxy.Calls, Chance: 0.02, Do: faultproxy.Throttle(time.Second)},
	{Name: "cut", Match: faultproxy.Calls, Chance: 0.002, Do: faultproxy.CutBody(100)},
}

// lineFault is one fault on the way to a member.
type lineFault struct {
	name  string
	begin func(*faults, *faultproxy.Proxy) error
	// end undoes more than a healed proxy does; may be nil.
	end func(*faults, *testing.T) error
	// reason of the member while the fault lasts; empty if it does not show.
	reason string
	// stalled: a person has to ask for the next try.
	stalled bool
}

func rules(all ...faultproxy.Rule) func(*faults, *faultproxy.Proxy) error {
	return func(_ *faults, p *faultproxy.Proxy) error { p.Inject(all...); return nil }
}

var lineFaults = []lineFault{
	{name: "latency", begin: rules(faultproxy.Rule{Do: faultproxy.Delay(100*time.Millisecond, 200*time.Millisecond)})},
	{name: "429 with Retry-After", begin: rules(faultproxy.Rule{Match: faultproxy.Writes, Times: 2, Do: faultproxy.Throttle(time.Second)})},
	{name: "500", begin: rules(faultproxy.Rule{Do: faultproxy.Refuse(500)}), reason: "ServerFailing"},
	{name: "503 for writes", begin: rules(faultproxy.Rule{Match: faultproxy.Writes, Do: faultproxy.Refuse(503)}), reason: "ServerFailing"},
	{name: "resets", begin: rules(faultproxy.Rule{Do: faultproxy.Reset}), reason: "Unreachable"},
	{name: "half-open connections", begin: func(_ *faults, p *faultproxy.Proxy) error { p.Mute(); return nil }, reason: "Unreachable"},
	{name: "calls without an answer", begin: rules(faultproxy.Rule{Match: faultproxy.Calls, Do: faultproxy.Silence}), reason: "Unreachable"},
	{name: "connections that a gateway forgot", begin: func(_ *faults, p *faultproxy.Proxy) error { p.MuteOpen(); return nil }},
	{name: "answers that drip", begin: rules(faultproxy.Rule{Match: faultproxy.Calls, Do: faultproxy.Drip(1, 100*time.Millisecond)}), reason: "Unreachable"},
	{name: "answers that break off", begin: rules(faultproxy.Rule{Match: faultproxy.Calls, Do: faultproxy.CutBody(40)}), reason: "Unreachable"},
	{name: "answers that are short", begin: rules(faultproxy.Rule{Match: faultproxy.Calls, Do: faultproxy.ShortBody(40)}), reason: "Unreachable"},
	{name: "another certificate", begin: func(_ *faults, p *faultproxy.Proxy) error { return p.ChangeCertificate() }, reason: "CertificateRejected", stalled: true},
	{name: "an API server killed at a write", begin: killAPIServer, reason: "Unreachable",
		end: func(f *faults, t *testing.T) error { return f.rig.Members[west].StartAPIServer(t.Context()) }},
}

func killAPIServer(f *faults, p *faultproxy.Proxy) error {
	p.Inject(faultproxy.Rule{Match: faultproxy.Writes, Times: 1, Do: func(x *faultproxy.Exchange) {
		f.rig.Members[west].StopAPIServer()
		x.Pass()
	}})
	return nil
}

// meets lets one member meet a fault during a delivery.
func (f *faults) meets(t *testing.T, tt lineFault) {
	p := f.proxies[west]
	p.Reset()
	began := time.Now()
	check(t, tt.begin(f, p))
	commit := f.change(t)
	check(t, f.waitMember(t, east, commit))
	if tt.reason != "" {
		check(t, f.rig.WaitMember(t.Context(), west, time.Minute, "Ready", metav1.ConditionFalse, tt.reason))
	}
	latency, err := f.disturb(t, east, f.changes)
	if err != nil {
		t.Errorf("the other member is affected: %v", err)
	}
	if tt.reason == "" { // nothing shows, and it completes all the same
		check(t, f.rig.WaitApplied(t.Context(), commit, time.Minute))
	}
	f.assertFewCalls(t, time.Since(began))
	t.Logf("%s: drift on the other member was put back after %s", f.tells(t, west), latency.Round(time.Millisecond))
	p.Heal()
	if tt.end != nil {
		check(t, tt.end(f, t))
	}
	if tt.stalled {
		check(t, f.ask(t, west))
	}
	check(t, f.rig.WaitApplied(t.Context(), commit, 2*time.Minute))
}

// disturb edits the object of one change on a member, and waits until it is as
// it was. Each is edited once: who does it again and again is put off.
func (f *faults) disturb(t *testing.T, name string, change int) (time.Duration, error) {
	t.Helper()
	member, err := f.rig.ClientOf(name)
	check(t, err)
	key := client.ObjectKey{Namespace: "shop", Name: fmt.Sprintf("many-%d", change)}
	config := &corev1.ConfigMap{}
	check(t, member.Get(t.Context(), key, config))
	config.Data["number"] = "somebody's"
	check(t, member.Update(t.Context(), config, client.FieldOwner("somebody")))
	began := time.Now()
	err = rig.Eventually(t.Context(), time.Minute, func() error {
		if err := member.Get(t.Context(), key, config); err != nil {
			return err
		}
		if config.Data["number"] != fmt.Sprint(change) {
			return fmt.Errorf("%s on %s is still somebody's", key, name)
		}
		return nil
	})
	return time.Since(began), err
}

// assertFewCalls: whatever the fault is, it is no reason to ask again and again.
// Each try begins by asking who the cluster is.
func (f *faults) assertFewCalls(t *testing.T, lasted time.Duration) {
	t.Helper()
	p := f.proxies[west]
	all, tries := p.Count(nil), p.Count(faultproxy.On("", "/namespaces/kube-system"))
	t.Logf("%d calls and %d tries in %s", all, tries, lasted.Round(time.Second))
	// Delays double from half a second; news from the fleet and from watches come
	// on top. The rest is one look at everything, and what a try writes.
	if mostTries, mostCalls := 12+int(lasted.Seconds()/4), 400+30*int(lasted.Seconds()); tries > mostTries || all > mostCalls {
		t.Errorf("%d tries and %d calls in %s, want at most %d and %d", tries, all, lasted, mostTries, mostCalls)
	}
}

func (f *faults) waitMember(t *testing.T, name, commit string) error {
	t.Helper()
	return rig.Eventually(t.Context(), time.Minute, func() error {
		m, err := f.rig.Member(t.Context(), name)
		if err == nil && m.Status.AppliedRevision != "main@sha1:"+commit {
			err = fmt.Errorf("%s is at %s, want %s: %s", name, m.Status.AppliedRevision, commit, rig.Condition(m.Status.Conditions, "Ready"))
		}
		return err
	})
}

func (f *faults) tells(t *testing.T, name string) string {
	t.Helper()
	m, err := f.rig.Member(t.Context(), name)
	check(t, err)
	return rig.Condition(m.Status.Conditions, "Ready")
}

// ask asks for a reconcile of a member now, as a person does who has mended it.
func (f *faults) ask(t *testing.T, name string) error {
	t.Helper()
	m, err := f.rig.Member(t.Context(), name)
	check(t, err)
	before := m.DeepCopy()
	metav1.SetMetaDataAnnotation(&m.ObjectMeta, meta.ReconcileRequestAnnotation, time.Now().Format(time.RFC3339Nano))
	return f.rig.HubClient.Patch(t.Context(), m, client.MergeFrom(before))
}

// watchFault is something that watches of a member do.
type watchFault struct {
	name string
	do   func(mute *atomic.Bool) faultproxy.Fault
}

func always(fault faultproxy.Fault) func(*atomic.Bool) faultproxy.Fault {
	return func(*atomic.Bool) faultproxy.Fault { return fault }
}

var watchFaults = []watchFault{
	{"watches that expire by an event", always(faultproxy.ExpireWatch)},
	{"watches that are refused as expired", always(faultproxy.Expire)},
	{"watches that never tell anything", always(faultproxy.SilentWatch)},
	{"watches without bookmarks", always(faultproxy.NoBookmarks)},
	{"watches that fall silent", func(silent *atomic.Bool) faultproxy.Fault {
		return faultproxy.DropEvents(func(string) bool { return silent.Load() })
	}},
}

// driftIsFound starts a reconciler whose watches of a member are bad: drift is
// found all the same, at the latest by the full compare.
func (f *faults) driftIsFound(t *testing.T, tt watchFault) {
	var silent atomic.Bool
	p := f.proxies[west]
	p.Reset()
	p.Inject(
		faultproxy.Rule{Name: tt.name, Match: faultproxy.Watches, Do: tt.do(&silent)},
		// Lists come in many pages, and the first that goes on is too late.
		faultproxy.Rule{Name: "pages", Match: faultproxy.Calls, Do: faultproxy.Pages(5)},
		faultproxy.Rule{Name: "expired page", Match: func(c membertest.Call) bool { return faultproxy.Calls(c) && continues(c) }, Times: 1, Do: faultproxy.Expire},
	)
	began := time.Now()
	f.run(func(s *settings) { s.FullCompare = 3 * time.Second })
	commit := f.change(t)
	check(t, f.rig.WaitApplied(t.Context(), commit, time.Minute))
	silent.Store(true)
	latency, err := f.disturb(t, west, f.changes)
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("drift was put back after %s", latency.Round(time.Millisecond))
	watches := p.Count(faultproxy.Watches)
	// About thirty kinds; each is tried again at growing intervals.
	if most := 200 + 20*int(time.Since(began).Seconds()); watches > most {
		t.Errorf("%d watches in %s, want at most %d", watches, time.Since(began), most)
	}
	t.Logf("%d watches and %d other calls in %s", watches, p.Count(faultproxy.Calls), time.Since(began).Round(time.Second))
	p.Heal()
	check(t, f.rig.WaitMember(t.Context(), west, time.Minute, "Ready", metav1.ConditionTrue, status.ReasonApplied))
}

func continues(c membertest.Call) bool {
	return strings.Contains(c.Query, "continue=")
}

// leaves takes a member away while some of everything goes wrong.
func (f *faults) leaves(t *testing.T, before []string) {
	f.proxies[west].Inject(badLine...)
	check(t, f.rig.Repository.Remove(memberFile(west)))
	push(t, f.rig, "Remove "+west)
	waitGone(t, f.rig, west)
	assertNoOrphans(t, f.rig, west, before)
}
