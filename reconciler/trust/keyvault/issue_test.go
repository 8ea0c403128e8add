package keyvault

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	emulator "github.com/isthmus-mesh/isthmus/test/keyvault"
)

// issueAll issues the intermediates of many members at once, with the limits of the
// service, and returns what was asked of the vault.
func issueAll(t testing.TB, members int) (took time.Duration, calls map[string]int, e *emulator.Emulator) {
	t.Helper()
	e = emulated(t, emulator.Options{})
	var mu sync.Mutex
	calls = map[string]int{}
	v := open(t, e, func(o *Options) {
		o.Observe = func(op, code string) {
			mu.Lock()
			defer mu.Unlock()
			calls[op+" "+code]++
		}
	})
	policy := trust.Policy{
		Network: "prod", RootKey: trust.KeySpec{Algorithm: trust.ECDSAP256},
		Root:         trust.Lifetime{Validity: 10 * 365 * 24 * time.Hour, RotateAt: 0.5},
		Intermediate: trust.Lifetime{Validity: 365 * 24 * time.Hour, RotateAt: 0.5},
		Leaf:         trust.Lifetime{Validity: 24 * time.Hour, RotateAt: 0.5},
	}
	authority := trust.NewAuthority(v, time.Now)
	began := time.Now()
	names := make(chan string)
	var workers sync.WaitGroup
	for range 64 {
		workers.Go(func() {
			for name := range names {
				if _, err := authority.Issue(context.Background(), trust.Request{Policy: policy, Member: name, Fresh: true}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	for i := range members {
		names <- fmt.Sprintf("member-%d", i)
	}
	close(names)
	workers.Wait()
	took = time.Since(began)
	// What is known is not asked for again.
	before := e.Answers(200)
	for i := range members {
		if _, err := authority.Issue(context.Background(), trust.Request{Policy: policy, Member: fmt.Sprintf("member-%d", i)}); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	if more := e.Answers(200) - before; more > 0 {
		t.Errorf("%d calls for a fleet in which nothing happens", more)
	}
	return took, calls, e
}

// TestIssueWithinLimits: members that come together are issued without the vault
// having to say no.
func TestIssueWithinLimits(t *testing.T) {
	t.Parallel()
	const members = 60
	_, calls, e := issueAll(t, members)
	if n := e.Answers(429); n > 0 {
		t.Errorf("%d answers of 429", n)
	}
	if calls["key_create 200"] != 1 || calls["secret_set 200"] != members+1 || calls["key_sign 200"] != members+1 {
		t.Errorf("%v; want one key made, and for each member and the root one signature and one document", calls)
	}
}

// BenchmarkIssueThousand issues for 1,000 members, with the limits of the service:
// go test -bench IssueThousand -benchtime 1x ./reconciler/trust/keyvault
func BenchmarkIssueThousand(b *testing.B) {
	for b.Loop() {
		took, calls, e := issueAll(b, 1000)
		b.Logf("1,000 members in %s; calls %v; %d answers of 429", took.Round(time.Second), calls, e.Answers(429))
		b.ReportMetric(took.Seconds(), "s/fleet")
		b.ReportMetric(float64(e.Answers(429)), "429s")
	}
}
