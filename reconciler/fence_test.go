package reconciler

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

type sent struct{ methods []string }

func (s *sent) RoundTrip(r *http.Request) (*http.Response, error) {
	s.methods = append(s.methods, r.Method)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// TestFence: outside of work that is ours nothing is written to a member; reads,
// and the hub's own calls outside of work, pass.
func TestFence(t *testing.T) {
	t.Parallel()
	try := func(f *fence, method string) (error, bool) {
		body := &closed{Reader: strings.NewReader("x")}
		r, err := http.NewRequestWithContext(t.Context(), method, "https://member.example/api", body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := f.RoundTrip(r)
		if err == nil {
			_ = response.Body.Close()
		}
		return err, body.is
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		members := &sent{}
		err, bodyClosed := try(&fence{next: members, strict: true}, method)
		if member.ReasonOf(err) != member.Fenced || !bodyClosed || len(members.methods) > 0 {
			t.Errorf("%s to a member: error %v, body closed %t, sent %v", method, err, bodyClosed, members.methods)
		}
		hub := &sent{}
		if err, _ := try(&fence{next: hub}, method); err != nil || len(hub.methods) != 1 {
			t.Errorf("%s to the hub: error %v, sent %v", method, err, hub.methods)
		}
	}
	members := &sent{}
	if err, _ := try(&fence{next: members, strict: true}, http.MethodGet); err != nil || len(members.methods) != 1 {
		t.Errorf("GET of a member: error %v, sent %v", err, members.methods)
	}
}

type closed struct {
	io.Reader
	is bool
}

func (c *closed) Close() error {
	c.is = true
	return nil
}
