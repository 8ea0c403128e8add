package reconciler

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// settle is how long changes of members are gathered before a network is looked
// at for them: while a thousand members report, once and not a thousand times.
const settle = 200 * time.Millisecond

// ledger knows where the CAs of each network are, from the statuses of its members
// alone: what one replica proves, all read. It wakes members whose turn has come.
type ledger struct {
	vaults *vaults
	now    func() time.Time
	// leafLife is [Options.LeafLife].
	leafLife time.Duration
	wakes    *wakes
	log      logr.Logger

	changed chan struct{} // has one element when dirty is not empty

	mu        sync.Mutex
	networks  map[string]*ledgerPage
	networkOf map[types.NamespacedName]string // of members
	dirty     map[string]bool
}

// ledgerPage is one network's.
type ledgerPage struct {
	members map[types.NamespacedName]trust.Observed
	// follows is what the network's members are to follow: what the accepted commit
	// says, and whether other hubs have members of it; nil before anybody asked.
	follows *following
	// told is what each member was last woken for, and the step that its fleet was.
	told map[types.NamespacedName]string
	step string
	// rotation is what the hub says of the network's rotation, and since when; empty
	// when it says nothing.
	rotation trust.Rotation
	since    time.Time
	// alarm goes off when time alone brings the next step, at until; zero: never.
	alarm *time.Timer
	until time.Time
	// position as of the last look; nil before the first.
	position *position
}

// following is a network as the accepted commit has it.
type following struct {
	network *v1alpha1.ApplicationNetwork
	fleet   types.NamespacedName
	// elsewhere says that the network has members which are on other hubs.
	elsewhere bool
}

// position is where a network is.
type position struct {
	trust.Decision
	authority *trust.Authority
	policy    trust.Policy
	roots     []trust.Root
	// retry is when to try again what the vault did not do for the network as a whole;
	// zero for nothing. Members ask for themselves.
	retry time.Time
}

func newLedger(v *vaults, o Options, wakes *wakes) *ledger {
	return &ledger{
		vaults: v, now: time.Now, leafLife: o.LeafLife, wakes: wakes, log: o.Log, changed: make(chan struct{}, 1),
		networks: map[string]*ledgerPage{}, networkOf: map[types.NamespacedName]string{}, dirty: map[string]bool{},
	}
}

// handler takes the members of the hub as they change.
func (l *ledger) handler() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { l.observe(o) },
		UpdateFunc: func(_, o any) { l.observe(o) },
		DeleteFunc: func(o any) {
			if m, ok := lastState(o).(*v1alpha1.Member); ok {
				l.forget(types.NamespacedName{Namespace: m.Namespace, Name: m.Name})
			}
		},
	}
}

func (l *ledger) observe(o any) {
	m, ok := o.(*v1alpha1.Member)
	if !ok {
		return
	}
	name, seen := types.NamespacedName{Namespace: m.Namespace, Name: m.Name}, observedOf(m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if before := l.networkOf[name]; before != m.Spec.ApplicationNetwork {
		l.drop(name)
	}
	page := l.page(m.Spec.ApplicationNetwork)
	if known, has := page.members[name]; has && reflect.DeepEqual(known, seen) {
		return
	}
	page.members[name], l.networkOf[name] = seen, m.Spec.ApplicationNetwork
	l.mark(m.Spec.ApplicationNetwork)
}

// turns takes the networks of the hub as they change.
func (l *ledger) turns() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { l.turn(o) },
		UpdateFunc: func(_, o any) { l.turn(o) },
		DeleteFunc: func(o any) {
			if network, ok := lastState(o).(*v1alpha1.ApplicationNetwork); ok {
				forgetNetwork(network.Name)
			}
		},
	}
}

func (l *ledger) turn(o any) {
	network, ok := o.(*v1alpha1.ApplicationNetwork)
	if !ok || network.Status.Trust == nil {
		return
	}
	rotation, since := trust.Rotation(network.Status.Trust.Rotation), timeOf(network.Status.Trust.RotationSince)
	l.mu.Lock()
	defer l.mu.Unlock()
	if page := l.page(network.Name); page.rotation != rotation || !page.since.Equal(since) {
		page.rotation, page.since = rotation, since
		l.mark(network.Name)
	}
}

// rotationSince is since when a network's rotation goes the way of a policy: now,
// as long as the hub does not say so; zero where it says that and no time.
func (l *ledger) rotationSince(network string, policy trust.Policy) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if page := l.page(network); page.rotation == rotationOf(policy) {
		return page.since
	}
	return l.now()
}

func (l *ledger) forget(name types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(name)
}

// drop takes a member off the page that it is on. The caller holds mu.
func (l *ledger) drop(name types.NamespacedName) {
	network, known := l.networkOf[name]
	if !known {
		return
	}
	delete(l.networkOf, name)
	delete(l.page(network).members, name)
	delete(l.page(network).told, name)
	l.mark(network)
}

// page is a network's; the caller holds mu.
func (l *ledger) page(network string) *ledgerPage {
	if l.networks[network] == nil {
		l.networks[network] = &ledgerPage{members: map[types.NamespacedName]trust.Observed{}, told: map[types.NamespacedName]string{}}
	}
	return l.networks[network]
}

// mark has a network looked at; the caller holds mu.
func (l *ledger) mark(network string) {
	l.dirty[network] = true
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// where says where a network is. A member that asks for itself knows better than
// its status what it is; nil for others. Where a root is to be made, it makes it.
func (l *ledger) where(ctx context.Context, f following, self *trust.Observed) (position, *status.Failure) {
	l.follow(f)
	if self != nil {
		if p, ok := l.still(f, *self); ok {
			return p, nil
		}
	}
	authority, failure := l.vaults.of(ctx, f.network)
	if failure != nil {
		return position{}, failure
	}
	p := position{authority: authority, policy: policyOf(f.network, l.leafLife)}
	p.policy.RotationSince = l.rotationSince(f.network.Name, p.policy)
	members := l.members(f, self)
	var err error
	if p.roots, err = authority.Roots(ctx, p.policy); err != nil {
		return p, &status.Failure{Reason: status.ReasonCAUnavailable, Message: err.Error()}
	}
	p.Decision = trust.Decide(p.policy, p.roots, members, l.now())
	newest := p.roots[len(p.roots)-1]
	if !p.Make || !inUse(newest, members) {
		return p, nil
	}
	made, err := authority.MakeRoot(ctx, p.policy, newest)
	if err != nil {
		// All goes on with the roots that there are.
		l.log.Info("cannot make the next root CA", "network", f.network.Name, "error", err.Error())
		p.Blockers = append(p.Blockers, trust.Blocker{Reason: trust.BlockedVault, Message: shortened(err.Error())})
		p.retry = l.now().Add(vaultRetry)
		return p, nil
	}
	p.roots = append(p.roots, made)
	p.Decision = trust.Decide(p.policy, p.roots, members, l.now())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark(f.network.Name)
	return p, nil
}

// still returns where the network was at the last look, if nothing has changed since,
// and the member that asks is as it was then: so that a thousand members that ask one
// after the other are not a thousand decisions about a thousand members.
func (l *ledger) still(f following, self trust.Observed) (position, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := l.page(f.network.Name)
	if page.position == nil || l.dirty[f.network.Name] || *page.follows != f || !page.until.IsZero() && !l.now().Before(page.until) {
		return position{}, false
	}
	seen, known := page.members[types.NamespacedName{Namespace: f.fleet.Namespace, Name: self.Member}]
	return *page.position, known && sameAs(seen, self)
}

// sameAs says whether a member is as its status told. What was issued is compared by
// what it is: times in a status have seconds only.
func sameAs(seen, self trust.Observed) bool {
	a, b := seen.Issued, self.Issued
	if a == nil || b == nil || a.Serial != b.Serial || a.Signer != b.Signer ||
		!slices.Equal(slices.Sorted(maps.Keys(a.Trusts)), slices.Sorted(maps.Keys(b.Trusts))) {
		return false
	}
	seen.Issued, self.Issued = nil, nil
	return reflect.DeepEqual(seen, self)
}

// inUse says whether some member was given a root. Whatever a decision says, a root
// that nobody has is not replaced by the next: with a clock that is wrong there would
// be no end of them.
func inUse(root trust.Root, members []trust.Observed) bool {
	return slices.ContainsFunc(members, func(m trust.Observed) bool {
		if m.Issued == nil {
			return false
		}
		_, trusts := m.Issued.Trusts[root.Trusts()]
		return trusts
	})
}

// follow remembers what the members of a network follow.
func (l *ledger) follow(f following) {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := l.page(f.network.Name)
	if page.follows == nil || page.follows.network != f.network {
		page.follows = &f
		l.mark(f.network.Name)
	}
}

// members are all of a network, sorted by name.
func (l *ledger) members(f following, self *trust.Observed) []trust.Observed {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := l.page(f.network.Name)
	out := make([]trust.Observed, 0, len(page.members)+1)
	for _, name := range slices.SortedFunc(maps.Keys(page.members), func(a, b types.NamespacedName) int {
		return strings.Compare(a.Name, b.Name)
	}) {
		if self == nil || name.Name != self.Member {
			out = append(out, page.members[name])
		}
	}
	if self != nil {
		out = append(out, *self)
	}
	if f.elsewhere {
		// Nothing is known of them here, so no root can be replaced from here.
		out = append(out, trust.Observed{Member: "members on other hubs"})
	}
	return out
}

// wakeAll has all members of a network looked at: what they are to have has changed
// for another reason than a root.
func (l *ledger) wakeAll(network string) {
	l.mu.Lock()
	names := slices.Collect(maps.Keys(l.page(network).members))
	l.mu.Unlock()
	go func() {
		for _, name := range names {
			l.wakes.member(name)
		}
	}()
}

// run looks at networks whose members have changed, or whose time has come, and
// wakes those of which something else is wanted now.
func (l *ledger) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.changed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
		for _, network := range l.takeDirty() {
			l.look(ctx, network)
		}
	}
}

func (l *ledger) takeDirty() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Sorted(maps.Keys(l.dirty))
	clear(l.dirty)
	return out
}

func (l *ledger) look(ctx context.Context, network string) {
	l.mu.Lock()
	f := l.page(network).follows
	l.mu.Unlock()
	if f == nil {
		return
	}
	p, failure := l.where(ctx, *f, nil)
	if failure != nil {
		return // members tell of it themselves
	}
	members, step := l.tell(network, p)
	for _, name := range members {
		l.wakes.member(name)
	}
	if step {
		l.wakes.fleet(f.fleet)
	}
}

// tell finds members that are to do something else than when they were last woken,
// and whether the step is another one.
func (l *ledger) tell(network string, p position) (members []types.NamespacedName, step bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := l.page(network)
	for name := range page.members {
		target := describe(p, name.Name)
		if before, known := page.told[name]; known && before != target {
			members = append(members, name)
		}
		page.told[name] = target
	}
	now := fmt.Sprint(p.Step, p.Why, p.NextAt.Unix(), p.Blockers)
	step, page.step = page.step != "" && page.step != now, now
	if page.alarm != nil {
		page.alarm.Stop()
	}
	at := p.NextAt
	for _, b := range p.Blockers {
		if !b.Until.IsZero() && (at.IsZero() || b.Until.Before(at)) {
			at = b.Until
		}
	}
	if !p.retry.IsZero() && (at.IsZero() || p.retry.Before(at)) {
		at = p.retry
	}
	page.position, page.until = &p, at
	if !at.IsZero() {
		page.alarm = time.AfterFunc(max(at.Sub(l.now()), settle), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.mark(network)
		})
	}
	return members, step
}

// describe is a member's target as a text that changes with it.
func describe(p position, member string) string {
	target, known := p.Target(member)
	if !known {
		return "unknown"
	}
	text := string(target.Signer.Signs())
	for _, root := range target.Trusts {
		text += "," + string(root.Trusts())
	}
	return text + "," + target.RestartAfter.String()
}
