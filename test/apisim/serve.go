package apisim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
)

// maxBody of a request, as a real API server has it.
const maxBody = 3 << 20

// request is a call of a kind or of an object.
type request struct {
	*http.Request
	kind     kind
	identity types.NamespacedName // without a name for a collection
	form     form
	// token says that the call asks an account for one, forward that it is for a port of
	// a pod.
	token, forward bool
}

// ServeHTTP answers one call.
func (m *member) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !m.admits(r) {
		refuse(w, apierrors.NewUnauthorized("Unauthorized"))
		return
	}
	m.count(r)
	switch r.URL.Path {
	case "/version":
		write(w, http.StatusOK, encode(version.Info{Major: "1", Minor: "36", GitVersion: Version}))
		return
	case "/healthz", "/readyz", "/livez":
		w.WriteHeader(http.StatusOK)
		return
	case "/api", "/apis":
		m.discover(w, r)
		return
	}
	call, ok := m.route(r)
	if !ok {
		http.NotFound(w, r) // as text, as a real one does where no kind is served
		return
	}
	if err := m.answer(w, call); err != nil {
		refuse(w, err)
	}
}

func (m *member) count(r *http.Request) {
	counts, query := &m.simulator.counts, r.URL.Query()
	switch {
	case strings.HasSuffix(r.URL.Path, "/portforward"):
		counts.forwards.Add(1)
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/token"):
		counts.tokens.Add(1)
	case r.Method == http.MethodGet && watching(query.Get("watch")):
		counts.watches.Add(1)
	case r.Method == http.MethodGet:
		counts.reads.Add(1)
	case query.Get("dryRun") != "":
		counts.dryRuns.Add(1)
	default:
		counts.writes.Add(1)
	}
}

func watching(value string) bool { return value == "true" || value == "1" }

func (m *member) discover(w http.ResponseWriter, r *http.Request) {
	const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	if !strings.Contains(r.Header.Get("Accept"), aggregated) {
		refuse(w, apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "get", schema.GroupResource{}, "",
			"only aggregated discovery is played", 0, true))
		return
	}
	m.mu.Lock()
	kinds := m.kinds
	m.mu.Unlock()
	w.Header().Set("Content-Type", aggregated)
	_, _ = w.Write(encode(discovery(kinds, r.URL.Path == "/api"))) // the client is gone if that fails
}

// route finds the kind, namespace and name of a path; false if there is no such.
func (m *member) route(r *http.Request) (request, bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	call, at := request{Request: r, form: formOf(r)}, schema.GroupVersionResource{}
	switch {
	case len(parts) > 2 && parts[0] == "api":
		at.Version, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		at.Group, at.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return call, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		call.identity.Namespace, parts = parts[1], parts[2:]
	}
	at.Resource = parts[0]
	if len(parts) > 1 {
		call.identity.Name = parts[1]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.kinds[at]
	if len(parts) == 3 && found.groupResource() == builtinAccounts && parts[2] == "token" {
		call.token, parts = true, parts[:2]
	}
	if len(parts) == 3 && found.groupResource() == builtinPods && parts[2] == "portforward" {
		call.forward, parts = true, parts[:2]
	}
	if !ok || len(parts) > 2 || (found.namespaced && call.identity.Namespace == "" && call.identity.Name != "") {
		return call, false
	}
	call.kind = found
	return call, true
}

func formOf(r *http.Request) form {
	if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
		return metadataOnly
	}
	return whole
}

func (m *member) answer(w http.ResponseWriter, r request) error {
	collection := r.identity.Name == ""
	switch {
	case r.token && r.Method == http.MethodPost:
		body, err := readBody(w, r)
		if err != nil {
			return err
		}
		return m.issue(w, r, body)
	case r.forward && r.Method == http.MethodPost:
		return m.forward(w, r)
	case r.token, r.forward:
	case r.Method == http.MethodGet && watching(r.URL.Query().Get("watch")):
		return m.watch(w, r)
	case r.Method == http.MethodGet && collection:
		return m.list(w, r)
	case r.Method == http.MethodGet:
		return m.get(w, r)
	case r.Method == http.MethodPost && collection, r.Method == http.MethodPut && !collection,
		r.Method == http.MethodPatch && !collection, r.Method == http.MethodDelete && !collection:
		body, err := readBody(w, r)
		if err != nil {
			return err
		}
		return m.write(w, r, body)
	}
	return apierrors.NewMethodNotSupported(r.kind.groupResource(), strings.ToLower(r.Method))
}

func readBody(w http.ResponseWriter, r request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, apierrors.NewRequestEntityTooLargeError(err.Error())
	}
	return body, nil
}

func (m *member) get(w http.ResponseWriter, r request) error {
	m.mu.Lock()
	o := m.find(r.kind, r.identity)
	m.mu.Unlock()
	if o == nil {
		return apierrors.NewNotFound(r.kind.groupResource(), r.identity.Name)
	}
	write(w, http.StatusOK, o.json(nil, r.form))
	return nil
}

func write(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client is gone if that fails
}

// statusOfError is what an API server says of an error.
func statusOfError(err error) metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	return status
}

func refuse(w http.ResponseWriter, err error) {
	status := statusOfError(err)
	write(w, int(status.Code), encode(status))
}

func readJSON(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("read the body: %v", err))
	}
	return nil
}
