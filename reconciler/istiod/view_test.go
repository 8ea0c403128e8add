package istiod

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// ofEast is what istiod of east serves: a cart with pods here and behind two
// gateways, a waypoint, a pod of a neighbour on the same network, and what is not
// looked at.
const ofEast = `{"policies": null, "workloads": [
  {"uid":"east//Pod/shop/cart-1","namespace":"shop","network":"net-e","clusterId":"east","serviceAccount":"cart","addresses":["MTAuMC4wLjE="],
   "services":{"shop/cart.shop.svc.cluster.local":{"ports":[{"servicePort":80,"targetPort":8080}]}}},
  {"uid":"east//Pod/shop/cart-2","namespace":"shop","network":"net-e","clusterId":"east","status":"UNHEALTHY",
   "services":{"shop/cart.shop.svc.cluster.local":{}}},
  {"uid":"north//Pod/shop/cart-1","namespace":"shop","network":"net-e","clusterId":"north","services":{"shop/cart.shop.svc.cluster.local":{}}},
  {"uid":"north//Pod/shop/cart-2","namespace":"shop","network":"net-e","clusterId":"north","services":{"shop/cart.shop.svc.cluster.local":{}},"status":"UNHEALTHY"},
  {"uid":"net-w/SplitHorizonWorkload/s/g/10.2.0.1/shop/cart.shop.svc.cluster.local","namespace":"shop","network":"net-w","clusterId":"west","capacity":3,
   "networkGateway":{"address":{"network":"net-w","address":"MTAuMi4wLjE="},"hboneMtlsPort":15008},"services":{"shop/cart.shop.svc.cluster.local":{}}},
  {"uid":"net-a/SplitHorizonWorkload/…","namespace":"shop","network":"net-a","clusterId":"azure",
   "networkGateway":{"hostname":{"namespace":"s","hostname":"lb.example"},"hboneMtlsPort":15008},"services":{"shop/cart.shop.svc.cluster.local":{},"shop/only-there.shop.svc.cluster.local":{}}},
  {"uid":"NetworkGateway/net-w/10.2.0.1/0","network":"net-w","addresses":["MTAuMi4wLjE="]},
  {"uid":"east//Pod/shop/kept","namespace":"shop","network":"net-e","clusterId":"east","services":{"shop/kept.shop.svc.cluster.local":{}}}
 ], "services": [
  {"name":"cart","namespace":"shop","hostname":"cart.shop.svc.cluster.local","ports":[{"servicePort":80,"targetPort":8080},{"servicePort":81}],
   "addresses":[{"network":"net-e","address":"MTAuOTYuMC4x"}],"waypoint":{"hostname":{"namespace":"shop","hostname":"waypoint.shop.svc.cluster.local"},"hboneMtlsPort":15008},"of a newer release":{}},
  {"name":"waypoint","namespace":"shop","hostname":"waypoint.shop.svc.cluster.local","addresses":[{"network":"net-e","address":"MTAuOTYuMC4y"}]},
  {"name":"by-address","namespace":"shop","hostname":"by-address.shop.svc.cluster.local","waypoint":{"address":{"network":"net-e","address":"MTAuOTYuMC4y"}}},
  {"name":"lost","namespace":"shop","hostname":"lost.shop.svc.cluster.local","waypoint":{"address":{"network":"net-e","address":"MTAuOTYuMC45"}}},
  {"name":"only-there","namespace":"shop","hostname":"only-there.shop.svc.cluster.local"},
  {"name":"kept","namespace":"shop","hostname":"kept.shop.svc.cluster.local"},
  {"name":"cart","namespace":"shop","hostname":"cart.example.com"}
 ]}`

func readServed(t *testing.T, text string) served {
	t.Helper()
	var s served
	if err := serve(t, says(text)).ask(t.Context(), "/debug/ambientz", s.read); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestView(t *testing.T) {
	a := answer{
		question: Question{Member: "east"}, network: "net-e", gateways: []string{"10.1.0.1"}, served: readServed(t, ofEast),
		spaces: map[string]map[string]bool{
			"shop":  {"cart": true, "waypoint": true, "by-address": true, "lost": true, "not-served-yet": true, "kept": false},
			"empty": {},
		},
	}
	want := peering.View{
		Exports: peering.Exports{Network: "net-e", Gateways: []string{"10.1.0.1"}, Services: []peering.Exported{
			{Namespace: "shop", Name: "by-address", Waypoint: "shop/waypoint"},
			{Namespace: "shop", Name: "cart", Ports: []peering.Port{{Port: 80, Target: 8080}, {Port: 81}}, Ready: 1, Unready: 1,
				Accounts: []string{"shop/cart", "shop/default"}, Waypoint: "shop/waypoint"},
			{Namespace: "shop", Name: "lost", Waypoint: "net-e/10.96.0.9"},
			{Namespace: "shop", Name: "waypoint"},
		}},
		Sees: []peering.Remote{
			{Network: "net-a", Member: "azure", Gateway: "lb.example:15008", Services: map[string]uint32{"shop/cart": 1, "shop/only-there": 1}},
			{Network: "net-e", Member: "north", Services: map[string]uint32{"shop/cart": 1}},
			{Network: "net-w", Member: "west", Gateway: "10.2.0.1:15008", Services: map[string]uint32{"shop/cart": 3}},
		},
		Keeps: map[string][]string{"shop": {"kept"}, "empty": nil},
	}
	if diff := cmp.Diff(want, a.view()); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
}

// TestRecorded: what the real istiods of two releases answered, in a network of two
// members that discover each other. test/e2e records it.
func TestRecorded(t *testing.T) {
	shop := func(own string, kept ...string) map[string]map[string]bool {
		spaces := map[string]map[string]bool{"shop": {"cart": true, "ports": true, "till": true, "empty": own == "eastus-1", "waypoint": false}, "tools": {"all": own == "eastus-1"}}
		for _, name := range kept {
			spaces["shop"][name] = false
		}
		return spaces
	}
	accounts := []string{"shop/default"}
	for _, tt := range []struct {
		release, member, peer, gateway string
		spaces                         map[string]map[string]bool
		exports                        []peering.Exported
		sees                           map[string]uint32
	}{
		{"1.30.4", "eastus-1", "westus-1", "198.18.2.1:15008", shop("eastus-1"), []peering.Exported{
			{Namespace: "shop", Name: "cart", Ports: []peering.Port{{Port: 80, Target: 80}}, Ready: 3, Accounts: accounts, Waypoint: "shop/waypoint"},
			{Namespace: "shop", Name: "empty", Ports: []peering.Port{{Port: 80, Target: 80}}, Waypoint: "shop/waypoint"},
			{Namespace: "shop", Name: "ports", Ports: []peering.Port{{Port: 80, Target: 80}}, Ready: 1, Accounts: accounts, Waypoint: "shop/waypoint"},
			{Namespace: "shop", Name: "till", Ports: []peering.Port{{Port: 80, Target: 80}}, Ready: 1, Accounts: accounts, Waypoint: "shop/waypoint"},
			{Namespace: "tools", Name: "all", Ports: []peering.Port{{Port: 80, Target: 80}}, Ready: 1, Accounts: []string{"tools/default"}},
		}, map[string]uint32{"shop/cart": 2, "shop/ports": 1}},
		// Its own Service till is not global, and wins.
		{"1.31.0", "westus-1", "eastus-1", "198.18.6.1:15008", shop("westus-1", "till", "empty"), []peering.Exported{
			{Namespace: "shop", Name: "cart", Ports: []peering.Port{{Port: 80, Target: 80}}, Ready: 2, Accounts: accounts, Waypoint: "shop/waypoint"},
			{Namespace: "shop", Name: "ports", Ports: []peering.Port{{Port: 80, Target: 80}, {Port: 81, Target: 81}}, Ready: 1, Accounts: accounts, Waypoint: "shop/waypoint"},
		}, map[string]uint32{"shop/cart": 3, "shop/ports": 1, "tools/all": 1}},
	} {
		file := func(question string) string {
			text, err := os.ReadFile(filepath.Join("testdata", question+"-"+tt.release+".json"))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		a := answer{question: Question{Member: tt.member}, spaces: tt.spaces, served: readServed(t, file("ambientz"))}
		got := a.view()
		if diff := cmp.Diff(tt.exports, got.Exports.Services); diff != "" {
			t.Errorf("%s: exports (-want +got):\n%s", tt.release, diff)
		}
		want := []peering.Remote{{Network: "net-of-" + tt.peer, Member: tt.peer, Gateway: tt.gateway, Services: tt.sees}}
		if diff := cmp.Diff(want, got.Sees); diff != "" {
			t.Errorf("%s: sees (-want +got):\n%s", tt.release, diff)
		}
		clusters := clustersOf(t.Context(), serve(t, says(file("clusterz"))))
		if diff := cmp.Diff([]Cluster{{ID: tt.member, SyncStatus: Synced}, {ID: tt.peer, SecretName: "applink-system/istio-remote-secret-" + tt.peer, SyncStatus: Synced}}, clusters.Clusters); diff != "" {
			t.Errorf("%s: clusters (-want +got):\n%s", tt.release, diff)
		}
	}
}

// TestServedForms: an answer in every form that it may have, and some that it must
// not have.
func TestServedForms(t *testing.T) {
	for _, tt := range []struct{ reason, text, err string }{
		{"nothing is served", `{"workloads":null,"services":null,"policies":null}`, ""},
		{"only the one", `{"services":[]}`, ""},
		{"no object", `[]`, "its answer has [ where { is expected"},
		{"no list", `{"workloads":{}}`, "its answer has { where a list is expected"},
		{"cut off", `{"workloads":[{"uid":"a"}`, "EOF"},
		{"another type", `{"workloads":[{"capacity":"three"}]}`, "cannot unmarshal"},
		{"an address that is none", `{"services":[{"addresses":[{"address":"!"}]}]}`, "illegal base64"},
	} {
		var s served
		err := s.read(json.NewDecoder(strings.NewReader(tt.text)))
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want %q", tt.reason, err, tt.err)
		}
	}
}

// apiOf is the API server of a member of these tests, whose lists have two pages.
func apiOf(t *testing.T, answer map[string]string) *member.Member {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Path
		if next := r.URL.Query().Get("continue"); next != "" {
			key += "?" + next
		}
		text, ok := answer[key]
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			text = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`
		}
		if strings.Contains(text, `"code":403`) {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	m, err := member.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func metadataList(next string, items ...string) string {
	return fmt.Sprintf(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1","continue":%q},"items":[%s]}`, next, strings.Join(items, ","))
}

func named(namespace, name, labels string) string {
	return fmt.Sprintf(`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"namespace":%q,"name":%q,"labels":{%s}}}`, namespace, name, labels)
}

const forbidden = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no","code":403}`

// TestReadMember: which services others discover, and the addresses of gateways.
func TestReadMember(t *testing.T) {
	gateway := func(name, class, addresses string) string {
		return fmt.Sprintf(`{"kind":"Gateway","apiVersion":"gateway.networking.k8s.io/v1","metadata":{"namespace":"mesh","name":%q},"spec":{"gatewayClassName":%q},"status":{"addresses":[%s]}}`, name, class, addresses)
	}
	lists := map[string]string{
		"/api/v1/namespaces":   metadataList("2", named("", "mesh", `"topology.istio.io/network":"net-e"`)),
		"/api/v1/namespaces?2": metadataList("", named("", "shop", `"topology.istio.io/network":"another"`), named("", "pay", "")),
		"/api/v1/services": metadataList("", named("shop", "cart", `"istio.io/global":"true"`), named("shop", "no", `"istio.io/global":"false"`), named("shop", "tier", `"tier":"front"`),
			named("pay", "all", ""), named("newer", "x", "")),
		"/apis/gateway.networking.k8s.io/v1/namespaces/mesh/gateways": `{"kind":"GatewayList","apiVersion":"gateway.networking.k8s.io/v1","items":[` + strings.Join([]string{
			gateway("other", "istio-remote", `{"type":"IPAddress","value":"10.9.0.9"}`),
			gateway("ew", "istio-east-west", `{"type":"IPAddress","value":"10.1.0.1"},{"type":"Hostname","value":"lb.example"},{"value":"10.96.0.7"},{"type":"other/kind","value":"x"}`),
		}, ",") + `]}`,
	}
	exports := []v1alpha1.Export{{Namespace: "pay"}, {Namespace: "shop", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "front"}}}}
	for _, tt := range []struct {
		reason   string
		change   map[string]string
		exports  []v1alpha1.Export
		gateways []string
		err      string
	}{
		{"all", nil, exports, []string{"10.1.0.1", "lb.example"}, ""},
		{"no right to read gateways", map[string]string{"/apis/gateway.networking.k8s.io/v1/namespaces/mesh/gateways": forbidden}, exports, nil, ""},
		{"no right to read services", map[string]string{"/api/v1/services": forbidden}, exports, nil, "list services"},
		{"a selector that is none", nil, []v1alpha1.Export{{Namespace: "pay", Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}}}, nil,
			`read the selector of an export of namespace "pay"`},
	} {
		answers := map[string]string{}
		for key, text := range lists {
			answers[key] = text
		}
		for key, text := range tt.change {
			answers[key] = text
		}
		a := answer{question: Question{Member: "east", Namespace: "mesh", Exports: tt.exports}}
		err := a.read(t.Context(), apiOf(t, answers))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.reason, err, tt.err)
			}
			continue
		}
		want := map[string]map[string]bool{"mesh": {}, "shop": {"cart": true, "no": false, "tier": true}, "pay": {"all": true}}
		if diff := cmp.Diff(want, a.spaces); diff != "" || err != nil || a.network != "net-e" {
			t.Errorf("%s: network %q, %v (-want +got):\n%s", tt.reason, a.network, err, diff)
		}
		if diff := cmp.Diff(tt.gateways, a.gateways); diff != "" {
			t.Errorf("%s: gateways (-want +got):\n%s", tt.reason, diff)
		}
	}
}

// TestNoIstiod: a member without any that runs has no view.
func TestNoIstiod(t *testing.T) {
	_, err := View(t.Context(), apiOf(t, map[string]string{
		"/api/v1/namespaces/mesh/pods": metadataList(""),
	}), Question{Member: "east", Namespace: "mesh"})
	if !errors.Is(err, ErrNoIstiod) {
		t.Errorf("%v", err)
	}
}
