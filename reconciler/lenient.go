package reconciler

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// lenient leaves out of the hub's lists and watches the objects of ours that
// cannot be read. The hub's validation keeps them out; where somebody weakened
// it, one of them would keep all others of its kind from being seen, for a list
// is decoded whole. Left out is as good as absent: what Git has is written anew.
type lenient struct {
	next http.RoundTripper
	log  logr.Logger
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (l lenient) WrappedRoundTripper() http.RoundTripper { return l.next }

func (l lenient) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || response.StatusCode != http.StatusOK {
		return response, err
	}
	_, below, ours := strings.Cut(r.URL.Path, "/apis/"+v1alpha1.GroupVersion.String()+"/")
	if !ours || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		return response, nil
	}
	fresh := readable[resourceOf(below)]
	switch {
	case fresh == nil:
	case r.URL.Query().Get("watch") != "":
		response.Body = &readableEvents{closer: response.Body, lines: bufio.NewReader(response.Body), keep: func(event []byte) bool {
			var of struct{ Object json.RawMessage }
			return json.Unmarshal(event, &of) != nil || l.reads(of.Object, fresh())
		}}
		response.ContentLength = -1
	default:
		return l.list(response, fresh)
	}
	return response, nil
}

// readable are new objects of each resource that may be left out.
var readable = map[string]func() any{
	"fleets":              func() any { return &v1alpha1.Fleet{} },
	"members":             func() any { return &v1alpha1.Member{} },
	"applicationnetworks": func() any { return &v1alpha1.ApplicationNetwork{} },
}

// resourceOf is the resource of a path below the group's version, if that is a
// collection: namespaces/NAME/RESOURCE, or RESOURCE.
func resourceOf(path string) string {
	parts := strings.Split(path, "/")
	if len(parts) == 3 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	if len(parts) != 1 {
		return ""
	}
	return parts[0]
}

// list takes the unreadable items out of a list.
func (l lenient) list(response *http.Response, fresh func() any) (*http.Response, error) {
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	var list map[string]json.RawMessage
	var items []json.RawMessage
	if json.Unmarshal(body, &list) == nil && json.Unmarshal(list["items"], &items) == nil {
		kept := []json.RawMessage{}
		for _, item := range items {
			if l.reads(item, fresh()) {
				kept = append(kept, item)
			}
		}
		if len(kept) < len(items) {
			if list["items"], err = json.Marshal(kept); err != nil {
				return nil, err
			}
			if body, err = json.Marshal(list); err != nil {
				return nil, err
			}
		}
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Del("Content-Length")
	return response, nil
}

// reads reports whether an object can be read, and logs which cannot. What is
// wrong with it is not quoted: the object may hold anything.
func (l lenient) reads(data []byte, into any) bool {
	if json.Unmarshal(data, into) == nil {
		return true
	}
	var object struct {
		Kind     string
		Metadata struct{ Name string }
	}
	if json.Unmarshal(data, &object) != nil {
		return true // no object at all: who asked sees for itself
	}
	l.log.Info("left out an object of the hub that cannot be read: restore the CRDs of isthmus, then delete or mend it",
		"kind", object.Kind, "name", object.Metadata.Name)
	return false
}

// readableEvents is the body of a watch without the events that are not kept.
type readableEvents struct {
	closer io.Closer
	lines  *bufio.Reader
	keep   func([]byte) bool
	rest   []byte
	err    error
}

func (e *readableEvents) Read(into []byte) (int, error) {
	for len(e.rest) == 0 && e.err == nil {
		e.rest, e.err = e.lines.ReadBytes('\n')
		if !e.keep(e.rest) {
			e.rest = nil
		}
	}
	if len(e.rest) == 0 {
		return 0, e.err
	}
	n := copy(into, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *readableEvents) Close() error { return e.closer.Close() }
