package proof

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// ca is a CA of the tests, or a workload.
type ca struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issue makes a certificate; without an issuer it signs itself.
func issue(t *testing.T, name string, isCA bool, issuer *ca) ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if issuer == nil {
		issuer = &ca{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return ca{certificate, key}
}

type list = []*x509.Certificate

func TestJudge(t *testing.T) {
	a, b := issue(t, "A", true, nil), issue(t, "B", true, nil)
	underA, alsoA, underB := issue(t, "member", true, &a), issue(t, "member", true, &a), issue(t, "member", true, &b)
	leaf, other, ofB := issue(t, "leaf", false, &underA), issue(t, "leaf", false, &alsoA), issue(t, "leaf", false, &underB)
	fine := Replica{Pod: "istiod-1", Chain: list{leaf.certificate, underA.certificate}, Roots: list{a.certificate, b.certificate}}
	with := func(change func(*Replica)) Replica {
		r := fine
		r.Pod = "istiod-2"
		change(&r)
		return r
	}
	both := list{b.certificate, a.certificate} // in another order
	for _, tt := range []struct {
		reason string
		answer Answer
		at     time.Time
		roots  int
		issuer *x509.Certificate
		why    string
		// foreign, and how many roots are given anywhere; 0: as many as roots.
		foreign bool
		some    int
	}{
		{reason: "one replica", answer: Answer{Replicas: []Replica{fine}, Published: both}, roots: 2, issuer: underA.certificate},
		{reason: "two that agree, with leaves of their own", roots: 2, issuer: underA.certificate,
			answer: Answer{Published: both, Replicas: []Replica{fine, with(func(r *Replica) { r.Roots = both })}}},
		{reason: "nobody runs", answer: Answer{Published: both}, why: "no istiod runs"},
		{reason: "one that does not answer", why: "istiod-2: silence",
			answer: Answer{Published: both, Replicas: []Replica{fine, with(func(r *Replica) { r.Err = errors.New("silence") })}}},
		{reason: "one that has made itself a CA", foreign: true, why: "it has made a CA itself",
			answer: Answer{Published: both, Replicas: []Replica{fine, with(func(r *Replica) { r.Err = ErrForeign })}}},
		{reason: "another intermediate, with the same name and root", roots: 2, why: "istiod-2 signs with another CA than istiod-1",
			answer: Answer{Published: both, Replicas: []Replica{fine, with(func(r *Replica) { r.Chain = list{other.certificate, alsoA.certificate} })}}},
		{reason: "other roots", roots: 1, some: 2, issuer: underA.certificate, why: "istiod-2 gives other roots",
			answer: Answer{Published: both, Replicas: []Replica{fine, with(func(r *Replica) { r.Roots = list{a.certificate} })}}},
		{reason: "a ConfigMap that has not followed", roots: 1, some: 2, issuer: underA.certificate, why: "istio-ca-root-cert has other roots",
			answer: Answer{Published: list{a.certificate}, Replicas: []Replica{fine}}},
		{reason: "a ConfigMap that cannot be read", why: "publishes: gone",
			answer: Answer{PublishedErr: errors.New("gone"), Replicas: []Replica{fine}}},
		{reason: "a chain to a root that is not given", foreign: true, why: "does not lead to the roots",
			answer: Answer{Published: list{a.certificate}, Replicas: []Replica{with(func(r *Replica) {
				r.Chain, r.Roots = list{ofB.certificate, underB.certificate}, list{a.certificate}
			})}}},
		{reason: "a chain of another CA", foreign: true, why: "did not sign that",
			answer: Answer{Published: both, Replicas: []Replica{with(func(r *Replica) { r.Chain = list{leaf.certificate, underB.certificate} })}}},
		{reason: "signed by the root itself", roots: 1, issuer: a.certificate,
			answer: Answer{Published: list{a.certificate}, Replicas: []Replica{with(func(r *Replica) {
				direct := issue(t, "leaf", false, &a)
				r.Chain, r.Roots = list{direct.certificate, a.certificate}, list{a.certificate}
			})}}},
		{reason: "no issuer in the answer", foreign: true, why: "without that of its issuer",
			answer: Answer{Published: both, Replicas: []Replica{with(func(r *Replica) { r.Chain = list{leaf.certificate} })}}},
		{reason: "a CA where a leaf should be", foreign: true, why: "it signed a CA",
			answer: Answer{Published: both, Replicas: []Replica{with(func(r *Replica) { r.Chain = list{underA.certificate, a.certificate} })}}},
		{reason: "no roots", foreign: true, why: "it gives no roots",
			answer: Answer{Published: both, Replicas: []Replica{with(func(r *Replica) { r.Roots = nil })}}},
		{reason: "expired", at: now.Add(2 * time.Hour), foreign: true, why: "expired",
			answer: Answer{Published: both, Replicas: []Replica{fine}}},
		{reason: "without rights, the ConfigMap tells of roots", roots: 2, why: "for lack of the right to create tokens",
			answer: Answer{Published: both, Denied: "create tokens"}},
	} {
		at := now
		if !tt.at.IsZero() {
			at = tt.at
		}
		got := tt.answer.Judge(at)
		if len(got.Roots) != tt.roots || got.Issuer != tt.issuer && !got.Issuer.Equal(tt.issuer) {
			t.Errorf("%s: %d roots, issuer %v: %s", tt.reason, len(got.Roots), got.Issuer, got.Why)
		}
		if some := cmp.Or(tt.some, tt.roots); got.Foreign != tt.foreign || len(identities(got.Some)) != some {
			t.Errorf("%s: foreign %v, %d roots anywhere, want %d", tt.reason, got.Foreign, len(identities(got.Some)), some)
		}
		if tt.why == "" && got.Why != "" || !strings.Contains(got.Why, tt.why) {
			t.Errorf("%s: why %q, want %q", tt.reason, got.Why, tt.why)
		}
	}
}

func TestRead(t *testing.T) {
	a := issue(t, "A", true, nil)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
	for _, tt := range []struct {
		reason       string
		answer       []string
		chain, roots int
		why          string
	}{
		{"leaf, issuer, and several roots in one", []string{text + "\n", text, text + text}, 2, 2, ""},
		{"nothing", nil, 0, 0, "no roots"},
		{"roots only", []string{text}, 0, 0, "no roots"},
		{"not PEM", []string{"a", "b"}, 0, 0, "not certificates"},
		{"something behind it", []string{text, text + "and more"}, 0, 0, "not certificates"},
		{"a key", []string{text, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, 0, 0, "not certificates"},
		{"no certificate inside", []string{text, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, 0, 0, "does not parse"},
		{"too much", []string{text, strings.Repeat(text, 1000)}, 0, 0, "more than"},
	} {
		chain, roots, err := read(tt.answer)
		if tt.why == "" && err != nil || tt.why != "" && (err == nil || !strings.Contains(err.Error(), tt.why)) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.why)
		}
		if err == nil && (len(chain) != tt.chain || len(roots) != tt.roots) {
			t.Errorf("%s: %d in the chain, %d roots", tt.reason, len(chain), len(roots))
		}
	}
}
