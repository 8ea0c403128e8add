package reconciler

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// answering is a transport that answers every call with one body.
type answering struct{ kind, body string }

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Request: r, ContentLength: int64(len(a.body)),
		Header: http.Header{"Content-Type": {a.kind}}, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

func TestUnreadableObjectsAreLeftOut(t *testing.T) {
	const (
		good = `{"kind":"Member","metadata":{"name":"good"},"spec":{"suspend":true}}`
		bad  = `{"kind":"Member","metadata":{"name":"bad"},"spec":{"suspend":"canary"}}`
		late = `{"kind":"Member","metadata":{"name":"late"},"spec":{"maintenanceWindows":[{"duration":"canary"}]}}`
	)
	list := func(items ...string) string {
		return `{"items":[` + strings.Join(items, ",") + `],"kind":"MemberList"}`
	}
	event := func(object string) string { return `{"type":"ADDED","object":` + object + "}\n" }
	base := "/apis/" + v1alpha1.GroupVersion.String() + "/"
	for _, tt := range []struct{ reason, path, body, want string }{
		{"a list", base + "namespaces/a/members", list(bad, good, late), list(good)},
		{"a list of all namespaces", base + "members?limit=1", list(good, late), list(good)},
		{"only bad ones", base + "members", list(bad), list()},
		{"nothing is wrong", base + "members", list(good), list(good)},
		{"a watch", base + "members?watch=true", event(good) + event(late) + event(bad) + event(good), event(good) + event(good)},
		{"the end of a watch", base + "members?watch=1", event(good) + "{", event(good) + "{"},
		{"an error in a watch", base + "members?watch=1", event(`{"kind":"Status","code":410}`), event(`{"kind":"Status","code":410}`)},
		{"one object", base + "namespaces/a/members/bad", bad, bad},
		{"another kind", "/api/v1/namespaces/a/secrets", list(bad), list(bad)},
		{"no JSON", base + "members", "<html>", "<html>"},
	} {
		var logged bytes.Buffer
		l := lenient{next: answering{kind: "application/json", body: tt.body},
			log: funcr.New(func(_, args string) { _, _ = fmt.Fprintln(&logged, args) }, funcr.Options{})}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://hub"+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := l.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if got := string(body); got != tt.want || err != nil {
			t.Errorf("%s: %s (error %v), want %s", tt.reason, got, err, tt.want)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if says := strings.Contains(logged.String(), "cannot be read"); says != (tt.want != tt.body) || strings.Contains(logged.String(), "canary") {
			t.Errorf("%s: logged %q", tt.reason, logged.String())
		}
	}
}
