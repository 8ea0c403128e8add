package member

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var epoch = time.Unix(1_800_000_000, 0)

func TestPaceHalvesAndGrows(t *testing.T) {
	p := pace{most: 8, limit: 8}
	now := epoch
	for range 8 { // that were on their way together
		p.took(pushedBack, now, now.Add(time.Second), 0)
	}
	if p.limit != 4 {
		t.Errorf("limit %v after one round of 429, want 4", p.limit)
	}
	for range 10 {
		now = now.Add(time.Minute)
		p.took(pushedBack, now, now.Add(time.Second), 0)
	}
	if p.limit != 1 || p.pause != pushbackLongest {
		t.Errorf("limit %v, pause %v after many rounds, want 1 and %v", p.limit, p.pause, pushbackLongest)
	}
	answers := 0
	for ; p.limit < 8 && answers < 1000; answers++ {
		now = now.Add(time.Minute)
		p.took(answered, now, now, 0)
	}
	if p.pause != 0 || answers < 20 || answers > 100 {
		t.Errorf("back at %v after %d answers, pause %v: want it slowly and without a pause", p.limit, answers, p.pause)
	}
}

func TestPaceAdmits(t *testing.T) {
	for _, tt := range []struct {
		reason   string
		p        pace
		inFlight int
		patience time.Duration
		goes     bool
		wait     time.Duration
		refused  Reason
	}{
		{"room", pace{limit: 2}, 1, time.Second, true, 0, ""},
		{"full", pace{limit: 2.9}, 2, time.Second, false, 0, ""},
		{"asked to wait", pace{limit: 2, resume: epoch.Add(time.Second)}, 0, time.Minute, false, time.Second, ""},
		{"asked to wait for longer than there is", pace{limit: 2, resume: epoch.Add(time.Minute)}, 0, time.Second, false, 0, Throttled},
		{"away, between two tries", pace{limit: 2, silent: silentCalls, resume: epoch.Add(time.Second)}, 0, time.Minute, false, 0, Unreachable},
		{"away, while it is tried", pace{limit: 2, silent: silentCalls}, 1, time.Minute, false, 0, Unreachable},
		{"away, and time to try", pace{limit: 2, silent: silentCalls}, 0, time.Minute, true, 0, ""},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			goes, wait, refused := tt.p.admit(epoch, epoch.Add(tt.patience), tt.inFlight)
			if goes != tt.goes || wait != tt.wait || refused != tt.refused {
				t.Errorf("goes %v, wait %v, refused %q", goes, wait, refused)
			}
		})
	}
}

func TestPaceOfSilence(t *testing.T) {
	p := pace{most: 8, limit: 8}
	now := epoch
	for range 20 { // one connection that breaks takes all of its calls with it
		p.took(unanswered, epoch, now, 0)
	}
	if p.away() {
		t.Fatal("one break of a connection counted as more")
	}
	tries := 0
	for end := now.Add(time.Minute); now.Before(end); {
		if goes, _, _ := p.admit(now, now.Add(time.Minute), 0); goes {
			tries++
			p.took(unanswered, now, now.Add(time.Millisecond), 0)
		}
		now = now.Add(10 * time.Millisecond)
	}
	if tries > 20 || !p.away() {
		t.Errorf("%d tries in a minute of silence, away %v", tries, p.away())
	}
	p.took(answered, now, now, 0)
	if goes, _, _ := p.admit(now.Add(silentLongest), now.Add(time.Minute), 3); !goes {
		t.Error("not asked as before after an answer")
	}
}

func object(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"uid":"u"}}`)
}

// TestThrottledIsObeyed: while an API server says "later", it is asked about as
// often as it said, by whoever asks; afterwards every call succeeds.
func TestThrottledIsObeyed(t *testing.T) {
	var requests, early, most, inFlight atomic.Int32
	var next atomic.Int64 // Unix nanoseconds before which it said not to come
	m := serve(t, Options{InFlight: 2}, func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), inFlight.Add(1)))
		defer inFlight.Add(-1)
		now := time.Now().UnixNano()
		if requests.Add(1) > 5 {
			object(w)
			return
		}
		if at := next.Load(); at != 0 && now < at {
			early.Add(1)
		}
		next.Store(now + time.Second.Nanoseconds()*9/10)
		w.Header().Set("Retry-After", "1")
		w.Header().Set("X-Kubernetes-PF-FlowSchema-UID", "f")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	var calls sync.WaitGroup
	for range 24 {
		calls.Go(func() {
			if _, err := m.ClusterUID(t.Context()); err != nil && ReasonOf(err) != Throttled {
				t.Errorf("error %v, of reason %q", err, ReasonOf(err))
			}
		})
	}
	calls.Wait()
	// The first two were on their way together.
	if early.Load() > 1 {
		t.Errorf("%d of %d calls came before the time that was asked for", early.Load(), requests.Load())
	}
	if most.Load() > 2 {
		t.Errorf("%d calls at once", most.Load())
	}
}

func TestAskedToStayAwayForLong(t *testing.T) {
	var requests atomic.Int32
	m := serve(t, Options{Timeout: time.Second}, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	ask := func() error {
		return m.REST.Get().AbsPath("/version").MaxRetries(0).Do(t.Context()).Error()
	}
	for range 50 {
		if err := ask(); ReasonOf(err) != Throttled {
			t.Fatalf("error %v, of reason %q", err, ReasonOf(err))
		}
	}
	if requests.Load() != 1 {
		t.Errorf("%d requests, want one", requests.Load())
	}
}

// TestAwayIsAskedRarely: many callers, an API server that takes calls and never
// answers.
func TestAwayIsAskedRarely(t *testing.T) {
	var requests atomic.Int32
	silent := make(chan struct{})
	m := serve(t, Options{Timeout: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		select {
		case <-silent:
			object(w)
		case <-r.Context().Done():
		}
	})
	stop := time.Now().Add(2 * time.Second)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			for time.Now().Before(stop) {
				if _, err := m.ClusterUID(t.Context()); ReasonOf(err) != Unreachable {
					t.Errorf("error %v, of reason %q", err, ReasonOf(err))
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	calls.Wait()
	if n := requests.Load(); n > 3*DefaultInFlight+6 {
		t.Errorf("%d requests in two seconds of silence", n)
	}
	close(silent)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := m.ClusterUID(t.Context()); err == nil {
			break
		} else if time.Since(start) > 20*time.Second {
			t.Fatalf("not asked again: %v", err)
		}
	}
}

// TestSlowBodiesGiveTheirSlotsBack: an answer that begins and never ends, and one
// that nobody reads.
func TestSlowBodiesGiveTheirSlotsBack(t *testing.T) {
	var fast atomic.Bool
	m := serve(t, Options{InFlight: 2, Timeout: 200 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		if fast.Load() {
			object(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	if _, err := m.ClusterUID(t.Context()); ReasonOf(err) != Unreachable {
		t.Errorf("error %v, of reason %q", err, ReasonOf(err))
	}
	for range 2 {
		if _, err := m.REST.Get().AbsPath("/version").Stream(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fast.Store(true)
	// A call may wait out its own time behind the two, and on a busy machine 200 ms
	// are short: then the API server is thought to be away for a moment.
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, err := m.ClusterUID(t.Context())
		if err == nil {
			return
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("the slots are still taken: %v", err)
		}
	}
}

// TestWatchThatNeverBegins does not hang.
func TestWatchThatNeverBegins(t *testing.T) {
	m := serve(t, Options{Timeout: 100 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err := m.REST.Get().AbsPath("/api/v1/configmaps").Param("watch", "true").Stream(t.Context())
	if ReasonOf(err) != Unreachable {
		t.Errorf("error %v, of reason %q", err, ReasonOf(err))
	}
}
