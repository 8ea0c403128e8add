package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// How long what was read from the vault is taken as it is, at most. A fifth less
// by name, so that a fleet does not ask for everything at once.
const (
	// rootsFor is short: another replica may have made a root.
	rootsFor = 10 * time.Minute
	// membersFor is long: nobody else writes a member's document.
	membersFor = 6 * time.Hour
	// againAfter is how long the vault is left alone after it failed.
	againAfter = time.Minute
)

// maxSkew is by how much this machine's clock may be off before it signs nothing.
const maxSkew = 5 * time.Minute

// Authority makes and renews the CAs of networks whose keys are in one vault. It
// is safe for concurrent use.
type Authority struct {
	vault  Vault
	now    func() time.Time
	clocks []Clock

	mu       sync.Mutex
	networks map[string]*networkState
	members  map[string]*memberState
}

// NewAuthority returns an Authority over a vault; now is the clock. Others that
// can say how far the clock is off, beside the vault itself, may be added: it signs
// nothing while one of them says more than five minutes.
func NewAuthority(vault Vault, now func() time.Time, clocks ...Clock) *Authority {
	if clock, ok := vault.(Clock); ok {
		clocks = append(clocks, clock)
	}
	return &Authority{
		vault: limited{vault, make(chan struct{}, parallel)}, now: now, clocks: clocks,
		networks: map[string]*networkState{}, members: map[string]*memberState{},
	}
}

// lock is held by one at a time; waiting for it ends with the context.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) take(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) leave() { <-l }

// memberState is what is known of a member's document.
type memberState struct {
	lock
	known  bool // read, or written
	chain  Chain
	whole  bool // verified; only time can change that
	issued Issued
	until  time.Time // when to read it again

	earlier []earlier // intermediates from before that are still valid

	// filed is the chain whose files the vault has in entries of their own; empty
	// when that is not known.
	filed string

	err error // why it could not be read again
}

// verify verifies the chain, signatures only the first time.
func (m *memberState) verify(now time.Time) error {
	if m.whole {
		return checkTimes(m.chain.upToTrusted(), now)
	}
	err := m.chain.verify(now)
	m.whole = err == nil
	return err
}

func (a *Authority) member(network, member string) *memberState {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := memberName(network, member)
	if a.members[name] == nil {
		a.members[name] = &memberState{lock: newLock()}
	}
	return a.members[name]
}

func memberName(network, member string) string { return network + "/members/" + member }

// expiry is when something read now is to be read again.
func (a *Authority) expiry(name string, most time.Duration) time.Time {
	return a.now().Add(most - time.Duration(float64(most)/5*share(name)))
}

// share is a number from 0 to 1 that a name always gets.
func share(name string) float64 {
	// Sums of names that differ in their last letters have to lie far apart.
	sum := sha256.Sum256([]byte(name))
	return float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
}

// SkewError says that the clock of this machine is not to be signed by.
type SkewError struct {
	// Skew is how far it is ahead.
	Skew time.Duration
}

func (e *SkewError) Error() string {
	return "this machine's clock is off by " + e.Skew.Abs().Round(time.Second).String() +
		", more than five minutes: nothing is signed by it; set the clock"
}

// clock refuses to go on with a clock that is off, from others or from a member's.
func (a *Authority) clock(member Clock) error {
	for _, clock := range append(slices.Clip(a.clocks), member) {
		if clock == nil {
			continue
		}
		if skew, known := clock.Skew(); known && skew.Abs() > maxSkew {
			return &SkewError{Skew: skew}
		}
	}
	return nil
}

// LastGoodError says that what is wanted could not be made or read, and that what
// there was before still does, until a time.
type LastGoodError struct {
	Until time.Time
	Err   error
}

func (e *LastGoodError) Error() string { return e.Err.Error() }

func (e *LastGoodError) Unwrap() error { return e.Err }

// Request says for whom an intermediate CA is wanted.
type Request struct {
	Policy Policy
	Member string
	// Target is what [Decide] says. The zero value stands for a network that has one
	// root only, and makes that root.
	Target Target
	// Fresh says that the member's cluster has no certificates of the network now,
	// also none under another name. It counts for the member's first chain.
	Fresh bool
	// ReplaceIssuedBefore replaces an intermediate that was issued before it, beside
	// what the policy says; zero: none.
	ReplaceIssuedBefore time.Time
	// Clock of the member, if it tells: nothing is signed for it by a clock that is
	// off from its own.
	Clock Clock
}

// Issue returns the member's chain, and makes what is missing or to be replaced of
// it. Nothing is asked of the vault where nothing changes.
//
// When that fails while the member has a chain that verifies, that one is returned
// with a [*LastGoodError]. A chain that does not verify is never returned.
func (a *Authority) Issue(ctx context.Context, r Request) (Chain, error) {
	roots, err := a.Roots(ctx, r.Policy)
	if err != nil {
		return Chain{}, err
	}
	if r.Target.Signer.Certificate == nil {
		if len(roots) > 1 {
			return Chain{}, fmt.Errorf("network %q has %d roots: which one is for member %q was not said", r.Policy.Network, len(roots), r.Member)
		}
		r.Target = Target{Trusts: roots, Signer: roots[0]}
	}
	m := a.member(r.Policy.Network, r.Member)
	if err := m.take(ctx); err != nil {
		return Chain{}, err
	}
	defer m.leave()
	chain, err := a.issue(ctx, r, roots, m)
	if err == nil {
		err = a.file(ctx, r, m)
	}
	if err == nil {
		return chain, nil
	}
	err = fmt.Errorf("intermediate CA of member %q: %w", r.Member, err)
	if !m.known || m.issued.joining() || m.verify(a.now()) != nil {
		return Chain{}, err
	}
	return m.chain, &LastGoodError{Until: m.chain.NotAfter(), Err: err}
}

func (a *Authority) issue(ctx context.Context, r Request, roots []Root, m *memberState) (Chain, error) {
	for again := false; ; again = true {
		if err := a.readMember(ctx, r.Policy.Network, r.Member, roots, m); err != nil {
			return Chain{}, err
		}
		want, err := a.change(ctx, r, m)
		if err != nil {
			return Chain{}, err
		}
		if want == nil {
			return m.chain, errors.Join(m.verify(a.now()), m.err)
		}
		chain, err := a.make(ctx, r, *want, m)
		if err == nil {
			return chain, nil
		}
		if again || !errors.Is(err, ErrExists) {
			return Chain{}, fmt.Errorf("%s: %w", want.why, err)
		}
		// Another replica was first: what it made is what the member gets.
		m.known = false
	}
}

// Issued returns what the vault holds for a member.
func (a *Authority) Issued(ctx context.Context, policy Policy, member string) (Issued, error) {
	roots, err := a.Roots(ctx, policy)
	if err != nil {
		return Issued{}, err
	}
	m := a.member(policy.Network, member)
	if err := m.take(ctx); err != nil {
		return Issued{}, err
	}
	defer m.leave()
	if err := a.readMember(ctx, policy.Network, member, roots, m); err != nil && !m.known {
		return Issued{}, fmt.Errorf("intermediate CA of member %q: %w", member, err)
	}
	issued := m.issued
	issued.Trusts = maps.Clone(issued.Trusts)
	return issued, nil
}

// readMember reads the member's document where that is due. When it cannot be read
// again, what is known stays, with the reason.
func (a *Authority) readMember(ctx context.Context, network, member string, roots []Root, m *memberState) error {
	if m.known && a.now().Before(m.until) {
		return nil
	}
	name := memberName(network, member)
	document, err := a.vault.Get(ctx, name)
	if errors.Is(err, ErrNotFound) && !m.known {
		m.known, m.issued, m.until = true, Issued{}, a.expiry(name, membersFor)
		return nil
	}
	var chain Chain
	if err == nil {
		if chain, err = decodeChain(document.Data, roots); err != nil {
			err = fmt.Errorf("read %q from the vault: %w", name, err)
		}
	}
	if err != nil {
		if !m.known {
			return err
		}
		m.err, m.until = err, a.now().Add(againAfter)
		return nil
	}
	m.known, m.chain, m.whole, m.err, m.until, m.filed = true, chain, false, nil, a.expiry(name, membersFor), ""
	m.issued, m.earlier = issuedOf(chain, document.Tags), parseEarlier(document.Tags)
	return nil
}

// change is what is to be made: a new intermediate, or the same with other roots.
type change struct {
	why          string
	intermediate bool
	trusts       []*x509.Certificate
	lists        []byte // revocation lists of the roots
}

// change compares what the member has with what it should have. Nil: the same.
func (a *Authority) change(ctx context.Context, r Request, m *memberState) (*change, error) {
	want := &change{trusts: anchors(r.Target.Trusts)}
	if roots := listed(r.Policy, r.Target); len(roots) > 0 {
		var err error
		if want.lists, err = a.lists(ctx, r.Policy, roots); err != nil {
			return nil, fmt.Errorf("revocation lists: %w", err)
		}
	}
	if m.issued.joining() {
		want.why, want.intermediate = "it has none yet", true
		return want, nil
	}
	if err := follows(m.chain, r.Target, want.trusts); err != nil {
		return nil, err
	}
	if why := renewal(a.now(), r, m); why != "" {
		want.why, want.intermediate = why, true
		return want, nil
	}
	if !slices.EqualFunc(m.chain.Trusts, want.trusts, (*x509.Certificate).Equal) {
		want.why = "it is to trust other roots"
		return want, nil
	}
	if _, lists := firstPEM(m.chain.crl); !bytes.Equal(lists, want.lists) {
		want.why = "revocation lists are new"
		return want, nil
	}
	return nil, nil
}

// follows refuses a target that no member could follow without a break, whatever
// it was worked out from: istiod takes a list of roots only when it contains the
// one before or is contained in it, and workloads accept a signer only when they
// trusted it before.
func follows(has Chain, target Target, trusts []*x509.Certificate) error {
	contains := func(list, part []*x509.Certificate) bool {
		return !slices.ContainsFunc(part, func(c *x509.Certificate) bool { return !slices.ContainsFunc(list, c.Equal) })
	}
	if !contains(trusts, has.Trusts) && !contains(has.Trusts, trusts) {
		return errors.New("its list of roots would be replaced by one that neither contains it nor is contained in it")
	}
	if !contains(has.Trusts, []*x509.Certificate{target.Signer.Anchor()}) {
		return fmt.Errorf("it would be signed by %q before it trusts it", target.Signer.Certificate.Subject.CommonName)
	}
	return nil
}

// make makes what is wanted and keeps it in the vault.
func (a *Authority) make(ctx context.Context, r Request, want change, m *memberState) (Chain, error) {
	// Also another list of roots is a matter of time: certificates of the old root
	// may not have run out yet.
	if err := a.clock(r.Clock); err != nil {
		return Chain{}, err
	}
	chain := m.chain
	chain.Trusts = want.trusts
	now := a.now()
	if want.intermediate {
		var err error
		if chain, err = a.sign(ctx, r, now); err != nil {
			return Chain{}, err
		}
		chain.Trusts = want.trusts
	}
	chain, err := chain.withLists(want.lists)
	if err != nil {
		return Chain{}, err
	}
	if err := chain.verify(now); err != nil {
		return Chain{}, err
	}
	issued, before := m.issued.next(chain, now, r.Fresh), nextEarlier(m.earlier, m.chain, chain, now)
	data, err := chain.encode()
	if err != nil {
		return Chain{}, err
	}
	name := memberName(r.Policy.Network, r.Member)
	document := Document{Data: data, Tags: issued.tags(), NotAfter: chain.NotAfter()}
	earlierTags(before, document.Tags)
	if m.issued.joining() {
		err = a.vault.Create(ctx, name, document)
	} else {
		err = a.vault.Put(ctx, name, document)
	}
	if err != nil {
		return Chain{}, err
	}
	m.chain, m.whole, m.issued, m.earlier = chain, true, issued, before
	m.err, m.until = nil, a.expiry(name, membersFor)
	return chain, nil
}

// sign makes a new intermediate.
func (a *Authority) sign(ctx context.Context, r Request, now time.Time) (Chain, error) {
	root := r.Target.Signer
	template, err := intermediateTemplate(root, r.Policy.Network, r.Member, now, r.Policy.Intermediate.Validity)
	if err != nil {
		return Chain{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Chain{}, fmt.Errorf("make key: %w", err)
	}
	signer, err := a.vault.Key(ctx, root.keyName, root.keyVersion)
	if err != nil {
		return Chain{}, err
	}
	certificate, err := sign(ctx, template, root.Certificate, key.Public(), signer)
	if err != nil {
		return Chain{}, err
	}
	chain := Chain{Root: root.Certificate, Intermediate: certificate, key: key}
	if between := root.between(); len(between) > 0 {
		chain.Issuers = between[1:]
	}
	return chain, nil
}
