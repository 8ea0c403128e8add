package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	const (
		added    = `{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"5"}}}`
		bookmark = `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}`
		expired  = `{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410}}`
	)
	long := `{"type":"ADDED","object":{"metadata":{"name":"` + strings.Repeat("a", 3000) + `"}}}`
	for _, tt := range []struct {
		reason, stream string
		want           []string
		ends           func(error) bool
	}{
		{"events, as they come", added + "\n" + bookmark + "\n", []string{"ADDED a 5", "BOOKMARK  9"}, isEOF},
		{"blank lines", "\n\n" + added + "\n \n", []string{"ADDED a 5"}, isEOF},
		{"longer than what is read at once", long + "\n" + added + "\n", []string{"ADDED " + strings.Repeat("a", 3000) + " ", "ADDED a 5"}, isEOF},
		{"an event that breaks off is not one", added + "\n" + bookmark[:30], []string{"ADDED a 5"}, isEOF},
		{"an error that the API server tells", added + "\n" + expired + "\n", []string{"ADDED a 5"}, apierrors.IsResourceExpired},
		{"what is no event", added + "\n<html>\n", []string{"ADDED a 5"}, isUnreadable},
		{"an object that is none", `{"type":"ADDED","object":7}` + "\n", nil, isUnreadable},
		{"a line without end", strings.Repeat(" ", maxEvent+1000), nil, isUnreadable},
	} {
		for chunks, reader := range map[string]io.Reader{
			"whole": strings.NewReader(tt.stream), "halves": iotest.HalfReader(strings.NewReader(tt.stream)),
			"end with data": iotest.DataErrReader(strings.NewReader(tt.stream)),
		} {
			from := &events{from: reader}
			var got []string
			e, err := from.next()
			for ; err == nil; e, err = from.next() {
				got = append(got, fmt.Sprintf("%s %s %s", e.kind, e.object.Name, e.object.ResourceVersion))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || !tt.ends(err) {
				t.Errorf("%s, %s: ends with %v; (-want +got):\n%s", tt.reason, chunks, err, diff)
			}
			if len(from.rest) == 0 && from.rest != nil {
				t.Errorf("%s, %s: it holds a buffer of %d bytes while it waits", tt.reason, chunks, cap(from.rest))
			}
		}
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

func isUnreadable(err error) bool { return err != nil && !isEOF(err) }

func TestNextAfter(t *testing.T) {
	t.Parallel()
	status := func(code int, reason metav1.StatusReason) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Code: int32(code), Reason: reason}}
	}
	for _, tt := range []struct {
		reason string
		err    error
		want   next
	}{
		{"its time was over", nil, resume},
		{"it said nothing", errSilent, resume},
		{"its version is compacted", status(410, metav1.StatusReasonExpired), list},
		{"its version is gone", status(410, metav1.StatusReasonGone), list},
		{"the connection broke", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), resumeLater},
		{"the API server wants to be left alone", status(429, metav1.StatusReasonTooManyRequests), resumeLater},
		{"the API server is away", &member.Error{Reason: member.Unreachable}, resumeLater},
		{"the API server fails", status(500, metav1.StatusReasonInternalError), listLater},
		{"the version is of no history that it knows", status(504, metav1.StatusReasonTimeout), listLater},
		{"the kind is not served", status(404, metav1.StatusReasonNotFound), listLater},
		{"it may not be watched", status(403, metav1.StatusReasonForbidden), listLater},
		{"it cannot be read", errors.New("read an event"), listLater},
	} {
		if got := nextAfter(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.reason, got, tt.want)
		}
	}
	for failures, longest := 1, failedFirst; failures < 100; failures, longest = failures+1, min(2*longest, failedLongest) {
		if pause := backOff(failures); pause > longest || pause < longest/2 {
			t.Errorf("pause %v after %d failures, want half to all of %v", pause, failures, longest)
		}
	}
}

// played is an API server with ConfigMaps that answers watches by a script.
type played struct {
	mu sync.Mutex
	// names of the ConfigMaps that a list has, its version, and whether it is cut.
	names   []string
	version string
	cut     int
	// mute: it does not say what it serves.
	mute bool
	// script of the watches to come; after its end watches stay open and silent.
	script []answerTo
	asked  []string
}

// answerTo is what a watch gets: a status code, or events, and then its end.
type answerTo struct {
	code   int
	events []string
	then   ending
}

type ending int

const (
	ends ending = iota
	hangs
	breaks
)

func (p *played) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	switch kinds, discovery := map[string]string{
		"/api": `{"kind":"APIVersions","versions":["v1"]}`, "/apis": `{"kind":"APIGroupList","apiVersion":"v1"}`,
		"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"configmaps","kind":"ConfigMap","namespaced":true}]}`,
	}[r.URL.Path]; {
	case discovery:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.mute {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, kinds)
		return
	case query.Get("watch") == "":
		p.list(w)
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, "watch "+query.Get("resourceVersion"))
	now := answerTo{then: hangs}
	if len(p.script) > 0 {
		now, p.script = p.script[0], p.script[1:]
	}
	p.mu.Unlock()
	if now.code != 0 {
		w.WriteHeader(now.code)
		reason := map[int]string{http.StatusGone: "Expired"}[now.code]
		_, _ = fmt.Fprintf(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":%q,"code":%d}`, reason, now.code)
		return
	}
	for _, e := range now.events {
		_, _ = io.WriteString(w, e+"\n")
	}
	_ = http.NewResponseController(w).Flush()
	switch now.then {
	case hangs:
		<-r.Context().Done()
	case breaks:
		panic(http.ErrAbortHandler)
	}
}

func (p *played) list(w http.ResponseWriter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, "list")
	var items []string
	for _, name := range p.names {
		items = append(items, fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"ns","uid":"1","resourceVersion":"1"}}`, name))
	}
	body := fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"items":[%s]}`, p.version, strings.Join(items, ","))
	if p.cut > 0 {
		p.cut--
		body = body[:len(body)-5]
	}
	_, _ = io.WriteString(w, body)
}

func (p *played) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// follows is a view of the ConfigMaps of an API server, until the test ends.
func follows(t *testing.T, p *played) *view {
	t.Helper()
	w, start := watches(t, p)
	v := &view{kind: Subject{Version: "v1", Kind: "ConfigMap"}, resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, watcher: w}
	start(func(ctx context.Context, running *sync.WaitGroup) { running.Go(func() { v.run(ctx) }) })
	return v
}

// watches is a watcher of an API server, and what runs something of it until the
// test ends.
func watches(t *testing.T, p *played) (*watcher, func(func(context.Context, *sync.WaitGroup))) {
	t.Helper()
	server := httptest.NewServer(p)
	m, err := member.Connect(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait(); m.Close(); server.Close() })
	w := newWatcher(NewTarget(m), Mesh{Network: "net", SystemNamespace: "ns"})
	return w, func(run func(context.Context, *sync.WaitGroup)) { run(ctx, &running) }
}

// TestAPIServerThatStopsAnswering: that it does is told once, and once that it answers
// again; of a watch that breaks off and is begun anew nobody hears.
func TestAPIServerThatStopsAnswering(t *testing.T) {
	t.Parallel()
	away := answerTo{code: http.StatusServiceUnavailable}
	for _, tt := range []struct {
		reason string
		script []answerTo
		want   int
	}{
		{"a watch breaks off", []answerTo{{then: breaks}}, 0},
		{"its time is over", []answerTo{{then: ends}}, 0},
		{"nothing answers for a while", []answerTo{{then: breaks}, away, away, away}, 2},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			p := &played{names: []string{"a"}, version: "5", script: tt.script}
			w, start := watches(t, p)
			w.target.inventory = &stored{}
			var told atomic.Int32
			start(func(ctx context.Context, running *sync.WaitGroup) {
				running.Go(func() {
					w.run(ctx, func(subjects []Subject) {
						if len(subjects) == 0 {
							told.Add(1)
						}
					})
				})
			})
			eventually(t, "the last watch to be open", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return len(p.requests()) > len(tt.script)+1 && w.contact.open == 1 && w.contact.doubt == nil && !w.contact.told
			})
			eventually(t, "what is told", func() bool { return int(told.Load()) >= tt.want })
			if got := int(told.Load()); got != tt.want {
				t.Errorf("told %d times, want %d", got, tt.want)
			}
		})
	}
}

// TestWatchGoesOn: what is asked, in order, when watches end in the ways in which
// they do.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	told := func(kind, name string, version int) string {
		return fmt.Sprintf(`{"type":%q,"object":{"metadata":{"name":%q,"namespace":"ns","resourceVersion":"%d"}}}`, kind, name, version)
	}
	expired := `{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410}}`
	for _, tt := range []struct {
		reason string
		script []answerTo
		cut    int
		want   []string
		sees   []string // ConfigMaps in the end
	}{
		{"nothing happens", nil, 0, []string{"list", "watch 5"}, []string{"a"}},
		{"its time is over: from the last event", []answerTo{{events: []string{told("ADDED", "b", 7)}}}, 0,
			[]string{"list", "watch 5", "watch 7"}, []string{"a", "b"}},
		{"from the last bookmark", []answerTo{{events: []string{told("ADDED", "b", 7), told("BOOKMARK", "", 9)}}}, 0,
			[]string{"list", "watch 5", "watch 9"}, []string{"a", "b"}},
		{"something is deleted", []answerTo{{events: []string{told("DELETED", "a", 7)}}}, 0,
			[]string{"list", "watch 5", "watch 7"}, nil},
		{"the connection breaks", []answerTo{{events: []string{told("MODIFIED", "a", 7)}, then: breaks}}, 0,
			[]string{"list", "watch 5", "watch 7"}, []string{"a"}},
		{"expired, by an event", []answerTo{{events: []string{told("ADDED", "b", 7), expired}}}, 0,
			[]string{"list", "watch 5", "list", "watch 5"}, []string{"a"}},
		{"expired, by the answer", []answerTo{{code: http.StatusGone}}, 0,
			[]string{"list", "watch 5", "list", "watch 5"}, []string{"a"}},
		{"refused", []answerTo{{code: http.StatusForbidden}}, 0,
			[]string{"list", "watch 5", "list", "watch 5"}, []string{"a"}},
		{"a truncated list is none", nil, 1,
			[]string{"list", "list", "watch 5"}, []string{"a"}},
		{"no events, but a page of a login", []answerTo{{events: []string{"<html>"}}}, 0,
			[]string{"list", "watch 5", "list", "watch 5"}, []string{"a"}},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			p := &played{names: []string{"a"}, version: "5", script: tt.script, cut: tt.cut}
			v := follows(t, p)
			eventually(t, "the requests", func() bool { return len(p.requests()) >= len(tt.want) })
			if diff := cmp.Diff(tt.want, p.requests()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			eventually(t, "the last watch to live", func() bool { _, live := v.snapshot(); return live })
			if sees, _ := v.snapshot(); len(sees) != len(tt.sees) {
				t.Errorf("sees %v, want %v", sees, tt.sees)
			}
		})
	}
}

// TestSilentWatch: a watch that says nothing, not even that it lives, is begun
// anew where it was, and what it kept to itself is found then.
func TestSilentWatch(t *testing.T) {
	t.Parallel()
	const bookmark = `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}`
	p := &played{names: []string{"a"}, version: "5", script: []answerTo{
		{events: []string{bookmark}, then: hangs},
		{events: []string{`{"type":"DELETED","object":{"metadata":{"name":"a","namespace":"ns","resourceVersion":"10"}}}`}, then: hangs},
	}}
	v := follows(t, p)
	a := Subject{Version: "v1", Kind: "ConfigMap", Namespace: "ns", Name: "a"}
	v.watcher.target.remember(a, known{})
	eventually(t, "the watch to say something", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.live && !v.silentAt.IsZero()
	})
	v.doubt(time.Now().Add(silence - time.Second))
	if got := p.requests(); !slices.Equal(got, []string{"list", "watch 5"}) {
		t.Errorf("asked %v: it was not silent for long", got)
	}
	// A bookmark puts the end of patience off, so it may come in between.
	eventually(t, "the watch to begin anew", func() bool {
		v.doubt(time.Now().Add(3 * silence))
		return len(p.requests()) > 2
	})
	eventually(t, "what it kept to itself", func() bool {
		v.watcher.mu.Lock()
		defer v.watcher.mu.Unlock()
		return v.watcher.pending[a]
	})
	if got := p.requests(); got[len(got)-1] == "list" || slices.Contains(got[1:], "list") {
		t.Errorf("asked %v: it lists without need", got)
	}
}

// TestWhatAnEndedWatchTold is not told again when it goes on: it is reported, and
// yet the watch is not believed about what is there.
func TestWhatAnEndedWatchTold(t *testing.T) {
	t.Parallel()
	v := follows(t, &played{names: []string{"a"}, version: "5"})
	target := v.watcher.target
	target.setView(v.resource, v)
	a := Subject{Version: "v1", Kind: "ConfigMap", Namespace: "ns", Name: "a"}
	eventually(t, "the watch to live", func() bool { _, live := target.watched(a); return live })
	target.remember(a, known{live: fingerprint{1}})
	v.over()
	if _, live := target.watched(a); live {
		t.Error("a watch that has ended is believed")
	}
	if !target.drifted(a) {
		t.Error("what it told before is forgotten")
	}
}

// TestWatchesOutliveDiscovery: while the API server does not say what it serves, no
// watch is ended for it.
func TestWatchesOutliveDiscovery(t *testing.T) {
	t.Parallel()
	p := &played{names: []string{"a"}, version: "5"}
	w, start := watches(t, p)
	start(func(ctx context.Context, running *sync.WaitGroup) {
		a := Subject{Version: "v1", Kind: "ConfigMap", Namespace: "ns", Name: "a"}
		inventory := &stored{Inventory: Inventory{Entries: []Entry{{Subject: a}}}}
		if !w.follow(ctx, inventory, running) {
			t.Error("a kind is missing")
		}
		eventually(t, "the watch to live", func() bool { _, live := w.target.watched(a); return live })
		p.mu.Lock()
		p.mute = true
		p.mu.Unlock()
		w.target.member.Forget()
		if w.follow(ctx, inventory, running) {
			t.Error("a kind is known of which the API server says nothing")
		}
		if _, live := w.target.watched(a); !live || len(w.views) != 1 {
			t.Errorf("%d watches, live: %t", len(w.views), live)
		}
		missing := Subject{Group: "a.test", Version: "v1", Kind: "Policy"}
		p.mu.Lock()
		p.mute = false
		p.mu.Unlock()
		if w.follow(ctx, &stored{Inventory: Inventory{Entries: []Entry{{Subject: missing}}}}, running) {
			t.Error("a kind is served that is not")
		}
	})
}
