package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	istio "istio.io/api/security/v1alpha1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// leafLife of the workloads of tests that wait for it, as rotations do. It stands for
// a day.
const leafLife = 20 * time.Second

// mesh is the workloads of all members: every second one in each member gets a
// certificate from the real CA API of its istiod, with the roots to trust, and has
// both until the certificate expires, or until the proxy that asked for it is gone:
// one of the member's node proxies, gateways and waypoints, in turn. All have to
// accept each other all the time.
type mesh struct {
	rig  *rig.Rig
	life time.Duration // of certificates
	stop context.CancelFunc
	all  sync.WaitGroup

	mu       sync.Mutex
	live     []workload
	asked    int
	checked  int
	answered map[string]time.Time // by member
	names    map[string]string    // of roots by DER: A, B, …
	served   map[string][]string  // what each member served, in turn
	failures []string
}

// workload is one with its certificate.
type workload struct {
	member string
	proxy  types.UID
	chain  []*x509.Certificate
	roots  []*x509.Certificate
	until  time.Time
}

// startMesh starts the workloads of members, with certificates that live so long.
func startMesh(t *testing.T, r *rig.Rig, life time.Duration) *mesh {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	m := &mesh{rig: r, life: life, stop: stop, names: map[string]string{}, served: map[string][]string{}, answered: map[string]time.Time{}}
	for name := range r.Members {
		asker, err := newAsker(t, r, name)
		check(t, err)
		m.all.Go(func() {
			for tick := time.NewTicker(time.Second); ctx.Err() == nil; {
				m.next(ctx, asker)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(func() { stop(); m.all.Wait() })
	return m
}

// asker gets certificates from one member's istiod.
type asker struct {
	rig    *rig.Rig
	member string
	admin  client.WithWatch
	token  string
	made   time.Time
	asked  int
}

func newAsker(t *testing.T, r *rig.Rig, member string) (*asker, error) {
	t.Helper()
	admin, err := r.ClientOf(member)
	if err != nil {
		return nil, err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "client"}}
	return &asker{rig: r, member: member, admin: admin}, client.IgnoreAlreadyExists(admin.Create(t.Context(), account))
}

// proxies are the pods of the member that have workloads' certificates: node proxies,
// and the gateways and waypoints that istiod runs.
func (a *asker) proxies(ctx context.Context) ([]types.UID, error) {
	var out []types.UID
	for _, of := range []client.ListOption{client.MatchingLabels{"app": "ztunnel"}, client.HasLabels{"gateway.networking.k8s.io/gateway-name"}} {
		var pods corev1.PodList
		if err := a.admin.List(ctx, &pods, of); err != nil {
			return nil, err
		}
		for i := range pods.Items {
			if pods.Items[i].DeletionTimestamp == nil {
				out = append(out, pods.Items[i].UID)
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no proxy runs")
	}
	return out, nil
}

// ask gets one certificate, as a proxy does: istiod has to show a certificate of the
// roots that the namespace has.
func (a *asker) ask(ctx context.Context, proxy types.UID, life time.Duration) (workload, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	w := workload{member: a.member, proxy: proxy}
	if time.Since(a.made) > 5*time.Minute {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "client"}}
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"istio-ca"}}}
		if err := a.admin.SubResource("token").Create(ctx, account, request); err != nil {
			return w, err
		}
		a.token, a.made = request.Status.Token, time.Now()
	}
	var published corev1.ConfigMap
	if err := a.admin.Get(ctx, client.ObjectKey{Namespace: "shop", Name: "istio-ca-root-cert"}, &published); err != nil {
		return w, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(published.Data["root-cert.pem"]))
	istiods := a.rig.Members[a.member].Istiods()
	if len(istiods) == 0 {
		return w, errors.New("no istiod runs")
	}
	address, _ := istiods[0].Address(15012)
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: roots, ServerName: "istiod." + system + ".svc",
	})))
	if err != nil {
		return w, err
	}
	defer conn.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return w, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return w, err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+a.token)
	answer, err := istio.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, &istio.IstioCertificateRequest{
		Csr: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})), ValidityDuration: int64(life.Seconds()),
	})
	if err != nil {
		return w, err
	}
	last := len(answer.GetCertChain()) - 1
	w.chain, w.roots = parsePEM(strings.Join(answer.GetCertChain()[:last], "\n")), parsePEM(answer.GetCertChain()[last])
	w.until = w.chain[0].NotAfter
	if w.chain[0].CheckSignatureFrom(w.chain[1]) != nil {
		// istiod takes its chain and its key one after the other: who asks while it
		// reads a new CA may get those of two.
		return w, errors.New("istiod has just read a new CA")
	}
	return w, nil
}

func parsePEM(text string) []*x509.Certificate {
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, certificate)
		}
	}
}

// next adds a workload and lets it and all others look at each other.
func (m *mesh) next(ctx context.Context, a *asker) {
	var w workload
	proxies, err := a.proxies(ctx)
	if err == nil {
		a.asked++
		w, err = a.ask(ctx, proxies[a.asked%len(proxies)], m.life)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	now := time.Now()
	if err != nil {
		// A proxy tries again; it is in need when its certificate runs out meanwhile.
		if last := m.answered[a.member]; ctx.Err() == nil && !last.IsZero() && now.Sub(last) > m.life {
			m.fail("%s: no certificate for %s: %v", a.member, now.Sub(last).Round(time.Second), err)
		}
		return
	}
	m.answered[a.member] = now
	m.live = slices.DeleteFunc(m.live, func(old workload) bool {
		return !now.Before(old.until) || old.member == a.member && !slices.Contains(proxies, old.proxy)
	})
	for _, other := range append(m.live, w) {
		m.accept(now, w, other)
		m.accept(now, other, w)
	}
	m.live = append(m.live, w)
	m.note(w)
}

// accept lets one workload verify another's certificate.
func (m *mesh) accept(now time.Time, verifier, peer workload) {
	m.checked++
	if err := verifier.verify(now, peer); err != nil {
		m.fail("%s, which trusts %s, refuses %s, signed under %s: %v", verifier.member, m.rootNames(verifier.roots), peer.member, m.signer(peer), err)
	}
}

func (w workload) verify(now time.Time, peer workload) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range w.roots {
		roots.AddCert(root)
	}
	for _, above := range peer.chain[1:] {
		between.AddCert(above)
	}
	_, err := peer.chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

func (m *mesh) fail(format string, args ...any) {
	if len(m.failures) < 20 {
		m.failures = append(m.failures, time.Now().Format("15:04:05 ")+fmt.Sprintf(format, args...))
	}
}

// note keeps what a member serves, when that has changed.
func (m *mesh) note(w workload) {
	line := fmt.Sprintf("trusts %s, signs under %s", m.rootNames(w.roots), m.signer(w))
	if all := m.served[w.member]; len(all) == 0 || all[len(all)-1] != line {
		m.served[w.member] = append(all, line)
	}
}

func (m *mesh) rootNames(roots []*x509.Certificate) string {
	var out []string
	for _, root := range roots {
		if m.names[string(root.Raw)] == "" {
			m.names[string(root.Raw)] = string(rune('A' + len(m.names)))
		}
		out = append(out, m.names[string(root.Raw)])
	}
	return strings.Join(out, "+")
}

// signer is the root behind a workload's certificate.
func (m *mesh) signer(w workload) string {
	for raw, name := range m.names {
		root, err := x509.ParseCertificate([]byte(raw))
		if err == nil && bytes.Equal(root.RawSubject, w.chain[1].RawIssuer) && w.chain[1].CheckSignatureFrom(root) == nil {
			return name
		}
	}
	return "?"
}

// end stops the workloads, prints what members served, and fails the test for each
// that was ever refused.
func (m *mesh) end(t *testing.T) map[string][]string {
	t.Helper()
	m.stop()
	m.all.Wait()
	t.Logf("%d certificates asked for, %d looks at peers", m.asked, m.checked)
	for _, name := range names(m.rig) {
		t.Logf("%s served:\n\t%s", name, strings.Join(m.served[name], "\n\t"))
	}
	if m.checked == 0 {
		t.Error("nobody ever looked at a peer")
	}
	for _, failure := range m.failures {
		t.Error(failure)
	}
	return m.served
}

// issuer is the serial number of the CA that a member's istiod signs with now.
func (m *mesh) issuer(member string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range slices.Backward(m.live) {
		if w.member == member {
			return w.chain[1].SerialNumber.Text(16)
		}
	}
	return ""
}

// workloads are those that live now.
func (m *mesh) workloads() []workload {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.live)
}
