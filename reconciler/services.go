package reconciler

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

const (
	// ServicesLabel is on the ConfigMaps of the hub that have what is known of a
	// member's services; its value is the network. ServicesPrefix and the member's
	// name are theirs, and ServicesKey is the one entry.
	ServicesLabel, ServicesPrefix, ServicesKey = "isthmus.dev/services", "isthmus-services-", "view"

	// viewEvery is how often istiod is asked what it serves when nothing is expected to
	// change. What is expected is looked for after pauses that double from the first to
	// the longest; while a peer is being read to a shorter longest.
	viewEvery                             = 10 * time.Minute
	viewFirst, viewSyncing, viewUnsettled = 2 * time.Second, time.Minute, viewEvery
	// viewTimeout of one look, and how often at most what it found is written.
	viewTimeout, viewWritten = 30 * time.Second, time.Minute
	// maxServiceProblems of a member's status.
	maxServiceProblems = 20
	// anyService stands for a problem of all services of a member.
	anyService = "*"
)

// viewPace says when a member's istiod is to be asked what it serves. The zero value
// asks at once.
type viewPace struct {
	pace
	written time.Time
	// requested is the last request of a person that was followed.
	requested string
}

// changed takes what a delivery did: what it changed may change what is served.
func (p *viewPace) changed(changes []apply.Change) {
	if slices.ContainsFunc(changes, func(c apply.Change) bool { return c.Action != apply.Unchanged }) {
		p.pace = pace{}
	}
}

// due says whether istiod is to be asked now, at the latest request of a person.
func (p *viewPace) due(now time.Time, requested string) bool {
	due := p.pace.due(now) || requested != p.requested
	p.requested = requested
	return due
}

// took takes what a look makes of the member: longest is how long to wait at most for
// what is expected to change, 0 for nothing.
func (p *viewPace) took(now time.Time, longest time.Duration) {
	if longest == 0 {
		p.settled(now, viewEvery)
		return
	}
	p.slower(now, viewFirst, longest)
}

// lookAtServices asks the member's istiod what it serves, when that is due, and puts
// into the member's status what is to be changed so that services are reached. It
// returns how soon to look again.
func (r *memberReconciler) lookAtServices(ctx context.Context, c *connection, m *v1alpha1.Member, want desired) time.Duration {
	now := r.now()
	if !c.view.due(now, m.Annotations[meta.ReconcileRequestAnnotation]) {
		return c.view.next.Sub(now)
	}
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	look, err := istiod.View(ctx, c.member, istiod.Question{Member: m.Name, Namespace: c.mesh.SystemNamespace, Exports: want.network.Spec.Discovery.Exports})
	if err == nil {
		err = r.tellServices(ctx, c, m, look.View)
	}
	if err != nil {
		c.view.took(r.now(), viewUnsettled)
		tellUnknown(ctx, m, err)
	}
	return max(c.view.next.Sub(r.now()), soon)
}

// tellServices makes the hub know what a look found.
func (r *memberReconciler) tellServices(ctx context.Context, c *connection, m *v1alpha1.Member, view peering.View) error {
	members, err := r.views.members(ctx, m, view)
	if err != nil {
		return err
	}
	problems := peering.Join(members).Problems(m.Name)
	setServices(m, len(view.Exports.Services), problems)
	observeServices(m.Name, len(view.Exports.Services), problems)
	now := r.now()
	c.view.took(now, expected(m, problems))
	if wait := c.view.written.Add(viewWritten).Sub(now); wait > 0 {
		c.view.next = now.Add(min(c.view.next.Sub(now), max(wait, viewFirst)))
		return nil
	}
	changed, err := r.views.write(ctx, m, view)
	if changed {
		c.view.written = now
	}
	return err
}

// expected is how long to wait at most for what will change by itself, 0 for nothing.
func expected(m *v1alpha1.Member, problems []peering.Problem) time.Duration {
	longest := time.Duration(0)
	for _, p := range problems {
		if p.Reason == peering.NotServed || p.Reason == peering.NoGateway {
			longest = viewUnsettled
		}
	}
	for _, p := range m.Status.Discovery.GetPeers() {
		if p.State == v1alpha1.PeerSyncing {
			longest = viewSyncing
		}
	}
	return longest
}

// tellUnknown says why nothing is known, where the member's conditions do not.
func tellUnknown(ctx context.Context, m *v1alpha1.Member, err error) {
	log.FromContext(ctx).V(1).Info("services are not known", "member", m.Name, "reason", err.Error())
	if !errors.Is(err, istiod.ErrClosed) && member.ReasonOf(err) != member.AccessDenied {
		return
	}
	services := 0
	if m.Status.Discovery != nil {
		services = int(m.Status.Discovery.Services)
	}
	setServices(m, services, []peering.Problem{{Service: anyService, Reason: peering.NotAsked, Message: "what istiod serves is not known: " + err.Error()}})
}

func setServices(m *v1alpha1.Member, services int, problems []peering.Problem) {
	if m.Status.Discovery == nil {
		if services == 0 && len(problems) == 0 {
			return
		}
		m.Status.Discovery = &v1alpha1.DiscoveryStatus{}
	}
	d := m.Status.Discovery
	d.Services, d.ProblemCount, d.Problems = int32(services), int32(len(problems)), nil //nolint:gosec // G115: counts.
	for _, p := range problems[:min(len(problems), maxServiceProblems)] {
		d.Problems = append(d.Problems, v1alpha1.ServiceProblem{Service: p.Service, Reason: p.Reason, Message: p.Message})
	}
}

// views are what is known of the services of all members, as the hub has it.
type views struct {
	hub    client.Client
	roster *roster
	// synced says whether the cache has the hub's ConfigMaps.
	synced func(context.Context) bool

	mu   sync.Mutex
	read map[types.NamespacedName]readView
}

// newViews does not wait for the hub's ConfigMaps: without the right to read them
// members are still worked on.
func newViews(hub client.Client, kept cache.Cache, members *roster) *views {
	return &views{hub: hub, roster: members, read: map[types.NamespacedName]readView{}, synced: func(ctx context.Context) bool {
		informer, err := kept.GetInformer(ctx, &corev1.ConfigMap{}, cache.BlockUntilSynced(false))
		return err == nil && informer.HasSynced()
	}}
}

// readView is a view that was read, and from which version of its ConfigMap. What the
// member sees of others is not kept: of a hundred members it is ten thousand lists.
type readView struct {
	version string
	view    *peering.View
}

// members of a member's network that do not leave, with what is known of them; of
// itself that is the view.
func (v *views) members(ctx context.Context, m *v1alpha1.Member, view peering.View) ([]peering.Member, error) {
	if !v.synced(ctx) {
		return nil, errors.New("the hub's ConfigMaps are not read yet")
	}
	all, err := v.roster.network(ctx, m)
	if err != nil {
		return nil, err
	}
	out := []peering.Member{}
	for _, other := range all {
		if !other.DeletionTimestamp.IsZero() || other.Name == m.Name {
			continue
		}
		known, err := v.of(ctx, client.ObjectKeyFromObject(other))
		if err != nil {
			return nil, err
		}
		out = append(out, peering.Member{Name: other.Name, View: known, Peers: other.Status.Discovery.GetPeers()})
	}
	return append(out, peering.Member{Name: m.Name, View: &view, Peers: m.Status.Discovery.GetPeers()}), nil
}

// of reads what is known of one member; nil for nothing, and for what cannot be read.
func (v *views) of(ctx context.Context, name types.NamespacedName) (*peering.View, error) {
	var found corev1.ConfigMap
	err := v.hub.Get(ctx, types.NamespacedName{Namespace: name.Namespace, Name: ServicesPrefix + name.Name}, &found, client.UnsafeDisableDeepCopy)
	v.mu.Lock()
	defer v.mu.Unlock()
	if apierrors.IsNotFound(err) {
		delete(v.read, name)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if known, ok := v.read[name]; ok && known.version == found.ResourceVersion {
		return known.view, nil
	}
	known := readView{version: found.ResourceVersion}
	if view, err := peering.DecodeView(found.BinaryData[ServicesKey]); err == nil {
		view.Sees = nil
		known.view = &view
	}
	v.read[name] = known
	return known.view, nil
}

// write puts a member's view into the hub, if that has another, and says whether it
// did.
func (v *views) write(ctx context.Context, m *v1alpha1.Member, view peering.View) (bool, error) {
	text, err := view.Encode()
	if err != nil {
		return false, err
	}
	want := corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: m.Namespace, Name: ServicesPrefix + m.Name,
			Labels: map[string]string{ServicesLabel: m.Spec.ApplicationNetwork},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "Member", Name: m.Name, UID: m.UID,
			}},
		},
		BinaryData: map[string][]byte{ServicesKey: text},
	}
	var found corev1.ConfigMap
	err = v.hub.Get(ctx, client.ObjectKeyFromObject(&want), &found, client.UnsafeDisableDeepCopy)
	switch {
	case apierrors.IsNotFound(err):
		err = v.hub.Create(ctx, &want, client.FieldOwner(fieldManager))
	case err != nil:
	case string(found.BinaryData[ServicesKey]) == string(text) && maps.Equal(found.Labels, want.Labels) &&
		slices.Equal(uids(found.OwnerReferences), uids(want.OwnerReferences)):
		return false, nil
	default:
		want.ResourceVersion = found.ResourceVersion
		err = v.hub.Update(ctx, &want, client.FieldOwner(fieldManager))
	}
	return err == nil, err
}

func uids(owners []metav1.OwnerReference) []types.UID {
	var out []types.UID
	for _, o := range owners {
		out = append(out, o.UID)
	}
	return out
}
