package trust

import (
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	istiopki "istio.io/istio/security/pkg/pki/util"
)

func revoking() Request {
	r := request("eastus-1")
	r.Policy.CRL = true
	return r
}

// revokedSerials are what a member's lists revoke.
func revokedSerials(t *testing.T, c Chain) []string {
	t.Helper()
	var out []string
	for block, rest := pem.Decode(c.crl); block != nil; block, rest = pem.Decode(rest) {
		list := parseCRL(pem.EncodeToMemory(block))
		if list == nil {
			t.Fatal("no list")
		}
		for _, entry := range list.RevokedCertificateEntries {
			out = append(out, entry.SerialNumber.Text(16))
		}
	}
	slices.Sort(out)
	return out
}

// TestIstioTakesThem: Istio's own check of plugged-in certificates takes every
// kind of chain that is issued, with its revocation lists.
func TestIstioTakesThem(t *testing.T) {
	a, _, now := watchedAuthority(t)
	*now = time.Now() // its check knows no other time
	take := func(what string, c Chain) {
		t.Helper()
		f, err := c.files()
		check(t, err)
		if _, err := istiopki.NewVerifiedKeyCertBundleFromPem(f[fileCert], f[fileKey], f[fileChain], f[fileRoots], f[fileCRL]); err != nil {
			t.Errorf("%s: istiod refuses it: %v", what, err)
		}
	}
	take("one root", issue(t, a, "plain"))
	r := revoking()
	first, err := a.Issue(t.Context(), r)
	check(t, err)
	take("with lists", first)
	revoke(t, a, r.Policy, "plain", now.Add(time.Second))
	second, err := a.Issue(t.Context(), r)
	check(t, err)
	take("with something revoked", second)
	roots, err := a.Roots(t.Context(), r.Policy)
	check(t, err)
	made, err := a.MakeRoot(t.Context(), r.Policy, roots[0])
	check(t, err)
	for _, target := range []Target{{Trusts: []Root{roots[0], made}, Signer: roots[0]}, {Trusts: []Root{roots[0], made}, Signer: made}, {Trusts: []Root{made}, Signer: made}} {
		r.Target = target
		c, err := a.Issue(t.Context(), r)
		check(t, err)
		take(fmt.Sprintf("%d roots, signed by %d", len(target.Trusts), target.Signer.Generation), c)
	}
	// As a check of the check: without the intermediate's own list it is refused.
	f, err := second.files()
	check(t, err)
	_, lists := firstPEM(f[fileCRL])
	if _, err := istiopki.NewVerifiedKeyCertBundleFromPem(f[fileCert], f[fileKey], f[fileChain], f[fileRoots], lists); err == nil {
		t.Error("istiod takes lists of the root alone, so the intermediate's own is not needed any more")
	}
}

// TestRevocation: a member's intermediates go on the lists that all others get,
// earlier ones too, until they would have ended; the lists get higher numbers, and
// are made anew in time.
func TestRevocation(t *testing.T) {
	a, w, now := watchedAuthority(t)
	leaving := request("leaving")
	leaving.Policy.CRL = true
	first, err := a.Issue(t.Context(), leaving)
	check(t, err)
	*now = start.Add(46 * day)
	second, err := a.Issue(t.Context(), leaving)
	check(t, err)
	if first.Serial() == second.Serial() {
		t.Fatal("not renewed")
	}
	stays, err := a.Issue(t.Context(), revoking())
	check(t, err)
	if got := revokedSerials(t, stays); len(got) != 0 {
		t.Errorf("revoked %v before anything was", got)
	}
	// Another process, a start later, knows of the first one by the vault.
	b := NewAuthority(w, a.now)
	if !revoke(t, b, leaving.Policy, "leaving", *now) {
		t.Error("the lists have not changed")
	}
	calls := w.count()
	if revoke(t, b, leaving.Policy, "leaving", *now) || w.count() != calls {
		t.Errorf("revoking what is revoked changed the lists, or asked the vault %d times", w.count()-calls)
	}
	*now = now.Add(rootsFor + time.Minute)
	after, err := a.Issue(t.Context(), revoking())
	check(t, err)
	if got := revokedSerials(t, after); !slices.Equal(got, []string{first.Serial()}) {
		t.Errorf("revoked %v, want %s, which was issued before the time, and no other", got, first.Serial())
	}
	if after.Serial() != stays.Serial() {
		t.Error("a new list took a new intermediate")
	}
	revoke(t, b, leaving.Policy, "leaving", now.Add(time.Hour))
	*now = now.Add(rootsFor + time.Minute)
	after, err = a.Issue(t.Context(), revoking())
	check(t, err)
	if got := revokedSerials(t, after); !slices.Equal(got, slices.Sorted(slices.Values([]string{first.Serial(), second.Serial()}))) {
		t.Errorf("revoked %v, want both", got)
	}
	// An idle fleet asks nothing, until lists are to be renewed.
	calls = w.count()
	for range 5 {
		_, err := a.Issue(t.Context(), revoking())
		check(t, err)
	}
	if w.count() != calls {
		t.Errorf("an idle fleet asked the vault %d times", w.count()-calls)
	}
	number := func(c Chain) int64 {
		_, lists := firstPEM(c.crl)
		return parseCRL(lists).Number.Int64()
	}
	last := number(after)
	for range 10 {
		*now = now.Add(5 * day)
		c, err := a.Issue(t.Context(), revoking())
		check(t, err)
		_, lists := firstPEM(c.crl)
		if left := parseCRL(lists).NextUpdate.Sub(*now); left < crlValidity/3 {
			t.Errorf("a list with %s left", left)
		}
		if number(c) < last {
			t.Errorf("number %d after %d", number(c), last)
		}
		last = number(c)
		after = c
	}
	if got := revokedSerials(t, after); slices.Contains(got, first.Serial()) {
		t.Errorf("what has ended is still on the list: %v", got)
	}
	r := revoking()
	r.Policy.CRL = false
	if c, err := a.Issue(t.Context(), r); err != nil || len(c.crl) != 0 {
		t.Errorf("lists that nobody asked for: %v", err)
	}
}

// TestTwoRevokeAtOnce: what another process revoked meanwhile stays revoked.
func TestTwoRevokeAtOnce(t *testing.T) {
	a, w, now := watchedAuthority(t)
	x, y := issue(t, a, "x"), issue(t, a, "y")
	revoke(t, a, testPolicy(), "x", start) // reads that there is nothing
	b := NewAuthority(w.Vault, a.now)
	*now = start.Add(time.Minute)
	raced := false
	w.between = func(op, name string) {
		if op == "put" && strings.HasSuffix(name, "/revoked") && !raced {
			raced = true
			revoke(t, b, testPolicy(), "y", *now)
		}
	}
	revoke(t, a, testPolicy(), "x", *now)
	revoke(t, b, testPolicy(), "y", *now) // as the next turn does
	*now = now.Add(rootsFor + time.Minute)
	revoke(t, b, testPolicy(), "y", *now)
	c, err := a.Issue(t.Context(), revoking())
	check(t, err)
	if got := revokedSerials(t, c); !slices.Equal(got, slices.Sorted(slices.Values([]string{x.Serial(), y.Serial()}))) {
		t.Errorf("revoked %v, want %s and %s", got, x.Serial(), y.Serial())
	}
	w.between = nil
	w.fail = func(op, _ string) error {
		if op == "put" {
			return errors.New("the vault takes no writes")
		}
		return nil
	}
	issue(t, b, "z")
	if _, err := a.Revoke(t.Context(), testPolicy(), "z", now.Add(time.Minute)); err == nil {
		t.Error("revoked without the vault")
	}
}

// revoke says whether the lists have changed.
func revoke(t *testing.T, a *Authority, policy Policy, member string, before time.Time) bool {
	t.Helper()
	changed, err := a.Revoke(t.Context(), policy, member, before)
	check(t, err)
	return changed
}
