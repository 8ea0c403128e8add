package reconciler

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/keyvault"
)

// TestDriftMakesNoSeries: the metrics after a thousand events of drift on a
// thousand objects are those after the first one.
func TestDriftMakesNoSeries(t *testing.T) {
	m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: "series-1"}}
	t.Cleanup(func() { forgetMember(m.Name) })
	c := &connection{drifted: map[apply.Subject]time.Time{}}
	r := newReport(nil, &record.FakeRecorder{}, m)
	drift := func(i int) {
		r.drifted(c, apply.Result{Changes: []apply.Change{{
			Subject: apply.Subject{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: fmt.Sprintf("some-object-%d", i)},
			Action:  apply.Configured, By: fmt.Sprintf("some-manager-%d", i),
		}}}, work{repeat: true})
		observeMember(m)
	}
	drift(0)
	before := series(t)
	for i := range 1000 {
		drift(i + 1)
	}
	after := series(t)
	if len(after) != len(before) || len(before) == 0 {
		t.Errorf("%d series, before %d", len(after), len(before))
	}
	for _, labels := range after {
		if strings.Contains(labels, "some-") {
			t.Errorf("a series for an object or a manager: %s", labels)
		}
	}
	if m.Status.Drift == nil || m.Status.Drift.Corrected != 1001 {
		t.Errorf("drift in status: %+v", m.Status.Drift)
	}
}

// series are the names and labels of all series.
func series(t *testing.T) []string {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			out = append(out, fmt.Sprint(family.GetName(), metric.GetLabel()))
		}
	}
	return out
}

// An alert compares the time that a certificate is due with now, so it has to be
// there from the status alone, for a member that is away.
func TestCertificateIsDue(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	certificate := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: made, NotAfter: made.Add(100 * time.Hour)}
	m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: "due"}}
	m.Status.Certificates = []v1alpha1.CertificateStatus{certificateStatus("Intermediate", certificate, trust.Lifetime{RotateAt: 0.4})}
	observeMember(m)
	if got, want := dueOf(t, m.Name), []float64{float64(made.Add(40 * time.Hour).Unix())}; !slices.Equal(got, want) {
		t.Errorf("due at %v, want %v", got, want)
	}
	forgetMember(m.Name)
	if got := dueOf(t, m.Name); len(got) != 0 {
		t.Errorf("a member that went is still due at %v", got)
	}
}

// dueOf returns when certificates of a member are due, as metrics have it.
func dueOf(t *testing.T, member string) []float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []float64
	for _, family := range families {
		if family.GetName() != "isthmus_ca_cert_renewal_timestamp_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "member" && label.GetValue() == member {
					out = append(out, metric.GetGauge().GetValue())
				}
			}
		}
	}
	return out
}

// A network that is gone is not counted on, and what is asked of one vault does not
// hide that another one does not answer.
func TestMetricsOfNetworksAndVaults(t *testing.T) {
	network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "went-away"}}
	network.Status.Trust = &v1alpha1.NetworkTrustStatus{Step: "TrustBoth", Blockers: []v1alpha1.TrustBlocker{{Reason: "Waiting"}}}
	count := func(part string) (n int) {
		for _, labels := range series(t) {
			if strings.Contains(labels, part) {
				n++
			}
		}
		return n
	}
	observeNetwork(network)
	if n := count("went-away"); n != 2 {
		t.Fatalf("%d series of the network", n)
	}
	newLedger(newVaults(nil, Options{}, nil), Options{}, nil).turns().OnDelete(network)
	if n := count("went-away"); n != 0 {
		t.Errorf("%d series of a network that is gone", n)
	}

	v := newVaults(nil, Options{KeyVault: keyvault.Options{
		Credential: noToken{}, HTTP: &http.Client{Transport: noAnswer{}}, Timeout: time.Second,
	}}, nil)
	for _, host := range []string{"one-of-two.vault.azure.net", "two-of-two.vault.azure.net"} {
		network := &v1alpha1.ApplicationNetwork{}
		network.Spec.Trust.Vault = v1alpha1.Vault{Type: v1alpha1.VaultKeyVault, URL: "https://" + host}
		authority, failure := v.of(t.Context(), network)
		if failure != nil {
			t.Fatal(failure)
		}
		if _, err := authority.Roots(t.Context(), policyOf(network, 0)); err == nil {
			t.Fatal("a vault that does not answer has roots")
		}
		if n := count("isthmus_keyvault_requests_total"); count(host) == 0 {
			t.Errorf("none of %d series is of %s", n, host)
		}
	}
}

// noToken is a login, noAnswer a network that leads nowhere.
type noToken struct{}

func (noToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

type noAnswer struct{}

func (noAnswer) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no answer") }
