package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"
)

// ca is a CA of a test, with its key.
type ca struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// newCA makes a CA that another one signs, or that signs itself; change makes it
// a bad one.
func newCA(t *testing.T, name string, by *ca, pathLen int, change func(*x509.Certificate)) *ca {
	t.Helper()
	template, err := caTemplate(name, "test", start, 100*day)
	check(t, err)
	template.MaxPathLen, template.MaxPathLenZero = pathLen, pathLen == 0
	if change != nil {
		change(template)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	issuer, signer := template, key
	if by != nil {
		issuer, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	check(t, err)
	certificate, err := x509.ParseCertificate(der)
	check(t, err)
	return &ca{certificate, key}
}

// bundle is what a cacerts Secret would hold.
func bundle(t *testing.T, own *ca, chain, roots []*x509.Certificate) map[string][]byte {
	t.Helper()
	key, err := encodeKey(own.key)
	check(t, err)
	return map[string][]byte{
		fileCert: encodeCertificates(own.certificate), fileKey: key,
		fileChain: encodeCertificates(chain...), fileRoots: encodeCertificates(roots...),
	}
}

// TestBrokenBundles: whatever is wrong with a bundle, it is not handed out, and
// the error shows nothing of it.
func TestBrokenBundles(t *testing.T) {
	type certificates = []*x509.Certificate
	root := newCA(t, "root", nil, 1, nil)
	own := newCA(t, "own", root, 0, nil)
	other := newCA(t, "other", nil, 1, nil)
	top := newCA(t, "top", nil, 2, nil)
	middle := newCA(t, "middle", top, 1, nil)
	below := newCA(t, "below", middle, 0, nil)
	good := func() map[string][]byte {
		return bundle(t, own, certificates{own.certificate}, certificates{root.certificate})
	}
	made := func(change func(*x509.Certificate)) map[string][]byte {
		bad := newCA(t, "bad", root, 0, change)
		return bundle(t, bad, certificates{bad.certificate}, certificates{root.certificate})
	}
	under := func(pathLen int, change func(*x509.Certificate)) map[string][]byte {
		bad := newCA(t, "bad root", nil, pathLen, change)
		own := newCA(t, "own", bad, 0, nil)
		return bundle(t, own, certificates{own.certificate}, certificates{bad.certificate})
	}
	with := func(file string, content []byte) map[string][]byte {
		files := good()
		files[file] = content
		return files
	}
	for _, tt := range []struct {
		reason string
		files  map[string][]byte
		want   string
	}{
		{"good", good(), ""},
		{"good, with a CA between", bundle(t, below, certificates{below.certificate, middle.certificate}, certificates{top.certificate}), ""},
		{"good, with two roots", bundle(t, own, certificates{own.certificate}, certificates{other.certificate, root.certificate}), ""},
		{"key of another certificate", bundle(t, &ca{own.certificate, other.key}, certificates{own.certificate}, certificates{root.certificate}), "do not belong together"},
		{"no certificate", with(fileCert, nil), "ca-cert.pem is missing"},
		{"no key", with(fileKey, nil), "ca-key.pem is missing"},
		{"no chain", with(fileChain, nil), "cert-chain.pem is missing"},
		{"no roots", with(fileRoots, nil), "root-cert.pem is missing"},
		{"cut off", with(fileRoots, good()[fileRoots][:100]), "not PEM"},
		{"text around it", with(fileRoots, append([]byte("subject=root\n"), good()[fileRoots]...)), "not PEM"},
		{"a certificate for a key", with(fileKey, good()[fileCert]), "not one key"},
		{"a key among the roots", with(fileRoots, append(good()[fileRoots], good()[fileKey]...)), "a key where certificates should be"},
		{"two certificates", with(fileCert, append(good()[fileCert], good()[fileRoots]...)), "does not begin with the one certificate"},
		{"chain of another", with(fileChain, encodeCertificates(below.certificate)), "does not begin with"},
		{"order of the chain", bundle(t, below, certificates{middle.certificate, below.certificate}, certificates{top.certificate}), "does not begin with"},
		{"a CA is missing", bundle(t, below, certificates{below.certificate}, certificates{top.certificate}), "by no root that is trusted"},
		{"root that did not sign", bundle(t, own, certificates{own.certificate}, certificates{other.certificate}), "by no root"},
		{"root listed twice", bundle(t, own, certificates{own.certificate}, certificates{root.certificate, root.certificate}), "listed twice"},
		{"root that is not self-signed", bundle(t, below, certificates{below.certificate}, certificates{middle.certificate}), "not self-signed"},
		{"no CA", made(func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLenZero, c.KeyUsage = false, false, x509.KeyUsageDigitalSignature
		}), "no CA"},
		{"no right to sign", made(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), "may not sign certificates"},
		{"for servers only", made(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "key usage"},
		{"not valid yet", made(func(c *x509.Certificate) { c.NotBefore = start.Add(2 * day) }), "not valid before"},
		{"expired", made(func(c *x509.Certificate) { c.NotAfter = start }), "expired on"},
		{"outlives its root", made(func(c *x509.Certificate) { c.NotAfter = start.Add(200 * day) }), "outlives"},
		{"path length of the root", under(0, nil), "path length"},
		{"path length between", bundle(t, below, certificates{below.certificate, middle.certificate}, certificates{newCA(t, "x", nil, 1, nil).certificate}), "leads to no root"},
		{"expired root", under(1, func(c *x509.Certificate) { c.NotAfter = start }), "expired on"},
	} {
		_, err := ParseChain(tt.files, start.Add(day))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.reason, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		case err != nil && (strings.Contains(err.Error(), "BEGIN") || strings.Contains(err.Error(), "MII")):
			t.Errorf("%s: the error shows the file: %v", tt.reason, err)
		}
	}
}

// TestChainInTheVault: what is kept is what is delivered, and reads back the same.
func TestChainInTheVault(t *testing.T) {
	top := newCA(t, "top", nil, 2, nil)
	middle := newCA(t, "middle", top, 1, nil)
	below := newCA(t, "below", middle, 0, nil)
	files := bundle(t, below, []*x509.Certificate{below.certificate, middle.certificate}, []*x509.Certificate{top.certificate})
	chain, err := ParseChain(files, start.Add(day))
	check(t, err)
	data, err := chain.encode()
	check(t, err)
	var text map[string]string
	check(t, json.Unmarshal(data, &text))
	for name, content := range files {
		if text[name] != string(content) {
			t.Errorf("%s is not what it was", name)
		}
	}
	if len(text) != len(files) {
		t.Errorf("files %v", maps.Keys(text))
	}
	again, err := decodeChain(data, nil)
	check(t, err)
	if again.String() != chain.String() || !again.Root.Equal(middle.certificate) || again.verify(start.Add(day)) != nil {
		t.Errorf("read back %v, want %v", again, chain)
	}
}

// FuzzChain: no document makes the reader panic or take long, and what verifies is
// whole.
func FuzzChain(f *testing.F) {
	t := &testing.T{}
	root := newCA(t, "root", nil, 1, nil)
	own := newCA(t, "own", root, 0, nil)
	chain, err := parseChain(bundle(t, own, []*x509.Certificate{own.certificate}, []*x509.Certificate{root.certificate}))
	if err != nil {
		f.Fatal(err)
	}
	data, err := chain.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	key, _ := encodeKey(own.key)
	f.Add(append(encodeCertificates(own.certificate), key...))
	f.Add([]byte(`{"ca-cert.pem":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"}`))
	f.Add([]byte("{"))
	f.Add([]byte(strings.Repeat("-----BEGIN CERTIFICATE-----\n", 1000)))
	roots := []Root{{Generation: 1, Certificate: root.certificate}}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeChain(data, roots)
		if err != nil || c.verify(start.Add(day)) != nil {
			return
		}
		if c.Intermediate == nil || c.Root == nil || len(c.Trusts) == 0 || !samePublicKey(c.Intermediate.PublicKey, c.key.Public()) {
			t.Error("what is not whole verifies")
		}
		if _, err := c.Secret("istio-system"); err != nil {
			t.Error(err)
		}
	})
}

func TestRequestsAndImports(t *testing.T) {
	a, _, now := authority(t)
	policy := testPolicy()
	policy.External = true
	if _, err := a.Roots(t.Context(), policy); err == nil || !strings.Contains(err.Error(), "isthmus trust csr") {
		t.Fatalf("an external root was made here: %v", err)
	}
	first, err := a.CSR(t.Context(), policy)
	check(t, err)
	second, err := a.CSR(t.Context(), policy)
	check(t, err)
	request := parseRequest(t, first.PEM)
	if again := parseRequest(t, second.PEM); first.Generation != 1 || !samePublicKey(request.PublicKey, again.PublicKey) {
		t.Fatal("the second request is for another key")
	}
	pki := newCA(t, "corporate root", nil, -1, nil)
	issuing := newCA(t, "corporate issuing", pki, -1, nil)
	signed := func(by *ca, change func(*x509.Certificate)) *x509.Certificate {
		template, err := caTemplate(request.Subject.CommonName, "prod", start, 95*day)
		check(t, err)
		template.MaxPathLen = 1
		if change != nil {
			change(template)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, request.PublicKey, by.key)
		check(t, err)
		certificate, err := x509.ParseCertificate(der)
		check(t, err)
		return certificate
	}
	good := signed(issuing, nil)
	narrow := newCA(t, "narrow", pki, 0, nil)
	for _, tt := range []struct {
		reason       string
		certificates []*x509.Certificate
		want         string
	}{
		{"for another key", []*x509.Certificate{issuing.certificate, pki.certificate}, "none of the certificates is for the key"},
		{"its issuer is missing", []*x509.Certificate{good, pki.certificate}, "is missing"},
		{"the root is missing", []*x509.Certificate{good, issuing.certificate}, "is missing"},
		{"one too many", []*x509.Certificate{good, issuing.certificate, pki.certificate, narrow.certificate}, "not part of the chain"},
		{"no CA", []*x509.Certificate{signed(issuing, func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, x509.KeyUsageDigitalSignature
		}), issuing.certificate, pki.certificate}, "no CA"},
		{"no room for intermediates", []*x509.Certificate{signed(issuing, func(c *x509.Certificate) {
			c.MaxPathLen, c.MaxPathLenZero = 0, true
		}), issuing.certificate, pki.certificate}, "path length"},
		{"no room above either", []*x509.Certificate{signed(narrow, nil), narrow.certificate, pki.certificate}, "path length"},
		{"ends too early", []*x509.Certificate{signed(issuing, func(c *x509.Certificate) { c.NotAfter = start.Add(20 * day) }), issuing.certificate, pki.certificate}, "before an intermediate CA"},
		{"for servers only", []*x509.Certificate{signed(issuing, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), issuing.certificate, pki.certificate}, "key usage"},
	} {
		if _, err := a.Import(t.Context(), policy, encodeCertificates(tt.certificates...)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
	}
	answer := encodeCertificates(pki.certificate, good, issuing.certificate) // in any order
	root, err := a.Import(t.Context(), policy, answer)
	check(t, err)
	if again, err := a.Import(t.Context(), policy, answer); err != nil || again.Generation != root.Generation {
		t.Errorf("importing it again: %v, generation %d", err, again.Generation)
	}
	r := Request{Policy: policy, Member: "eastus-1"}
	chain, err := a.Issue(t.Context(), r)
	check(t, err)
	files, err := chain.files()
	check(t, err)
	// As istiod wants it: what it sends along, and what workloads trust.
	if want := encodeCertificates(chain.Intermediate, good, issuing.certificate); string(files[fileChain]) != string(want) {
		t.Error("cert-chain.pem is not intermediate, network CA, issuing CA")
	}
	if string(files[fileRoots]) != string(encodeCertificates(pki.certificate)) {
		t.Error("root-cert.pem is not the external root")
	}
	// The next generation has another key; members that trust the same anchor need
	// no new list.
	*now = now.Add(day)
	next, err := a.CSR(t.Context(), policy)
	check(t, err)
	request = parseRequest(t, next.PEM)
	_, err = a.Import(t.Context(), policy, encodeCertificates(signed(issuing, nil), issuing.certificate, pki.certificate))
	check(t, err)
	roots, err := a.Roots(t.Context(), policy)
	check(t, err)
	o := served("eastus-1", start.Add(-7*day), roots[0], roots[0])
	d := Decide(policy, roots, []Observed{o}, *now)
	target, _ := d.Target("eastus-1")
	if d.Step != StepSignByNew || target.Signer.Generation != 2 || len(anchors(target.Trusts)) != 1 {
		t.Errorf("step %s, signer %d, %d anchors; want it signed by generation 2 at once", d.Step, target.Signer.Generation, len(anchors(target.Trusts)))
	}
	r.Target = target
	if chain, err = a.Issue(t.Context(), r); err != nil || chain.Signer() != roots[1].Signs() {
		t.Errorf("not signed by generation 2: %v", err)
	}
	o = served("eastus-1", now.Add(-time.Hour), roots[1], roots[1])
	if d := Decide(policy, roots, []Observed{o}, *now); d.Step != StepSettled {
		t.Errorf("then it is %s, want it settled: %v", d.Step, d.Blockers)
	}
}

func parseRequest(t *testing.T, data []byte) *x509.CertificateRequest {
	t.Helper()
	block, _ := pem.Decode(data)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	check(t, err)
	check(t, request.CheckSignature())
	return request
}
