package apisim

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// bookmarkEvery is how often a quiet watch is told how far it is.
	bookmarkEvery = time.Minute
	// defaultTimeout of a watch that names none.
	defaultTimeout = 30 * time.Minute
)

// stream is one watch.
type stream struct {
	request
	selected selector
	to       http.ResponseWriter
	// seen is the version up to which events were sent.
	seen uint64
}

func (m *member) watch(w http.ResponseWriter, r request) error {
	selected, err := selectorOf(r)
	if err != nil {
		return err
	}
	s := &stream{request: r, selected: selected, to: w}
	query := r.URL.Query()
	initial := query.Get("sendInitialEvents") == "true"
	from := query.Get("resourceVersion")
	m.mu.Lock()
	s.seen = m.version
	var first []*object
	if initial || from == "" || from == "0" {
		first = m.sorted(r.kind, r.identity.Namespace)
	} else if s.seen, err = strconv.ParseUint(from, 10, 64); err != nil {
		m.mu.Unlock()
		return apierrors.NewBadRequest("resourceVersion is not a number")
	}
	m.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	for _, o := range first {
		if selected.takes(o) {
			s.send(watch.Added, o.json(nil, r.form))
		}
	}
	if initial {
		s.bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	s.flush()
	s.follow(m)
	return nil
}

// follow sends events until the time is over or the client is gone.
func (s *stream) follow(m *member) {
	query := s.URL.Query()
	timeout := defaultTimeout
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil && seconds > 0 {
		timeout = time.Duration(seconds) * time.Second
	}
	over := time.NewTimer(timeout)
	defer over.Stop()
	var quiet <-chan time.Time
	if query.Get("allowWatchBookmarks") == "true" {
		ticker := time.NewTicker(bookmarkEvery)
		defer ticker.Stop()
		quiet = ticker.C
	}
	for {
		events, wake, ok := m.since(s.seen)
		if !ok {
			s.send(watch.Error, encode(statusOfError(apierrors.NewResourceExpired(
				fmt.Sprintf("too old resource version: %d", s.seen)))))
			s.flush()
			return
		}
		for _, e := range events {
			s.pass(e)
		}
		if len(events) > 0 {
			s.flush()
		}
		select {
		case <-wake:
		case <-quiet:
			s.bookmark(nil)
			s.flush()
		case <-over.C:
			return
		case <-s.Context().Done():
			return
		}
	}
}

// since returns the events after a version, and what is closed when there are
// more. It is false if some of them are forgotten.
func (m *member) since(version uint64) ([]event, <-chan struct{}, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version < m.forgotten {
		return nil, nil, false
	}
	at := len(m.events)
	for at > 0 && m.events[at-1].version > version {
		at--
	}
	return m.events[at:len(m.events):len(m.events)], m.wake, true
}

// pass sends an event as the selector sees it: what leaves it is gone.
func (s *stream) pass(e event) {
	s.seen = e.version
	if e.resource != s.kind.groupResource() {
		return
	}
	before, after := s.selected.takes(e.before), s.selected.takes(e.after)
	switch {
	case !before && after:
		s.send(watch.Added, e.after.json(nil, s.form))
	case before && after:
		s.send(watch.Modified, e.after.json(nil, s.form))
	case before:
		gone := *e.before
		gone.version = e.version
		s.send(watch.Deleted, gone.json(nil, s.form))
	}
}

func (s *stream) bookmark(annotations map[string]string) {
	o := metav1.PartialObjectMetadata{
		ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.FormatUint(s.seen, 10), Annotations: annotations},
	}
	o.APIVersion, o.Kind = s.kind.GroupVersion().String(), s.kind.Kind
	if s.form == metadataOnly {
		o.APIVersion, o.Kind = "meta.k8s.io/v1", "PartialObjectMetadata"
	}
	s.send(watch.Bookmark, encode(o))
}

// send writes one event; that the client is gone shows in the request's context.
func (s *stream) send(kind watch.EventType, object []byte) {
	_, _ = fmt.Fprintf(s.to, "{\"type\":%q,\"object\":%s}\n", kind, object)
}

func (s *stream) flush() {
	_ = http.NewResponseController(s.to).Flush()
}
