package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/rig"
	"github.com/isthmus-mesh/isthmus/test/xds"
)

// peers is a fleet whose members discover each other, each with a real istiod and a
// watch of what that tells its data plane.
type peers struct {
	rig     *rig.Rig
	process *process
	// releases and networks by member.
	releases, networks map[string]string
	clients            map[string]client.WithWatch
	watches            map[string]*xds.Watch
	// whole test: watches outlive its parts.
	whole *testing.T
}

// newPeers starts the members that have a release, each on a network of its own,
// and waits until all have discovered each other.
func newPeers(t *testing.T, releases map[string]string) *peers {
	t.Helper()
	p := startPeers(t, releases)
	p.allFound(t, time.Minute)
	for _, name := range names(p.rig) {
		p.watch(t, name, nil)
	}
	return p
}

func startPeers(t *testing.T, releases map[string]string) *peers {
	t.Helper()
	members := slices.Sorted(maps.Keys(releases))
	istiods := slices.Sorted(maps.Values(releases))
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{
		Members: members, Istiods: slices.Compact(istiods), LogDir: logDir(t), Progress: os.Stderr,
	})
	check(t, err)
	t.Cleanup(r.Stop)
	p := &peers{rig: r, releases: releases, networks: map[string]string{}, clients: map[string]client.WithWatch{}, watches: map[string]*xds.Watch{}, whole: t}
	for _, name := range members {
		p.networks[name] = "net-of-" + name
		p.writeMember(t, name)
		p.clients[name], err = r.ClientOf(name)
		check(t, err)
	}
	commit := p.discover(t, "")
	p.process = start(t, r, nil)
	check(t, r.Follow(t.Context(), time.Second))
	check(t, r.WaitApplied(t.Context(), commit, 4*time.Minute))
	return p
}

// discover pushes the network with what is to be in its spec.discovery.
func (p *peers) discover(t *testing.T, discovery string) string {
	t.Helper()
	check(t, p.rig.Repository.Write(network, `apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec:
  namespaces: [{name: shop, ambient: true}]
  discovery: {`+discovery+`}
`))
	return push(t, p.rig, "Discovery: "+discovery)
}

func (p *peers) writeMember(t *testing.T, name string) {
	t.Helper()
	check(t, p.rig.Repository.Write(memberFile(name), fmt.Sprintf(`apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: %[1]s}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: %[1]s}}
  connectivity: {network: %[2]s}
  upgrade: {mode: SelfManaged, version: %[3]q}
`, name, p.networks[name], p.releases[name])))
}

// allFound waits until each of some members has read all of its peers; by default
// all members.
func (p *peers) allFound(t *testing.T, timeout time.Duration, members ...string) {
	t.Helper()
	if members == nil {
		members = names(p.rig)
	}
	for _, name := range members {
		check(t, rig.Eventually(t.Context(), timeout, func() error {
			m, err := p.rig.Member(t.Context(), name)
			if err != nil || apimeta.IsStatusConditionTrue(m.Status.Conditions, "PeersReady") {
				return err
			}
			return fmt.Errorf("%s: %s", name, rig.Condition(m.Status.Conditions, "PeersReady"))
		}))
	}
}

// watch starts a watch of a member's istiod, in place of the one that there was.
func (p *peers) watch(t *testing.T, name string, changed func(time.Time, *xds.State)) {
	t.Helper()
	if old := p.watches[name]; old != nil {
		old.Close()
	}
	istiod, err := p.rig.Members[name].WaitIstiod(t.Context(), system, p.releases[name])
	check(t, err)
	address, ok := istiod.Address(15010)
	if !ok {
		t.Fatalf("istiod of %s does not listen on 15010", name)
	}
	p.watches[name], err = xds.Open(context.WithoutCancel(t.Context()), xds.Options{Address: address, Changed: changed})
	check(t, err)
	p.whole.Cleanup(p.watches[name].Close)
}

// gateway is the address that the cloud gave to a member's east-west gateway.
func (p *peers) gateway(t *testing.T, name string) string {
	t.Helper()
	var service corev1.Service
	check(t, p.clients[name].Get(t.Context(), client.ObjectKey{Namespace: system, Name: "istio-eastwestgateway"}, &service))
	if len(service.Status.LoadBalancer.Ingress) == 0 {
		t.Fatalf("the gateway of %s has no address", name)
	}
	return service.Status.LoadBalancer.Ingress[0].IP
}

// hostname of a service of namespace shop, as istiod names it.
func hostname(service string) string { return "shop/" + service + ".shop.svc.cluster.local" }

// install makes a service on a member, with as many pods.
func install(ctx context.Context, c client.Client, name string, labels map[string]string, replicas int32) error {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels}
	app := map[string]string{"app": name}
	return errors.Join(
		c.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}),
		c.Create(ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Selector: app, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		}}),
		c.Create(ctx, &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec: appsv1.DeploymentSpec{
				Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: app},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: app},
					Spec: corev1.PodSpec{
						ServiceAccountName: name, TerminationGracePeriodSeconds: ptr.To[int64](0),
						Containers: []corev1.Container{{Name: "app", Image: "example.com/app:1"}},
					},
				},
			},
		}),
	)
}

// scale sets how many pods a service has on a member.
func scale(ctx context.Context, c client.Client, name string, replicas int32) error {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	return c.Patch(ctx, d, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)))
}

// label says whether a service on a member is for others to discover.
func label(ctx context.Context, c client.Client, name string, global bool) error {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	return c.Patch(ctx, s, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{"istio.io/global":"%t"}}}`, global)))
}

var global = map[string]string{"istio.io/global": "true"}

// far is how a service is reached in another network: a member's gateway, and how
// many pods are behind it.
type far struct {
	gateway string
	port    uint32
	pods    uint32
}

// farOf returns how a service is reached in other networks, by network.
func farOf(s *xds.State, service string) map[string]far {
	out := map[string]far{}
	for _, w := range s.Of(service) {
		if gateway := w.GetNetworkGateway(); gateway != nil {
			out[w.GetNetwork()] = far{addressOf(gateway.GetAddress().GetAddress()), gateway.GetHboneMtlsPort(), w.GetCapacity().GetValue()}
		}
	}
	return out
}

func addressOf(raw []byte) string {
	address, _ := netip.AddrFromSlice(raw)
	return address.String()
}

// reaches is a condition: a service is reached in exactly these other networks.
func reaches(service string, want map[string]far) func(*xds.State) error {
	return func(s *xds.State) error {
		if got := farOf(s, service); !maps.Equal(got, want) {
			return fmt.Errorf("%s is reached at %v, want %v", service, got, want)
		}
		return nil
	}
}

// wait waits until what a member's istiod tells is so.
func (p *peers) wait(t *testing.T, name string, condition func(*xds.State) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.watches[name].Wait(ctx, condition); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// timed makes a change, and returns how long it took until each reader's istiod
// had told what it has to tell then. That must not have been so before.
func (p *peers) timed(t *testing.T, change func(context.Context) error, after map[string]func(*xds.State) error) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	start, took := time.Now(), make(chan time.Duration, len(after))
	var group errgroup.Group
	for name, condition := range after {
		group.Go(func() error {
			at, err := p.watches[name].Wait(ctx, condition)
			if err == nil && at.Before(start) {
				err = errors.New("it was so before the change")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			took <- at.Sub(start)
			return nil
		})
	}
	check(t, errors.Join(change(ctx), group.Wait()))
	close(took)
	return slices.Collect(func(yield func(time.Duration) bool) {
		for d := range took {
			if !yield(d) {
				return
			}
		}
	})
}

// quantiles in a line.
func quantiles(all []time.Duration) string {
	if len(all) == 0 {
		return "never"
	}
	slices.Sort(all)
	return fmt.Sprintf("p50 %s, p95 %s, worst %s of %d",
		all[len(all)/2].Round(time.Millisecond), all[len(all)*95/100].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all))
}

// others are all members but one, sorted.
func (p *peers) others(name string) []string {
	return slices.DeleteFunc(names(p.rig), func(other string) bool { return other == name })
}

// credential is what a reader has for a peer.
func (p *peers) credential(t *testing.T, reader, peer string) (*corev1.Secret, error) {
	t.Helper()
	secret := &corev1.Secret{}
	return secret, p.clients[reader].Get(t.Context(), client.ObjectKey{Namespace: system, Name: "istio-remote-secret-" + peer}, secret)
}
