package istiod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

const (
	// port of istiod's debug interface, which asks those that come by a forwarded port
	// for no token.
	port = 8080
	// timeout of one question, and how many replicas are asked at once.
	timeout, atOnce = 20 * time.Second, 4
	// maxAnswer bounds what is read of one answer, in bytes.
	maxAnswer = 64 << 20
	// maxRefusal bounds what is read of an answer that is none, in bytes.
	maxRefusal = 256
)

// ErrClosed says that an istiod does not tell what it knows.
var ErrClosed = errors.New("its debug interface is closed: take ENABLE_DEBUG_ON_HTTP=false from its environment")

// Pods of the member's istiods that answer, or should: those that run and do not
// end. Sorted by name.
func Pods(ctx context.Context, m *member.Member, namespace string) ([]string, error) {
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	list, err := m.Metadata.Resource(pods).Namespace(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app=istiod", FieldSelector: "status.phase=" + string(corev1.PodRunning),
	})
	if err != nil {
		return nil, member.Wrap("list the pods of istiod", err)
	}
	var names []string
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			names = append(names, list.Items[i].Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// replica is one istiod that can be asked.
type replica struct {
	pod string
	// dial connects to its debug interface.
	dial func(ctx context.Context) (net.Conn, error)
}

func replicaOf(m *member.Member, namespace, pod string) replica {
	return replica{pod: pod, dial: func(ctx context.Context) (net.Conn, error) { return m.DialPod(ctx, namespace, pod, port) }}
}

// ask has read take the answer to one question.
func (r replica) ask(ctx context.Context, path string, read func(*json.Decoder) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// One question, one connection: what is asked every few minutes holds none.
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return r.dial(ctx) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://istiod"+path, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return asked(path, ctx, err)
	}
	defer response.Body.Close()
	if err := refusal(response); err != nil {
		return asked(path, ctx, err)
	}
	body := &bounded{from: response.Body, left: maxAnswer}
	if err := read(json.NewDecoder(body)); err != nil {
		return asked(path, ctx, err)
	}
	// To the end: who forwards logs a connection that is closed before.
	_, _ = io.Copy(io.Discard, body)
	return nil
}

// asked puts what was asked around an error. Where the time was up that is the
// reason, whatever broke because of it.
func asked(path string, ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return member.Wrap("ask istiod for "+path, err)
}

// refusal is the error of an answer that is none.
func refusal(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
		return ErrClosed
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	return fmt.Errorf("it answers %d: %q", response.StatusCode, text)
}

// bounded ends an answer that is too long with an error of its own.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(into []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("its answer has more than %d MiB", maxAnswer>>20)
	}
	n, err := b.from.Read(into[:min(int64(len(into)), b.left)])
	b.left -= int64(n)
	return n, err
}
