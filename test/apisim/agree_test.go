package apisim_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	partial     = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	partialList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	applyPatch  = "application/apply-patch+yaml"
	mergePatch  = "application/merge-patch+json"
)

// server is one of the two that are asked the same.
type server struct {
	client *http.Client
	host   string
	// versions, uids and whole versions that objects had after the last step.
	seen map[string]metav1.ObjectMeta
}

func serverOf(t testing.TB, which string) *server {
	t.Helper()
	config := configOf(t, which)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return &server{client: client, host: config.Host, seen: map[string]metav1.ObjectMeta{}}
}

// step is one call. UID(name) and VERSION(name) in its body stand for those of an
// object after the step before.
type step struct {
	why          string
	method, path string
	contentType  string
	accept       string
	body         string
}

// answer is what of an answer must agree.
type answer struct {
	Code    int
	Reason  metav1.StatusReason `json:",omitempty"`
	Kind    string
	Objects []summary
	// More says that the list has another page.
	More bool
}

// summary of an object's metadata.
type summary struct {
	Type, Name          string
	Labels, Annotations map[string]string
	Finalizers          []string
	Generation          int64
	Deleting            bool
	// Managers and their fields.
	Managers []string
	// Moved is what differs from the last answer that had the object.
	Moved []string
}

func (s *server) do(t testing.TB, step step) answer {
	t.Helper()
	response := s.send(t, step)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(raw) {
		return answer{Code: response.StatusCode, Kind: "text: " + strings.TrimSpace(string(raw))}
	}
	var document struct {
		Kind   string              `json:"kind"`
		Reason metav1.StatusReason `json:"reason"`
		metav1.PartialObjectMetadata
		Items []metav1.PartialObjectMetadata `json:"items"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatalf("%s: %v in %s", step.why, err, raw)
	}
	out := answer{Code: response.StatusCode, Reason: document.Reason, Kind: document.Kind}
	if strings.HasSuffix(document.Kind, "List") {
		var list metav1.PartialObjectMetadataList
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		out.More = list.Continue != ""
		s.seen["continue"] = metav1.ObjectMeta{ResourceVersion: list.Continue}
		s.seen["list"] = metav1.ObjectMeta{ResourceVersion: list.ResourceVersion}
	}
	for _, o := range document.Items {
		out.Objects = append(out.Objects, s.summary("", o.ObjectMeta))
	}
	if document.Kind != "Status" && !strings.HasSuffix(document.Kind, "List") {
		out.Objects = append(out.Objects, s.summary("", document.ObjectMeta))
	}
	return out
}

func (s *server) send(t testing.TB, step step) *http.Response {
	t.Helper()
	fill := func(text string) string {
		for name, had := range s.seen {
			text = strings.ReplaceAll(text, "UID("+name+")", string(had.UID))
			text = strings.ReplaceAll(text, "VERSION("+name+")", had.ResourceVersion)
		}
		return text
	}
	request, err := http.NewRequestWithContext(t.Context(), step.method, s.host+fill(step.path), bytes.NewBufferString(fill(step.body)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", step.accept)
	if step.accept == "" {
		request.Header.Set("Accept", partial)
	}
	if step.contentType != "" {
		request.Header.Set("Content-Type", step.contentType)
	} else if step.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func (s *server) summary(event string, o metav1.ObjectMeta) summary {
	out := summary{
		Type: event, Name: o.Name, Labels: o.Labels, Annotations: o.Annotations, Finalizers: o.Finalizers,
		Generation: o.Generation, Deleting: o.DeletionTimestamp != nil,
	}
	for _, entry := range o.ManagedFields {
		if entry.Subresource == "status" {
			continue // controllers' and not played
		}
		var fields any
		if entry.FieldsV1 != nil {
			_ = json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) // shown as it is below
		}
		out.Managers = append(out.Managers, fmt.Sprintf("%s %s %s %v", entry.Manager, entry.Operation, entry.APIVersion, fields))
	}
	slices.Sort(out.Managers)
	if had, ok := s.seen[o.Name]; ok {
		for what, differs := range map[string]bool{
			"uid": had.UID != o.UID, "resourceVersion": had.ResourceVersion != o.ResourceVersion,
			"creationTimestamp": !had.CreationTimestamp.Equal(&o.CreationTimestamp) && had.UID == o.UID,
		} {
			if differs {
				out.Moved = append(out.Moved, what)
			}
		}
		slices.Sort(out.Moved)
	}
	s.seen[o.Name] = o
	return out
}

const configMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one","namespace":"agree","labels":{"l":"a","m":"b"},"annotations":{"n":"c"}},"data":{"k":"v","x":"y"}}`

const ours = "/api/v1/namespaces/agree/configmaps/one?fieldManager=isthmus"

// steps in their order; each one's answer must agree, and is built on those before.
var steps = []step{
	{why: "a namespace is applied", method: "PATCH", path: "/api/v1/namespaces/agree?fieldManager=isthmus&force=true", contentType: applyPatch,
		body: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"agree","labels":{"l":"a"}}}`},
	{why: "an object in a namespace that is not there", method: "PATCH", path: "/api/v1/namespaces/nowhere/configmaps/one?fieldManager=isthmus", contentType: applyPatch,
		body: strings.ReplaceAll(configMap, "agree", "nowhere")},
	{why: "a dry run of a creation", method: "PATCH", path: ours + "&dryRun=All", contentType: applyPatch, body: configMap},
	{why: "which created nothing", method: "GET", path: ours},
	{why: "create by apply", method: "PATCH", path: ours, contentType: applyPatch, body: configMap},
	{why: "apply the same", method: "PATCH", path: ours, contentType: applyPatch, body: configMap},
	{why: "dry run of the same", method: "PATCH", path: ours + "&dryRun=All", contentType: applyPatch, body: configMap},
	{why: "dry run of a change", method: "PATCH", path: ours + "&dryRun=All", contentType: applyPatch, body: strings.Replace(configMap, `"y"`, `"z"`, 1)},
	{why: "which changed nothing", method: "GET", path: ours},
	{why: "change a field", method: "PATCH", path: ours, contentType: applyPatch, body: strings.Replace(configMap, `"y"`, `"z"`, 1)},
	{why: "give up a field and a label", method: "PATCH", path: ours, contentType: applyPatch,
		body: strings.Replace(strings.Replace(configMap, `,"x":"y"`, "", 1), `,"m":"b"`, "", 1)},
	{why: "another manager without force", method: "PATCH", path: "/api/v1/namespaces/agree/configmaps/one?fieldManager=rival", contentType: applyPatch,
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"},"data":{"k":"theirs"}}`},
	{why: "another manager by force", method: "PATCH", path: "/api/v1/namespaces/agree/configmaps/one?fieldManager=rival&force=true", contentType: applyPatch,
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"},"data":{"k":"theirs","q":"r"}}`},
	{why: "ours by force again", method: "PATCH", path: ours + "&force=true", contentType: applyPatch, body: configMap},
	{why: "apply with a wrong uid", method: "PATCH", path: ours, contentType: applyPatch,
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one","uid":"11111111-1111-1111-1111-111111111111"}}`},
	{why: "apply with the uid of what is not there", method: "PATCH", path: strings.Replace(ours, "/one", "/none", 1), contentType: applyPatch,
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"none","uid":"11111111-1111-1111-1111-111111111111"}}`},
	{why: "merge patch by a person", method: "PATCH", path: "/api/v1/namespaces/agree/configmaps/one?fieldManager=kubectl-edit", contentType: mergePatch,
		body: `{"metadata":{"labels":{"l":"edited"},"annotations":{"n":null}},"data":{"k":"edited"}}`},
	{why: "merge patch of nothing", method: "PATCH", path: "/api/v1/namespaces/agree/configmaps/one?fieldManager=kubectl-edit", contentType: mergePatch, body: `{"data":{"k":"edited"}}`},
	{why: "merge patch with a stale version", method: "PATCH", path: "/api/v1/namespaces/agree/configmaps/one?fieldManager=kubectl-edit", contentType: mergePatch,
		body: `{"metadata":{"resourceVersion":"1"},"data":{"k":"late"}}`},
	{why: "drop all managers", method: "PATCH", path: "/api/v1/namespaces/agree/configmaps/one?fieldManager=kubectl-edit", contentType: mergePatch,
		body: `{"metadata":{"uid":"UID(one)","resourceVersion":"VERSION(one)","managedFields":[{}]}}`},
	{why: "apply after that", method: "PATCH", path: ours + "&force=true", contentType: applyPatch, body: configMap},
	{why: "create by POST", method: "POST", path: "/api/v1/namespaces/agree/configmaps?fieldManager=isthmus", body: strings.ReplaceAll(configMap, `"one"`, `"two"`)},
	{why: "create it again", method: "POST", path: "/api/v1/namespaces/agree/configmaps?fieldManager=isthmus", body: strings.ReplaceAll(configMap, `"one"`, `"two"`)},
	{why: "replace it", method: "PUT", path: "/api/v1/namespaces/agree/configmaps/two?fieldManager=isthmus",
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"two","namespace":"agree","resourceVersion":"VERSION(two)","labels":{"l":"a"}},"data":{"k":"put"}}`},
	{why: "replace it with a stale version", method: "PUT", path: "/api/v1/namespaces/agree/configmaps/two?fieldManager=isthmus",
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"two","namespace":"agree","resourceVersion":"1"},"data":{"k":"late"}}`},
	{why: "replace what is not there", method: "PUT", path: "/api/v1/namespaces/agree/configmaps/none?fieldManager=isthmus",
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"none","namespace":"agree","resourceVersion":"1"}}`},
	{why: "list by label", method: "GET", path: "/api/v1/namespaces/agree/configmaps?labelSelector=l", accept: partialList},
	{why: "list by another label", method: "GET", path: "/api/v1/configmaps?labelSelector=m%3Db,l%21%3Dz", accept: partialList},
	{why: "first page", method: "GET", path: "/api/v1/namespaces/agree/configmaps?labelSelector=l&limit=1", accept: partialList},
	{why: "second page", method: "GET", path: "/api/v1/namespaces/agree/configmaps?labelSelector=l&limit=1&continue=VERSION(continue)", accept: partialList},
	{why: "a kind that is not served", method: "GET", path: "/apis/agree.test/v1/things", accept: partialList},
	{why: "delete with a wrong uid", method: "DELETE", path: "/api/v1/namespaces/agree/configmaps/two",
		body: `{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"11111111-1111-1111-1111-111111111111"}}`},
	{why: "delete with the right uid", method: "DELETE", path: "/api/v1/namespaces/agree/configmaps/two",
		body: `{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"UID(two)"}}`},
	{why: "delete what is gone", method: "DELETE", path: "/api/v1/namespaces/agree/configmaps/two"},
	{why: "a finalizer", method: "PATCH", path: ours + "&force=true", contentType: applyPatch, body: strings.Replace(configMap, `"name"`, `"finalizers":["agree.test/stay"],"name"`, 1)},
	{why: "a delete that it keeps", method: "DELETE", path: ours, accept: "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"},
	{why: "shows in the object", method: "GET", path: ours},
	{why: "until it goes", method: "PATCH", path: "/api/v1/namespaces/agree/configmaps/one?fieldManager=kubectl-edit", contentType: mergePatch, body: `{"metadata":{"finalizers":null}}`},
	{why: "and the object with it", method: "GET", path: ours},
	{why: "lists of maps, sets, and ports that merge by key", method: "PATCH", path: "/api/v1/namespaces/agree/services/web?fieldManager=isthmus", contentType: applyPatch,
		body: `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{"app":"web"},"ports":[{"name":"a","port":80,"protocol":"TCP"},{"name":"b","port":81,"protocol":"TCP"}]}}`},
	{why: "one port fewer", method: "PATCH", path: "/api/v1/namespaces/agree/services/web?fieldManager=isthmus", contentType: applyPatch,
		body: `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{"app":"web"},"ports":[{"name":"a","port":80,"protocol":"TCP"}]}}`},
	{why: "a role", method: "PATCH", path: "/apis/rbac.authorization.k8s.io/v1/clusterroles/agree?fieldManager=isthmus", contentType: applyPatch,
		body: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"agree"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`},
	{why: "a webhook", method: "PATCH", path: "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/agree?fieldManager=isthmus", contentType: applyPatch,
		body: `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"agree"},"webhooks":[{"name":"a.agree.test","admissionReviewVersions":["v1"],"sideEffects":"None","clientConfig":{"url":"https://127.0.0.1:1/"},"rules":[{"apiGroups":["nothing.agree.test"],"apiVersions":["*"],"operations":["CREATE"],"resources":["*"]}]}]}`},
	{why: "the webhook's CA by another manager", method: "PATCH", path: "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/agree?fieldManager=pilot-discovery", contentType: applyPatch,
		body: `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"agree"},"webhooks":[{"name":"a.agree.test","failurePolicy":"Ignore"}]}`},
}

func TestCallsAgree(t *testing.T) {
	t.Parallel()
	real, played := serverOf(t, "real"), serverOf(t, "played")
	for _, step := range steps {
		want, got := real.do(t, step), played.do(t, step)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s %s (-real +played):\n%s", step.why, step.method, step.path, diff)
		}
	}
}

const definition = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"policies.agree.test"},"spec":{"group":"agree.test","scope":"Namespaced",
"names":{"kind":"Policy","plural":"policies","singular":"policy","listKind":"PolicyList"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object",
"properties":{"spec":{"type":"object","properties":{"mode":{"type":"string"},"hosts":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},
"ports":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],"items":{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"port":{"type":"integer"}}}}}}}}}}]}}`

const policy = `{"apiVersion":"agree.test/v1","kind":"Policy","metadata":{"name":"p"},"spec":{"mode":"a","hosts":["x","y"],"ports":[{"name":"a","port":1},{"name":"b","port":2}]}}`

var customSteps = []step{
	{why: "create a custom resource", method: "PATCH", path: "/apis/agree.test/v1/namespaces/default/policies/p?fieldManager=isthmus", contentType: applyPatch, body: policy},
	{why: "apply the same", method: "PATCH", path: "/apis/agree.test/v1/namespaces/default/policies/p?fieldManager=isthmus", contentType: applyPatch, body: policy},
	{why: "a host and a port fewer", method: "PATCH", path: "/apis/agree.test/v1/namespaces/default/policies/p?fieldManager=isthmus", contentType: applyPatch,
		body: strings.Replace(strings.Replace(policy, `,"y"`, "", 1), `,{"name":"b","port":2}`, "", 1)},
	{why: "a port of somebody else's", method: "PATCH", path: "/apis/agree.test/v1/namespaces/default/policies/p?fieldManager=rival", contentType: applyPatch,
		body: `{"apiVersion":"agree.test/v1","kind":"Policy","metadata":{"name":"p"},"spec":{"ports":[{"name":"c","port":3}]}}`},
	{why: "our port, theirs without force", method: "PATCH", path: "/apis/agree.test/v1/namespaces/default/policies/p?fieldManager=rival", contentType: applyPatch,
		body: `{"apiVersion":"agree.test/v1","kind":"Policy","metadata":{"name":"p"},"spec":{"ports":[{"name":"a","port":3}]}}`},
	{why: "a label alone moves no generation", method: "PATCH", path: "/apis/agree.test/v1/namespaces/default/policies/p?fieldManager=kubectl-label", contentType: mergePatch,
		body: `{"metadata":{"labels":{"l":"a"}}}`},
}

func TestCustomResourcesAgree(t *testing.T) {
	t.Parallel()
	real, played := serverOf(t, "real"), serverOf(t, "played")
	define := step{why: "a definition", method: "PATCH", contentType: applyPatch, body: definition,
		path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/policies.agree.test?fieldManager=isthmus"}
	if diff := cmp.Diff(real.do(t, define), played.do(t, define)); diff != "" {
		t.Errorf("a definition (-real +played):\n%s", diff)
	}
	served(t, real)
	served(t, played)
	for _, step := range customSteps {
		want, got := real.do(t, step), played.do(t, step)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-real +played):\n%s", step.why, diff)
		}
	}
}

// served waits until the kind of the definition is.
func served(t testing.TB, s *server) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got := s.do(t, step{method: "PATCH", contentType: applyPatch, body: policy,
			path: "/apis/agree.test/v1/namespaces/default/policies/p?fieldManager=isthmus&dryRun=All"})
		if got.Code == http.StatusCreated {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the kind is not served: %v", got)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// watched reads events of a watch until there are so many.
func (s *server) watched(t testing.TB, path string, n int) []summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	response := s.send(t, step{method: "GET", path: path})
	defer response.Body.Close()
	defer context.AfterFunc(ctx, func() { _ = response.Body.Close() })()
	var out []summary
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for len(out) < n && lines.Scan() {
		var event struct {
			Type   string
			Object struct {
				metav1.PartialObjectMetadata
				Code   int
				Reason metav1.StatusReason
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		if event.Type == "ERROR" {
			out = append(out, summary{Type: event.Type, Name: fmt.Sprint(event.Object.Code, event.Object.Reason)})
			continue
		}
		if event.Type == "BOOKMARK" {
			out = append(out, summary{Type: event.Type, Annotations: event.Object.Annotations})
			continue
		}
		out = append(out, s.summary(event.Type, event.Object.ObjectMeta))
	}
	return out
}

func TestWatchesAgree(t *testing.T) {
	t.Parallel()
	const (
		all  = "/api/v1/namespaces/watched/configmaps"
		one  = all + "/one?fieldManager=isthmus&force=true"
		text = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one","labels":{"l":"a"}},"data":{"k":"v"}}`
		ask  = all + "?watch=true&timeoutSeconds=60&labelSelector=l"
	)
	seen := map[string][]summary{}
	for _, which := range []string{"real", "played"} {
		s := serverOf(t, which)
		s.do(t, step{method: "PATCH", path: "/api/v1/namespaces/watched?fieldManager=isthmus", contentType: applyPatch,
			body: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"watched"}}`})
		s.do(t, step{method: "GET", path: all + "?labelSelector=l", accept: partialList})
		from := s.seen["list"].ResourceVersion
		for _, change := range []step{
			{method: "PATCH", path: one, contentType: applyPatch, body: text},
			{method: "PATCH", path: one, contentType: applyPatch, body: text}, // nothing to tell
			{method: "PATCH", path: one, contentType: applyPatch, body: strings.Replace(text, `"v"`, `"w"`, 1)},
			{method: "PATCH", path: one, contentType: applyPatch, body: strings.Replace(text, `"l":"a"`, "", 1)},
			{method: "PATCH", path: one, contentType: applyPatch, body: text},
			{method: "DELETE", path: one},
			{method: "PATCH", path: one, contentType: applyPatch, body: text},
		} {
			s.do(t, change)
		}
		s.seen = map[string]metav1.ObjectMeta{}
		seen[which] = append(s.watched(t, ask+"&resourceVersion="+from, 6),
			s.watched(t, ask+"&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", 2)...)
	}
	if diff := cmp.Diff(seen["real"], seen["played"]); diff != "" {
		t.Errorf("events (-real +played):\n%s", diff)
	}
	if n := len(seen["real"]); n != 8 {
		t.Errorf("%d events, want 8: %v", n, seen["real"])
	}
}

// A real API server forgets by its own measure, so this is not compared.
func TestExpiredWatch(t *testing.T) {
	t.Parallel()
	s := serverOf(t, "played")
	got := s.watched(t, "/api/v1/configmaps?watch=true&resourceVersion=1", 1)
	want := []summary{{Type: "ERROR", Name: fmt.Sprint(http.StatusGone, metav1.StatusReasonExpired)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
