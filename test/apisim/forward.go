package apisim

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	// debugPort is that of istiod's debug interface.
	debugPort = "8080"
	// forwardTimeout bounds one forwarded connection.
	forwardTimeout = 30 * time.Second
	// remoteLabel and remotePrefix are those of Secrets by which istiod reads a peer.
	remoteLabel, remotePrefix = "istio/multiCluster", "istio-remote-secret-"
)

// forward carries one connection to a port of a pod, which is an istiod's debug
// interface or refuses.
func (m *member) forward(w http.ResponseWriter, r request) error {
	m.mu.Lock()
	pod := m.find(r.kind, r.identity)
	m.mu.Unlock()
	if pod == nil {
		return apierrors.NewNotFound(builtinPods, r.identity.Name)
	}
	// One for errors and one for data.
	streams := make(chan httpstream.Stream, 2)
	w.Header().Set(httpstream.HeaderProtocolVersion, "portforward.k8s.io")
	connection := spdy.NewResponseUpgrader().UpgradeResponse(w, r.Request, func(s httpstream.Stream, _ <-chan struct{}) error {
		select {
		case streams <- s:
			return nil
		default:
			return fmt.Errorf("one connection at a time is played")
		}
	})
	if connection == nil {
		return nil // which was answered
	}
	defer connection.Close()
	byType := map[string]httpstream.Stream{}
	over := time.After(forwardTimeout)
	for len(byType) < cap(streams) {
		select {
		case s := <-streams:
			byType[s.Headers().Get("streamType")] = s
		case <-connection.CloseChan():
			return nil
		case <-over:
			return nil
		}
	}
	failures, data := byType["error"], byType["data"]
	if failures == nil || data == nil {
		return nil
	}
	if data.Headers().Get("port") == debugPort {
		m.debug(data, r.identity.Namespace)
	} else {
		_, _ = io.WriteString(failures, "connection refused") // the client is gone if that fails
	}
	_, _ = failures.Close(), data.Close()
	select {
	case <-connection.CloseChan():
	case <-over:
	}
	return nil
}

// debug answers one question to istiod.
func (m *member) debug(stream io.ReadWriter, namespace string) {
	asked, err := http.ReadRequest(bufio.NewReader(stream))
	if err != nil {
		return // the client is gone
	}
	answer := http.Response{StatusCode: http.StatusNotFound, ProtoMajor: 1, ProtoMinor: 1, Close: true, Request: asked}
	var body []byte
	if asked.URL.Path == "/debug/clusterz" {
		answer.StatusCode, body = http.StatusOK, encode(m.clusters(namespace))
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	_ = answer.Write(stream)
}

// cluster is one that an istiod reads, as it says it.
type cluster struct {
	ID         string `json:"id"`
	SecretName string `json:"secretName"`
	SyncStatus string `json:"syncStatus"`
}

// clusters are those that an istiod in a namespace reads: all of which it has a
// Secret.
func (m *member) clusters(namespace string) []cluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []cluster{{ID: "own", SyncStatus: "synced"}}
	for identity, secret := range m.objects[builtinSecrets] {
		if peer, ok := strings.CutPrefix(identity.Name, remotePrefix); ok && identity.Namespace == namespace && secret.labels[remoteLabel] == "true" {
			all = append(all, cluster{peer, identity.String(), "synced"})
		}
	}
	slices.SortFunc(all[1:], func(a, b cluster) int { return strings.Compare(a.ID, b.ID) })
	return all
}
