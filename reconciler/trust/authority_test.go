package trust

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// watched is a vault that counts what it is asked, fails when told to, and may
// tell a time of its own.
type watched struct {
	Vault
	mu    sync.Mutex
	calls map[string]int
	fail  func(op, name string) error
	skew  time.Duration
	// rekey is the key that is given out in place of another one.
	rekey map[string]Key
	// between runs before a document is created or put.
	between func(op, name string)
}

func (w *watched) Skew() (time.Duration, bool) { return w.skew, true }

func (w *watched) call(op, name string) error {
	w.mu.Lock()
	w.calls[op]++
	fail := w.fail
	w.mu.Unlock()
	if w.between != nil {
		w.between(op, name)
	}
	if fail != nil {
		return fail(op, name)
	}
	return nil
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	total := 0
	for _, n := range w.calls {
		total += n
	}
	return total
}

func (w *watched) Get(ctx context.Context, name string) (Document, error) {
	if err := w.call("get", name); err != nil {
		return Document{}, err
	}
	return w.Vault.Get(ctx, name)
}

func (w *watched) Put(ctx context.Context, name string, document Document) error {
	if err := w.call("put", name); err != nil {
		return err
	}
	return w.Vault.Put(ctx, name, document)
}

func (w *watched) Create(ctx context.Context, name string, document Document) error {
	if err := w.call("create", name); err != nil {
		return err
	}
	return w.Vault.Create(ctx, name, document)
}

func (w *watched) Key(ctx context.Context, name, version string) (Key, error) {
	if err := w.call("key", name); err != nil {
		return nil, err
	}
	if key, ok := w.rekey[name]; ok {
		return key, nil
	}
	return w.Vault.Key(ctx, name, version)
}

func watchedAuthority(t *testing.T) (*Authority, *watched, *time.Time) {
	t.Helper()
	vault, err := OpenDirectory(filepath.Join(t.TempDir(), "vault"))
	check(t, err)
	w := &watched{Vault: vault, calls: map[string]int{}}
	now := start
	return NewAuthority(w, func() time.Time { return now }), w, &now
}

// TestIdleFleetAsksNothing: where nothing changes the vault is asked nothing, and
// later once for each member, not for all at the same time.
func TestIdleFleetAsksNothing(t *testing.T) {
	a, w, now := watchedAuthority(t)
	const members = 20
	turn := func() {
		for i := range members {
			issue(t, a, fmt.Sprint("m-", i))
			_, err := a.Issued(t.Context(), testPolicy(), fmt.Sprint("m-", i))
			check(t, err)
		}
	}
	turn()
	before := w.count()
	for range 10 {
		turn()
		*now = now.Add(30 * time.Second)
	}
	if asked := w.count() - before; asked != 0 {
		t.Errorf("an idle fleet asked the vault %d times: %v", asked, w.calls)
	}
	// Within the time after which documents are read again, each is read once.
	before = w.calls["get"]
	most := 0
	for at := time.Duration(0); at < membersFor; at += 10 * time.Minute {
		*now = now.Add(10 * time.Minute)
		gets := w.calls["get"]
		turn()
		most = max(most, w.calls["get"]-gets)
	}
	roots := int(membersFor/rootsFor) * 2
	if gets := w.calls["get"] - before; gets < members || gets > 2*members+roots {
		t.Errorf("%d documents read again, of %d members", gets, members)
	}
	if most > members/2 {
		t.Errorf("%d of %d members read again at once", most, members)
	}
	if w.calls["put"] != 0 {
		t.Errorf("%d documents written", w.calls["put"])
	}
}

// TestVaultAway: what was handed out stays good, and the error says for how long.
// Nothing is made, and the vault is not asked at every turn.
func TestVaultAway(t *testing.T) {
	a, w, now := watchedAuthority(t)
	first := issue(t, a, "eastus-1")
	away := &VaultError{Reason: VaultUnavailable, Op: "read", Message: "no answer"}
	w.fail = func(string, string) error { return away }
	*now = now.Add(day)
	calls := w.count()
	for range 10 {
		chain, err := a.Issue(t.Context(), request("eastus-1"))
		var lastGood *LastGoodError
		if !errors.As(err, &lastGood) || !errors.Is(err, away) || !lastGood.Until.Equal(first.NotAfter()) {
			t.Fatalf("error %v, want one that says until when", err)
		}
		if !chain.Intermediate.Equal(first.Intermediate) {
			t.Fatal("not the last good chain")
		}
	}
	if asked := w.count() - calls; asked > 2 {
		t.Errorf("a vault that is away is asked %d times in no time", asked)
	}
	*now = start.Add(46 * day) // a new intermediate is due, and cannot be made
	if chain, err := a.Issue(t.Context(), request("eastus-1")); err == nil || !chain.Intermediate.Equal(first.Intermediate) {
		t.Errorf("with a rotation due: error %v", err)
	}
	*now = start.Add(91 * day) // what there was is no longer good
	if chain, err := a.Issue(t.Context(), request("eastus-1")); err == nil || chain.Intermediate != nil {
		t.Errorf("an expired chain is handed out: %v, %v", chain.Intermediate, err)
	}
	if _, err := a.Issue(t.Context(), request("new")); err == nil {
		t.Error("a member that has nothing gets something from a vault that is away")
	}
	w.fail = nil
	*now = now.Add(2 * againAfter)
	if chain := issue(t, a, "eastus-1"); chain.Intermediate.Equal(first.Intermediate) {
		t.Error("not renewed when the vault is back")
	}
}

// TestVaultFailsAtEveryCall: whichever call fails, the next try completes under
// the same root, and nothing that is not in the vault is handed out.
func TestVaultFailsAtEveryCall(t *testing.T) {
	for failing := 1; ; failing++ {
		a, w, _ := watchedAuthority(t)
		calls := 0
		w.fail = func(op, _ string) error {
			if calls++; calls == failing {
				return &VaultError{Reason: VaultUnavailable, Op: op, Message: "no answer"}
			}
			return nil
		}
		_, err := a.Issue(t.Context(), request("eastus-1"))
		if calls < failing {
			check(t, err)
			return
		}
		if err == nil {
			t.Errorf("call %d failed, and nothing was said", failing)
		}
		// Another process, which knows nothing.
		b := NewAuthority(w, a.now)
		chain := issue(t, b, "eastus-1")
		document, err := w.Vault.Get(t.Context(), "prod/root")
		check(t, err)
		if string(document.Data) != string(encodeCertificates(chain.Root)) {
			t.Errorf("call %d failed: the root is not the vault's", failing)
		}
		a.networks, a.members = map[string]*networkState{}, map[string]*memberState{}
		if again := issue(t, a, "eastus-1"); again.String() != chain.String() {
			t.Errorf("call %d failed: two chains", failing)
		}
	}
}

// TestClockThatIsOff: nothing is signed by a clock that the vault, or anybody else
// who was named, calls wrong by more than five minutes; what is there stays.
func TestClockThatIsOff(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour, 6 * time.Minute} {
		a, w, now := watchedAuthority(t)
		w.skew = skew
		var off *SkewError
		if _, err := a.Issue(t.Context(), request("eastus-1")); !errors.As(err, &off) || off.Skew != skew {
			t.Errorf("skew %s: a root was made: %v", skew, err)
		}
		w.skew = -4 * time.Minute
		first := issue(t, a, "eastus-1")
		w.skew = skew
		if again, err := a.Issue(t.Context(), request("eastus-1")); err != nil || !again.Intermediate.Equal(first.Intermediate) {
			t.Errorf("skew %s: nothing is to be signed, and yet: %v", skew, err)
		}
		*now = start.Add(46 * day)
		chain, err := a.Issue(t.Context(), request("eastus-1"))
		if !errors.As(err, &off) || !chain.Intermediate.Equal(first.Intermediate) {
			t.Errorf("skew %s: error %v, want the last good chain and the skew", skew, err)
		}
		roots, err := a.Roots(t.Context(), testPolicy())
		check(t, err)
		if _, err := a.MakeRoot(t.Context(), testPolicy(), roots[0]); !errors.As(err, &off) {
			t.Errorf("skew %s: a second root was made: %v", skew, err)
		}
	}
	vault, err := OpenDirectory(filepath.Join(t.TempDir(), "vault"))
	check(t, err)
	a := NewAuthority(vault, func() time.Time { return start }, &watched{skew: time.Hour})
	if _, err := a.Issue(t.Context(), request("eastus-1")); err == nil {
		t.Error("a clock that was named is not asked")
	}
}

// TestKeyChangesBehindOurBack: a key that is not the certificate's signs nothing,
// and one that is disabled or gone is an error that leaves the last good chain.
func TestKeyChangesBehindOurBack(t *testing.T) {
	a, w, now := watchedAuthority(t)
	first := issue(t, a, "eastus-1")
	other, err := w.Vault.CreateKey(t.Context(), "prod/other", KeySpec{Algorithm: ECDSAP256})
	check(t, err)
	right, err := w.Vault.Key(t.Context(), "prod/root", "")
	check(t, err)
	*now = start.Add(46 * day)
	for _, tt := range []struct {
		reason string
		harm   func()
		want   string
	}{
		{"another key under the name", func() { w.rekey = map[string]Key{"prod/root": other} }, "not the one of the certificate"},
		{"says it is the key, and signs by another", func() { w.rekey = map[string]Key{"prod/root": liar{right, other}} }, "sign "},
		{"disabled", func() {
			w.fail = func(op, _ string) error {
				if op == "key" {
					return &VaultError{Reason: VaultKeyDisabled, Op: "sign", Message: "the key is disabled"}
				}
				return nil
			}
		}, "the key is disabled"},
	} {
		w.rekey, w.fail = nil, nil
		tt.harm()
		chain, err := a.Issue(t.Context(), request("eastus-1"))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !chain.Intermediate.Equal(first.Intermediate) {
			t.Errorf("%s: error %v, want %q and the last good chain", tt.reason, err, tt.want)
		}
	}
	if w.calls["put"] != 0 {
		t.Error("a chain was kept that nothing good signed")
	}
	w.rekey, w.fail = nil, nil
	if chain := issue(t, a, "eastus-1"); chain.Intermediate.Equal(first.Intermediate) {
		t.Error("not renewed by the right key")
	}
}

// liar says that it is one key and signs by another.
type liar struct{ Key, other Key }

func (l liar) Public() crypto.PublicKey { return l.Key.Public() }
func (l liar) Version() string          { return l.Key.Version() }
func (l liar) Sign(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	return l.other.Sign(ctx, digest, hash)
}

// TestKeyOfTheVault: a network can use a key that is in the vault already, once.
func TestKeyOfTheVault(t *testing.T) {
	a, w, _ := watchedAuthority(t)
	policy := testPolicy()
	policy.RootKeyName = "hsm/mesh-root"
	if _, err := a.Roots(t.Context(), policy); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the key is not there: %v", err)
	}
	key, err := w.Vault.CreateKey(t.Context(), policy.RootKeyName, KeySpec{Algorithm: ECDSAP384})
	check(t, err)
	roots, err := a.Roots(t.Context(), policy)
	check(t, err)
	if !samePublicKey(roots[0].Certificate.PublicKey, key.Public()) {
		t.Error("the root has another key")
	}
	if _, err := a.MakeRoot(t.Context(), policy, roots[0]); err == nil || !strings.Contains(err.Error(), "name another one") {
		t.Errorf("a second root with the same key: %v", err)
	}
	chain, err := a.Issue(t.Context(), Request{Policy: policy, Member: "eastus-1"})
	check(t, err)
	if !issued(chain.Intermediate, roots[0].Certificate) {
		t.Error("not signed by the key that was named")
	}
}

// TestEveryKindOfKey: roots of every kind sign intermediates that verify.
func TestEveryKindOfKey(t *testing.T) {
	for _, algorithm := range []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA3072, RSA4096} {
		a, _, _ := authority(t)
		policy := testPolicy()
		policy.RootKey.Algorithm = algorithm
		chain, err := a.Issue(t.Context(), Request{Policy: policy, Member: "eastus-1"})
		check(t, err)
		if has := algorithmOf(chain.Root.PublicKey); has != algorithm {
			t.Errorf("a root of kind %q, want %q", has, algorithm)
		}
	}
}

// TestYear: in a year nobody's chain ever ends before it is replaced, workload
// certificates fit into every chain, and a fleet does not renew in one day.
func TestYear(t *testing.T) {
	now := start
	a := NewAuthority(newMemory(0), func() time.Time { return now })
	policy := testPolicy()
	policy.Root.Validity = 3 * 365 * day
	policy.Intermediate = Lifetime{Validity: 30 * day, RotateAt: 2. / 3}
	const members = 10
	serials := map[string]bool{}
	last, renewals := map[string]Chain{}, map[string]int{}
	for ; now.Before(start.Add(365 * day)); now = now.Add(day) {
		for i := range members {
			name := fmt.Sprint("m-", i)
			chain, err := a.Issue(t.Context(), Request{Policy: policy, Member: name})
			check(t, err)
			if left := chain.NotAfter().Sub(now); left < 2*policy.Leaf.Validity {
				t.Fatalf("%s: %s left of %s, less than a workload certificate lives until the next look", now, left, name)
			}
			if chain.Serial() == last[name].serialOrNone() {
				continue
			}
			if serials[chain.Serial()] || chain.Intermediate.SerialNumber.BitLen() < 64 {
				t.Fatalf("serial number %s", chain.Serial())
			}
			serials[chain.Serial()] = true
			last[name] = chain
			if now.After(start) {
				renewals[now.Truncate(day).String()]++
			}
		}
	}
	for at, count := range renewals {
		if count > 2*members/3 {
			t.Errorf("%d of %d members renewed on %s", count, members, at)
		}
	}
	if want := members * 365 / 20; len(serials) < want || len(serials) > want*5/4 {
		t.Errorf("%d intermediates in a year, want about %d", len(serials), want)
	}
}

func (c Chain) serialOrNone() string {
	if c.Intermediate == nil {
		return ""
	}
	return c.Serial()
}

// TestRootNearItsEnd: intermediates that end with their root are not made anew
// again and again, each for a shorter time.
func TestRootNearItsEnd(t *testing.T) {
	a, w, now := watchedAuthority(t)
	issue(t, a, "eastus-1")
	for *now = start.Add(280 * day); now.Before(start.Add(364 * day)); *now = now.Add(6 * time.Hour) {
		issue(t, a, "eastus-1")
	}
	if w.calls["put"] > 4 {
		t.Errorf("%d intermediates in the last 84 days of a root", w.calls["put"])
	}
}

// TestReplacedOnDemand: what was issued before a time that Git says is replaced
// once, and a time that is yet to come does nothing.
func TestReplacedOnDemand(t *testing.T) {
	a, w, now := watchedAuthority(t)
	r := request("eastus-1")
	first, err := a.Issue(t.Context(), r)
	check(t, err)
	*now = now.Add(time.Hour)
	r.ReplaceIssuedBefore = now.Add(time.Hour)
	if chain, err := a.Issue(t.Context(), r); err != nil || chain.Serial() != first.Serial() {
		t.Errorf("replaced before the time has come: %v", err)
	}
	*now = now.Add(time.Hour)
	second, err := a.Issue(t.Context(), r)
	if err != nil || second.Serial() == first.Serial() {
		t.Errorf("not replaced: %v", err)
	}
	for range 3 {
		*now = now.Add(time.Minute)
		if chain, err := a.Issue(t.Context(), r); err != nil || chain.Serial() != second.Serial() {
			t.Errorf("replaced again: %v", err)
		}
	}
	r.Policy.ReplaceIntermediatesBefore = *now
	*now = now.Add(time.Second)
	if chain, err := a.Issue(t.Context(), r); err != nil || chain.Serial() == second.Serial() || w.calls["put"] != 2 {
		t.Errorf("not replaced for the network: %v, %d documents", err, w.calls["put"])
	}
}

// TestTargetsThatCannotBeFollowed: whoever worked it out, a list of roots that
// istiod would refuse is not issued, nor a signer before it is trusted.
func TestTargetsThatCannotBeFollowed(t *testing.T) {
	a, _, _ := authority(t)
	first := issue(t, a, "eastus-1")
	roots, err := a.Roots(t.Context(), testPolicy())
	check(t, err)
	made, err := a.MakeRoot(t.Context(), testPolicy(), roots[0])
	check(t, err)
	both := []Root{roots[0], made}
	for _, tt := range []struct {
		reason string
		target Target
		want   string
	}{
		{"from one root to the other", Target{Trusts: []Root{made}, Signer: made}, "neither contains it"},
		{"signed by what it does not trust", Target{Trusts: both, Signer: made}, "before it trusts it"},
		{"nothing said, of two roots", Target{}, "has 2 roots"},
	} {
		r := request("eastus-1")
		r.Target = tt.target
		chain, err := a.Issue(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
		if chain.Intermediate != nil && chain.Serial() != first.Serial() {
			t.Errorf("%s: another chain", tt.reason)
		}
	}
	// One after the other, it goes.
	for _, target := range []Target{{Trusts: both, Signer: roots[0]}, {Trusts: both, Signer: made}, {Trusts: []Root{made}, Signer: made}} {
		r := request("eastus-1")
		r.Target = target
		chain, err := a.Issue(t.Context(), r)
		check(t, err)
		if chain.Signer() != target.Signer.Signs() || len(chain.Trusts) != len(target.Trusts) {
			t.Errorf("%v, want %d roots", chain, len(target.Trusts))
		}
	}
	issued, err := a.Issued(t.Context(), testPolicy(), "eastus-1")
	check(t, err)
	// A start later, the vault says the same.
	again, err := NewAuthority(a.vault.(limited).vault, a.now).Issued(t.Context(), testPolicy(), "eastus-1")
	check(t, err)
	if !maps.EqualFunc(issued.Trusts, again.Trusts, time.Time.Equal) || issued.Signer != again.Signer || !issued.SignerSince.Equal(again.SignerSince) || issued.Serial != again.Serial {
		t.Errorf("after a start %+v, before %+v", again, issued)
	}
}

// TestTwoReconcilersAtOnce: whoever is second takes what the first one made.
func TestTwoReconcilersAtOnce(t *testing.T) {
	a, w, _ := watchedAuthority(t)
	issue(t, a, "westus-1") // the root
	b := NewAuthority(w.Vault, a.now)
	var first Chain
	w.between = func(op, name string) {
		if op == "create" && first.Intermediate == nil {
			first = issue(t, b, "eastus-1")
		}
	}
	if second := issue(t, a, "eastus-1"); second.String() != first.String() {
		t.Errorf("two chains: %v and %v", first, second)
	}
	roots, err := a.Roots(t.Context(), testPolicy())
	check(t, err)
	var made Root
	w.between = func(op, name string) {
		if op == "create" && made.Certificate == nil {
			made, err = b.MakeRoot(t.Context(), testPolicy(), roots[0])
			check(t, err)
		}
	}
	if root, err := a.MakeRoot(t.Context(), testPolicy(), roots[0]); err != nil || root.Signs() != made.Signs() {
		t.Errorf("two roots of one generation: %v", err)
	}
}

// TestThousandMembers are issued side by side, at most so many at a time.
func TestThousandMembers(t *testing.T) {
	vault := newMemory(time.Millisecond)
	a := NewAuthority(vault, func() time.Time { return start })
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			if _, err := a.Issue(context.Background(), request(fmt.Sprint("m-", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if vault.most > parallel || vault.most < 2 {
		t.Errorf("%d calls to the vault at once", vault.most)
	}
	// For each member: looked for, signed, kept. And the root.
	if vault.calls > 4*1000+10 {
		t.Errorf("%d calls for 1000 members", vault.calls)
	}
}

// memory is a vault in memory that notes how many calls it has at once.
type memory struct {
	mu               sync.Mutex
	now, most, calls int
	takes            time.Duration
	documents        map[string]Document
	keys             map[string]Key
}

func newMemory(takes time.Duration) *memory {
	return &memory{takes: takes, documents: map[string]Document{}, keys: map[string]Key{}}
}

func (s *memory) enter() func() {
	s.mu.Lock()
	s.calls++
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	time.Sleep(s.takes)
	s.mu.Lock()
	return func() { s.now--; s.mu.Unlock() }
}

func (s *memory) Key(_ context.Context, name, _ string) (Key, error) {
	defer s.enter()()
	if key, ok := s.keys[name]; ok {
		return key, nil
	}
	return nil, ErrNotFound
}

func (s *memory) CreateKey(_ context.Context, name string, spec KeySpec) (Key, error) {
	defer s.enter()()
	if s.keys[name] == nil {
		signer, err := generateKey(spec.Algorithm)
		if err != nil {
			return nil, err
		}
		s.keys[name] = directoryKey{signer: signer}
	}
	return s.keys[name], nil
}

func (s *memory) Get(_ context.Context, name string) (Document, error) {
	defer s.enter()()
	document, ok := s.documents[name]
	if !ok {
		return Document{}, ErrNotFound
	}
	return document, nil
}

func (s *memory) Create(_ context.Context, name string, document Document) error {
	defer s.enter()()
	if _, ok := s.documents[name]; ok {
		return ErrExists
	}
	s.documents[name] = document
	return nil
}

func (s *memory) Put(_ context.Context, name string, document Document) error {
	defer s.enter()()
	s.documents[name] = document
	return nil
}
