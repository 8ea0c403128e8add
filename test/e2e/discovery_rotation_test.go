package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/test/rig"
	"github.com/isthmus-mesh/isthmus/test/xds"
)

// rotateFor is how long tokens are replaced without a pause: ISTHMUS_ROTATE, else as
// long as a run of all tests has time for.
var rotateFor = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("ISTHMUS_ROTATE")); err == nil && d > 0 {
		return d
	}
	return 2 * time.Minute
}()

// TestPeerRotation replaces the tokens by which the real istiods of two releases read
// each other, again and again, while services come and go. Who watches an istiod never
// sees a service without its pods in the other network; old anchors go; and no istiod
// is ever refused, not even when it has to connect anew.
func TestPeerRotation(t *testing.T) {
	t.Parallel() // it mostly waits
	p := newPeers(t, map[string]string{east: oneRelease, west: otherRelease})
	for _, name := range names(p.rig) {
		check(t, install(t.Context(), p.clients[name], "cart", global, 2))
		check(t, install(t.Context(), p.clients[name], "probe-"+name, global, 1))
	}
	r := startRotation(t, p)
	churning, stop := context.WithCancel(t.Context())
	var churn sync.WaitGroup
	t.Cleanup(func() { stop(); churn.Wait() })
	for _, name := range names(p.rig) {
		churn.Go(func() { r.churn(churning, t, name) })
	}
	for began := time.Now(); time.Since(began) < rotateFor; {
		r.rotate(t)
	}
	t.Logf("%d times all tokens were replaced; a commit until all istiods read by new ones: %s", len(r.took), quantiles(r.took))
	r.probe(t, "after the last of them", 2)
	r.oldAnchorsGo(t)
	r.probe(t, "without the old anchors", 3)
	stop()
	churn.Wait()
	r.connectAnew(t)
	r.probe(t, "after their API servers started anew", 4)
	r.end(t)
}

// rotation is what is watched meanwhile.
type rotation struct {
	*peers
	last time.Time
	took []time.Duration
	// pods are those that kubelets run istiod in, by member.
	pods map[string]string

	mu     sync.Mutex
	events map[string]int // by reader
	losses []string
	churns int
}

// startRotation watches, on each istiod, how cart is reached in the other network.
func startRotation(t *testing.T, p *peers) *rotation {
	t.Helper()
	r := &rotation{peers: p, events: map[string]int{}, pods: map[string]string{}}
	for _, reader := range names(p.rig) {
		other := p.others(reader)[0]
		always := reaches(hostname("cart"), map[string]far{p.networks[other]: {p.gateway(t, other), 15008, 2}})
		p.wait(t, reader, always)
		istiod, err := p.rig.Members[reader].WaitIstiod(t.Context(), system, p.releases[reader])
		check(t, err)
		r.pods[reader] = istiod.Pod
		p.watch(t, reader, func(at time.Time, s *xds.State) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events[reader]++
			if err := always(s); err != nil && len(r.losses) < 20 {
				r.losses = append(r.losses, fmt.Sprintf("%s %s: %v", at.Format("15:04:05.000"), reader, err))
			}
		})
	}
	return r
}

// churn makes and deletes, scales, labels and unlabels services on a member, until
// ctx ends.
func (r *rotation) churn(ctx context.Context, t *testing.T, name string) {
	const services = 5
	c := r.clients[name]
	for i := range services {
		if err := install(ctx, c, fmt.Sprintf("churn-%d", i), global, 1); err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
	}
	for turn := 0; ctx.Err() == nil; turn++ {
		service := fmt.Sprintf("churn-%d", turn%services)
		passing := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "passing", Labels: global},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "cart"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		var err error
		switch turn % 4 {
		case 0:
			err = scale(ctx, c, service, int32(turn/4%4))
		case 1:
			err = label(ctx, c, service, turn/4%2 == 0)
		case 2:
			err = c.Create(ctx, passing)
		case 3:
			err = c.Delete(ctx, passing)
		}
		if err != nil && ctx.Err() == nil {
			t.Errorf("churn on %s: %v", name, err)
			return
		}
		r.mu.Lock()
		r.churns++
		r.mu.Unlock()
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// rotate has all tokens replaced by a commit, and returns when all readers have others,
// on other anchors, with which their istiods say that they read their peers.
func (r *rotation) rotate(t *testing.T) {
	t.Helper()
	time.Sleep(time.Until(r.last.Add(time.Second))) // an anchor's name has seconds
	start := time.Now()
	r.last = start.Truncate(time.Second)
	r.discover(t, fmt.Sprintf("credentials: {replaceIssuedBefore: %q}", r.last.UTC().Format(time.RFC3339)))
	for _, reader := range names(r.rig) {
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			m, err := r.rig.Member(t.Context(), reader)
			if err != nil {
				return err
			}
			for _, one := range m.Status.Discovery.GetPeers() {
				if one.State != v1alpha1.PeerSynced || one.Credential == nil || one.Credential.Anchor != r.anchor(reader) {
					return fmt.Errorf("%s reads %s by %+v: %s %s", reader, one.Name, one.Credential, one.Reason, one.Message)
				}
			}
			return nil
		}))
	}
	r.took = append(r.took, time.Since(start))
}

// anchor is the name of a reader's anchor now.
func (r *rotation) anchor(reader string) string {
	return peering.Anchor(reader, v1alpha1.PeerCredentials{ReplaceIssuedBefore: &metav1.Time{Time: r.last}}, "", r.last)
}

// probe changes a service on each member and waits until the others have told: what
// they tell is not of before.
func (r *rotation) probe(t *testing.T, when string, pods int32) {
	t.Helper()
	var took []time.Duration
	for _, owner := range names(r.rig) {
		service := "probe-" + owner
		after := reaches(hostname(service), map[string]far{r.networks[owner]: {r.gateway(t, owner), 15008, uint32(pods)}})
		took = append(took, r.timed(t, func(ctx context.Context) error { return scale(ctx, r.clients[owner], service, pods) }, toAll(r.others(owner), after))...)
	}
	t.Logf("a change %s, until the others' istiods told: %s", when, quantiles(took))
}

// oldAnchorsGo waits until each member has one anchor for its reader: that of the last
// token, which has to be so old that istiod has it.
func (r *rotation) oldAnchorsGo(t *testing.T) {
	t.Helper()
	started, most := time.Now(), 0
	for _, name := range names(r.rig) {
		reader := r.others(name)[0]
		check(t, rig.Eventually(t.Context(), peering.Grace+3*time.Minute, func() error {
			if time.Since(started) > peering.Grace {
				check(t, lookAgain(t.Context(), r.rig, name)) // who deletes an anchor looks by itself within minutes
			}
			time.Sleep(time.Second)
			has, err := r.anchorsIn(t.Context(), name)
			most = max(most, len(has))
			if err == nil && !slices.Equal(has, []string{r.anchor(reader)}) {
				err = fmt.Errorf("%s has the anchors %q", name, has)
			}
			return err
		}))
	}
	t.Logf("%d anchors in a member became one %s after the last commit", most, time.Since(r.last).Round(time.Second))
	if most < 2 {
		t.Errorf("there were never old anchors")
	}
}

// anchorsIn are the names of a member's anchors, sorted.
func (r *rotation) anchorsIn(ctx context.Context, name string) ([]string, error) {
	var all corev1.SecretList
	if err := r.clients[name].List(ctx, &all, client.InNamespace(system)); err != nil {
		return nil, err
	}
	var out []string
	for _, secret := range all.Items {
		if strings.HasPrefix(secret.Name, peering.AnchorPrefix) {
			out = append(out, secret.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// connectAnew starts the members' API servers anew, one after another: all of istiods'
// watches end and are begun by the token that istiod has then.
func (r *rotation) connectAnew(t *testing.T) {
	t.Helper()
	for _, name := range names(r.rig) {
		r.rig.Members[name].StopAPIServer()
		check(t, r.rig.Members[name].StartAPIServer(t.Context()))
	}
}

// refused is how client-go says in istiod's log that its token was not taken.
var refused = regexp.MustCompile(`(?i)unauthorized`)

// end tells what was seen, and fails for what must not be.
func (r *rotation) end(t *testing.T) {
	t.Helper()
	for _, reader := range names(r.rig) {
		if err := r.watches[reader].Err(); err != nil {
			t.Errorf("the watch of %s ended: %v", reader, err)
		}
		lines, err := matching(filepath.Join(r.rig.Logs(), reader+"-"+r.pods[reader]+".log"), refused)
		check(t, err)
		if len(lines) > 0 {
			t.Errorf("istiod of %s was refused %d times, first: %s", reader, len(lines), lines[0])
		}
		metrics := r.syncMetrics(t, reader)
		t.Logf("istiod %s of %s says:\n\t%s", r.releases[reader], reader, strings.Join(metrics, "\n\t"))
		if synced := fmt.Sprintf(`istiod_remote_cluster_sync_status{cluster=%q,cluster_type="remote",status="synced"} 1`, r.others(reader)[0]); !slices.Contains(metrics, synced) {
			t.Errorf("the metrics of %s do not have %s", reader, synced)
		}
		r.watch(t, reader, nil) // closes the other one
	}
	t.Logf("%d changes of other services; states seen: %v; losses: %d", r.churns, r.events, len(r.losses))
	for _, loss := range r.losses {
		t.Error(loss)
	}
	for reader, n := range r.events {
		if n < len(r.took) {
			t.Errorf("%s saw %d states only", reader, n)
		}
	}
}

// matching are the lines of a file that match.
func matching(path string, expression *regexp.Regexp) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var out []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if expression.MatchString(lines.Text()) {
			out = append(out, lines.Text())
		}
	}
	return out, lines.Err()
}

// syncMetrics is what an istiod's metrics say of the clusters that it reads.
func (r *rotation) syncMetrics(t *testing.T, name string) []string {
	t.Helper()
	istiod, err := r.rig.Members[name].WaitIstiod(t.Context(), system, r.releases[name])
	check(t, err)
	response, err := http.Get(istiod.Monitoring + "/metrics")
	check(t, err)
	page, err := io.ReadAll(response.Body)
	check(t, errors.Join(err, response.Body.Close()))
	var out []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "istiod_remote_cluster_") || strings.HasPrefix(line, "remote_cluster_") || strings.HasPrefix(line, "istiod_managed_clusters") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
