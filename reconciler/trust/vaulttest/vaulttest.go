package vaulttest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// Test runs the suite. Each call of open gives another handle of one store, as
// another process would have it. What is in the store already does no harm: every
// run uses names of its own and removes nothing, for a Vault cannot remove.
func Test(t *testing.T, open func(t *testing.T) trust.Vault) {
	network := "t" + strings.ToLower(rand.Text()[:10])
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, s suite)
	}{
		{"nothing there", nothingThere},
		{"keys are made once", keysOnce},
		{"keys sign", keysSign},
		{"keys keep to their spec", keysSpec},
		{"documents are made once", documentsOnce},
		{"documents are replaced whole", documentsWhole},
		{"documents keep tags and end", documentsMeta},
		{"names do not collide", names},
		{"a call that was given up says so", canceled},
		{"files of a CA are of one CA", filesOfOneCA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := suite{open: open, network: network + strings.ToLower(rand.Text()[:4])}
			tt.run(t, s)
		})
	}
}

// secret stands for key material in documents: no error may hold it.
const secret = "c2VjcmV0LWtleS1tYXRlcmlhbA"

type suite struct {
	open    func(t *testing.T) trust.Vault
	network string
}

func (s suite) name(path string) string { return s.network + "/" + path }

// handles opens several handles of the store.
func (s suite) handles(t *testing.T, n int) []trust.Vault {
	t.Helper()
	out := make([]trust.Vault, n)
	for i := range out {
		out[i] = s.open(t)
	}
	return out
}

// hidden says that an error shows what it must not.
func hidden(t *testing.T, err error) {
	t.Helper()
	if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "PRIVATE KEY")) {
		t.Errorf("an error shows the document: %v", err)
	}
}

func must[T any](t *testing.T, what string) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return value
	}
}

func nothingThere(t *testing.T, s suite) {
	v := s.open(t)
	if _, err := v.Get(t.Context(), s.name("root")); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("a document that is not there: %v", err)
	}
	for _, version := range []string{"", "0123456789abcdef0123456789abcdef"} {
		if _, err := v.Key(t.Context(), s.name("root"), version); !errors.Is(err, trust.ErrNotFound) {
			t.Errorf("version %q of a key that is not there: %v", version, err)
		}
	}
	must[trust.Key](t, "make a key")(v.CreateKey(t.Context(), s.name("root"), trust.KeySpec{Algorithm: trust.ECDSAP256}))
	if _, err := v.Key(t.Context(), s.name("root"), "0123456789abcdef0123456789abcdef"); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	if _, err := v.Get(t.Context(), s.name("root")); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("the document beside a key: %v", err)
	}
}

func keysOnce(t *testing.T, s suite) {
	handles := s.handles(t, 6)
	keys := make([]trust.Key, len(handles))
	var racing sync.WaitGroup
	for i, v := range handles {
		racing.Go(func() {
			key, err := v.CreateKey(t.Context(), s.name("root"), trust.KeySpec{Algorithm: trust.ECDSAP256})
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
			keys[i] = key
		})
	}
	racing.Wait()
	if t.Failed() {
		return
	}
	first := keys[0]
	if first.Version() == "" {
		t.Error("a key without a version")
	}
	same := func(what string, key trust.Key, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if key.Version() != first.Version() || !samePublic(key, first) {
			t.Errorf("%s: another key, of version %q; want %q", what, key.Version(), first.Version())
		}
	}
	for i, key := range keys {
		same(fmt.Sprintf("caller %d", i), key, nil)
	}
	later := s.open(t)
	key, err := later.Key(t.Context(), s.name("root"), "")
	same("read later", key, err)
	key, err = later.Key(t.Context(), s.name("root"), first.Version())
	same("read by its version", key, err)
	key, err = later.CreateKey(t.Context(), s.name("root"), trust.KeySpec{Algorithm: trust.ECDSAP256})
	same("made again", key, err)
}

func samePublic(a, b trust.Key) bool {
	public, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(b.Public())
}

// keysSign: what a key signs verifies, with every hash that goes with its kind. A
// vault need not have each kind, but says so by its reason.
func keysSign(t *testing.T, s suite) {
	v := s.open(t)
	for algorithm, hashes := range map[trust.KeyAlgorithm][]crypto.Hash{
		trust.ECDSAP256: {crypto.SHA256},
		trust.ECDSAP384: {crypto.SHA384},
		trust.RSA3072:   {crypto.SHA256, crypto.SHA384, crypto.SHA512},
		trust.RSA4096:   {crypto.SHA256, crypto.SHA384, crypto.SHA512},
	} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			name := s.name("sign-" + strings.ToLower(string(algorithm)))
			key, err := v.CreateKey(t.Context(), name, trust.KeySpec{Algorithm: algorithm})
			if algorithm != trust.ECDSAP256 && reasonOf(err) == trust.VaultKeyUnsuitable {
				t.Skipf("not a kind of this vault: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, hash := range hashes {
				digest := hash.New()
				digest.Write([]byte(name))
				sum := digest.Sum(nil)
				signature, err := key.Sign(t.Context(), sum, hash)
				if err != nil || !verifies(key.Public(), sum, hash, signature) {
					t.Errorf("%s: error %v, or a signature that does not verify", hash, err)
				}
				if _, err := key.Sign(t.Context(), sum[1:], hash); err == nil {
					t.Errorf("%s: signed what is no digest", hash)
				}
			}
		})
	}
}

func verifies(public crypto.PublicKey, digest []byte, hash crypto.Hash, signature []byte) bool {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
	}
	return false
}

func reasonOf(err error) trust.VaultReason {
	if e := (*trust.VaultError)(nil); errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func keysSpec(t *testing.T, s suite) {
	v := s.open(t)
	made := must[trust.Key](t, "make a key")(v.CreateKey(t.Context(), s.name("root"), trust.KeySpec{Algorithm: trust.ECDSAP256}))
	_, err := v.CreateKey(t.Context(), s.name("root"), trust.KeySpec{Algorithm: trust.RSA3072})
	if reasonOf(err) != trust.VaultKeyUnsuitable {
		t.Errorf("a key of another kind: %v", err)
	}
	_, err = v.CreateKey(t.Context(), s.name("other"), trust.KeySpec{Algorithm: "DSA-1024"})
	if reasonOf(err) != trust.VaultKeyUnsuitable {
		t.Errorf("a kind that there is not: %v", err)
	}
	if _, err := v.Key(t.Context(), s.name("other"), ""); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("a key was made all the same: %v", err)
	}
	if key, err := v.Key(t.Context(), s.name("root"), ""); err != nil || !samePublic(key, made) {
		t.Errorf("the key after that: %v", err)
	}
}

func documentsOnce(t *testing.T, s suite) {
	handles := s.handles(t, 6)
	won := make(chan int, len(handles))
	var racing sync.WaitGroup
	for i, v := range handles {
		racing.Go(func() {
			err := v.Create(t.Context(), s.name("root"), document(i))
			hidden(t, err)
			switch {
			case err == nil:
				won <- i
			case !errors.Is(err, trust.ErrExists):
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	racing.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d callers have made it, want one", len(won))
	}
	winner := document(<-won)
	for i, v := range append(handles, s.open(t)) {
		if got, err := v.Get(t.Context(), s.name("root")); err != nil || !bytes.Equal(got.Data, winner.Data) {
			t.Errorf("handle %d: %v, not the document of the winner", i, err)
		}
	}
	v := handles[0]
	if err := v.Create(t.Context(), s.name("root"), document(9)); !errors.Is(err, trust.ErrExists) {
		t.Errorf("made again: %v", err)
	}
	if err := v.Put(t.Context(), s.name("root"), document(7)); err != nil {
		t.Fatal(err)
	}
	if err := v.Create(t.Context(), s.name("root"), document(9)); !errors.Is(err, trust.ErrExists) {
		t.Errorf("made again after it was replaced: %v", err)
	}
	if got, err := handles[1].Get(t.Context(), s.name("root")); err != nil || !bytes.Equal(got.Data, document(7).Data) {
		t.Errorf("the document that took its place: %v", err)
	}
}

// document is one of several, as large as one with a chain and its key.
func document(i int) trust.Document {
	data := fmt.Appendf(nil, "{\"n\": \"%d\", \"ca-key.pem\": \"-----BEGIN PRIVATE KEY-----\\n%s\\n\", \"x\": \"%s\"}",
		i, secret, strings.Repeat(fmt.Sprint(i%10), 6000))
	return trust.Document{Data: data}
}

// documentsWhole: a reader has one document or the other, and who has put one
// reads it, however fast another follows.
func documentsWhole(t *testing.T, s suite) {
	writer, reader := s.open(t), s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	name := s.name("members/eastus-1")
	if err := writer.Put(ctx, name, document(0)); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		for ctx.Err() == nil {
			got, err := reader.Get(ctx, name)
			hidden(t, err)
			if ctx.Err() != nil {
				return
			}
			whole := err == nil && len(got.Data) > 0
			if whole {
				var n int
				_, err = fmt.Sscanf(string(got.Data), `{"n": "%d"`, &n)
				whole = err == nil && bytes.Equal(got.Data, document(n).Data)
			}
			if !whole {
				t.Errorf("read while it is replaced: %v, or not whole", err)
				return
			}
		}
	})
	for i := 1; i < 8; i++ {
		if err := writer.Put(ctx, name, document(i)); err != nil {
			t.Fatal(err)
		}
		for who, v := range map[string]trust.Vault{"the writer": writer, "another": reader} {
			if got, err := v.Get(ctx, name); err != nil || !bytes.Equal(got.Data, document(i).Data) {
				t.Errorf("after %d was put, %s reads: %v, or another document", i, who, err)
			}
		}
	}
}

func documentsMeta(t *testing.T, s suite) {
	v := s.open(t)
	end := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	name := s.name("root")
	for _, tt := range []struct {
		reason string
		put    trust.Document
	}{
		{"an end in the past makes nothing unreadable", trust.Document{Data: []byte("a"), NotAfter: end, Tags: map[string]string{"serial": "01", "key-version": "v"}}},
		{"tags are replaced, not added", trust.Document{Data: []byte("b"), Tags: map[string]string{"serial": "02"}}},
		{"no tags and no end", trust.Document{Data: []byte("c")}},
	} {
		if err := v.Put(t.Context(), name, tt.put); err != nil {
			t.Fatalf("%s: %v", tt.reason, err)
		}
		got, err := s.open(t).Get(t.Context(), name)
		if err != nil || !bytes.Equal(got.Data, tt.put.Data) || !got.NotAfter.Equal(tt.put.NotAfter) || !maps.Equal(got.Tags, tt.put.Tags) {
			t.Errorf("%s: %v; tags %v, end %v", tt.reason, err, got.Tags, got.NotAfter)
		}
	}
}

// names: no two of them are one in the vault, whatever alphabet it has.
func names(t *testing.T, s suite) {
	v := s.open(t)
	long, longest := strings.Repeat("a", 62), s.network+strings.Repeat("n", 63-len(s.network))
	all := []string{
		s.network + "/a/b", s.network + "/a--b", s.network + "/a-b", s.network + "--a/b", s.network + "-a/b", s.network + "/a---b",
		s.network + "/a----b", s.network + "/members/root", s.network + "--members/root", s.network + "/members--root",
		longest + "/members/" + long + "x", longest + "/members/" + long + "y",
	}
	for i, name := range all {
		if err := v.Put(t.Context(), name, document(i)); err != nil {
			t.Errorf("put %q: %v", name, err)
		}
	}
	for i, name := range all {
		if got, err := v.Get(t.Context(), name); err != nil || !bytes.Equal(got.Data, document(i).Data) {
			t.Errorf("%q: %v, or the document of another name", name, err)
		}
	}
}

func canceled(t *testing.T, s suite) {
	v := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, get := v.Get(ctx, s.name("root"))
	_, key := v.Key(ctx, s.name("root"), "")
	for what, err := range map[string]error{"get": get, "key": key, "put": v.Put(ctx, s.name("root"), document(1)), "create": v.Create(ctx, s.name("root"), document(1))} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
		hidden(t, err)
	}
	if _, err := v.Get(t.Context(), s.name("root")); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("after calls that were given up: %v", err)
	}
}

// filesOfOneCA: who reads the files of a member's CA one after the other, as the CSI
// driver's provider does, while the CA is replaced again and again.
func filesOfOneCA(t *testing.T, s suite) {
	const day = 24 * time.Hour
	// Certificates begin with whole seconds, so each is one that was issued before.
	now := time.Now().Truncate(time.Second).Add(time.Second / 2)
	request := trust.Request{Member: "mounts", ReplaceIssuedBefore: now, Policy: trust.Policy{
		Network: s.network, Files: true, CRL: true,
		Root:         trust.Lifetime{Validity: 365 * day, RotateAt: 0.5},
		Intermediate: trust.Lifetime{Validity: 90 * day, RotateAt: 0.5},
		Leaf:         trust.Lifetime{Validity: day, RotateAt: 0.5},
	}}
	authority := trust.NewAuthority(s.open(t), func() time.Time { return now })
	issue := func() trust.Chain {
		t.Helper()
		return must[trust.Chain](t, "issue")(authority.Issue(t.Context(), request))
	}
	issue()
	reader, done := s.open(t), make(chan struct{})
	// read returns the serial number of the CA; empty where istiod would refuse what was
	// read.
	read := func() string {
		files := map[string][]byte{}
		for _, file := range vaultname.Files(true) {
			document, err := reader.Get(context.Background(), vaultname.File(s.network, "mounts", file))
			if err != nil {
				t.Errorf("read %s: %v", file, err)
				return ""
			}
			files[file] = document.Data
		}
		if _, err := tls.X509KeyPair(files["ca-cert.pem"], files["ca-key.pem"]); err != nil {
			return ""
		}
		chain, err := trust.ParseChain(files, now)
		if err != nil {
			t.Errorf("key and certificate belong together, and the rest does not: %v", err)
			return ""
		}
		return chain.Serial()
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				read()
			}
		}
	})
	var last trust.Chain
	for range 5 {
		last = issue()
	}
	close(done)
	reading.Wait()
	if got := read(); got != last.Serial() {
		t.Errorf("at rest the files are of the CA %q, and %q was issued last", got, last.Serial())
	}
}
