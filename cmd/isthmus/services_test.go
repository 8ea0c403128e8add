package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

const configMapsPath = "GET /api/v1/namespaces/isthmus-system/configmaps"

func viewObject(t *testing.T, member string, view peering.View) string {
	t.Helper()
	text, err := view.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"isthmus-services-%s"},"binaryData":{"view":%q}}`, member, base64.StdEncoding.EncodeToString(text))
}

// discoveryHub is a hub with a network of two members that discover each other, a
// third of which nothing is known, and another network.
func discoveryHub(t *testing.T) (kubeconfig string) {
	t.Helper()
	peer := func(name, state, more string) string {
		return fmt.Sprintf(`{"name":%q,"state":%q%s}`, name, state, more)
	}
	member := func(name, network, discovery string) string {
		return object("Member", name, fmt.Sprintf(`"applicationNetwork":%q`, network), discovery)
	}
	credential := `,"credential":{"issuedAt":"2026-01-01T00:00:00Z","expiresAt":"2026-01-08T00:00:00Z","digest":"abc"}`
	return startHub(t, map[string]string{
		networksPath: object("ApplicationNetwork", "prod", "", "") + "," + object("ApplicationNetwork", "dev", "", ""),
		membersPath: strings.Join([]string{
			member("west", "prod", `"discovery":{"peers":[`+peer("east", "Synced", credential)+`,`+peer("new", "Waiting", `,"reason":"NotAnnounced","message":"its gateway has no address yet"`)+`]}`),
			member("east", "prod", `"discovery":{"peers":[`+peer("west", "Failed", `,"reason":"TokenRefused","message":"the API server of west\nrejects the token"`+credential)+`]}`),
			member("new", "prod", `"discovery":{"problems":[{"service":"*","reason":"NotAsked","message":"what istiod serves is not known: it is closed"}]}`),
			member("lab", "dev", ""),
		}, ","),
		configMapsPath: viewObject(t, "east", peering.View{
			Exports: peering.Exports{Network: "net-e", Gateways: []string{"10.1.0.1"}, Services: []peering.Exported{
				{Namespace: "shop", Name: "cart", Ready: 2, Unready: 1, Waypoint: "shop/waypoint"}, {Namespace: "shop", Name: "till", Ready: 1},
			}}, Keeps: map[string][]string{"shop": nil},
		}) + "," + viewObject(t, "west", peering.View{
			Exports: peering.Exports{Network: "net-w", Gateways: []string{"10.2.0.1"}, Services: []peering.Exported{{Namespace: "shop", Name: "cart", Ready: 4, Waypoint: "shop/waypoint"}}},
			Keeps:   map[string][]string{"shop": {"till"}},
			Sees:    []peering.Remote{{Network: "net-e", Member: "east", Gateway: "10.1.0.1:15008", Services: map[string]uint32{"shop/cart": 2}}},
		}) + `,{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"isthmus-services-lab"},"binaryData":{"view":"Pw=="}}`,
	})
}

func TestServices(t *testing.T) {
	t.Parallel()
	kubeconfig := discoveryHub(t)
	for _, tt := range []struct {
		reason, args   string
		stdout, stderr string
		code           int
	}{
		{"a network", "prod", `NETWORK  SERVICE    MEMBER  ENDPOINTS  GATEWAY   WAYPOINT       REACHES
prod     shop/cart  east    2/3        10.1.0.1  shop/waypoint  west: NotSynced
prod     shop/cart  new     ?          -         -              east: NotAsked, west: NotAsked
prod     shop/cart  west    4/4        10.2.0.1  shop/waypoint  east: 2
prod     shop/till  east    1/1        10.1.0.1  -              -
prod     shop/till  new     ?          -         -              east: NotAsked
prod     shop/till  west    local      -         -              east: NotGlobalEverywhere
`, `isthmus: shop/cart on east: NotSynced: istiod has not read west, so that its endpoints are not served here: isthmus peers says why
isthmus: shop/till on west: NotGlobalEverywhere: its own Service is not discovered by others, so only that is served here and not that of east: give it the label istio.io/global=true, or name it in discovery.exports
isthmus: member new: what istiod serves is not known: it is closed
`, exitProblems},
		{"a member", "--member west", `NETWORK  SERVICE    MEMBER  ENDPOINTS  GATEWAY   WAYPOINT       REACHES
prod     shop/cart  west    4/4        10.2.0.1  shop/waypoint  east: 2
prod     shop/till  west    local      -         -              east: NotGlobalEverywhere
`, `isthmus: shop/till on west: NotGlobalEverywhere: its own Service is not discovered by others, so only that is served here and not that of east: give it the label istio.io/global=true, or name it in discovery.exports
`, exitProblems},
		{"what is to be changed", "prod --member east --problems", `NETWORK  SERVICE    MEMBER  REASON     MESSAGE
prod     shop/cart  east    NotSynced  istiod has not read west, so that its endpoints are not served here: isthmus peers says why
`, "", exitProblems},
		{"a network without services", "dev", "", `isthmus: no services that members discover
isthmus: hint: give a Service the label istio.io/global=true, or name it in discovery.exports of the network
isthmus: member lab: nothing is known of its services yet
`, exitFine},
		{"a network that is misspelt", "prd", "", "isthmus: no network \"prd\" on the hub\nisthmus: hint: did you mean \"prod\"?\n", exitCannotRun},
		{"a member that is misspelt", "--member wset", "", "isthmus: no member \"wset\" on the hub\nisthmus: hint: did you mean \"west\"?\n", exitCannotRun},
		{"a member of another network", "dev --member west", "", "isthmus: no member \"west\" on the hub\n", exitCannotRun},
	} {
		stdout, stderr, code := isthmus(t, append([]string{"services", "--kubeconfig", kubeconfig}, strings.Fields(tt.args)...)...)
		if diff := cmp.Diff(tt.stdout, stdout); diff != "" {
			t.Errorf("%s: stdout (-want +got):\n%s", tt.reason, diff)
		}
		if diff := cmp.Diff(tt.stderr, stderr); diff != "" || code != tt.code {
			t.Errorf("%s: exit code %d, stderr (-want +got):\n%s", tt.reason, code, diff)
		}
	}
	stdout, _, code := isthmus(t, "services", "prod", "--kubeconfig", kubeconfig, "-o", "json")
	for _, part := range []string{`"apiVersion": "isthmus.dev/v1alpha1"`, `"kind": "ServicesReport"`, `"name": "shop/till"`, `"has": "Local"`, `"reason": "NotGlobalEverywhere"`, `"endpoints": 2`, `"known": false`} {
		if !strings.Contains(stdout, part) || code != exitProblems {
			t.Errorf("exit code %d, and no %s in %s", code, part, stdout)
		}
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	kubeconfig := discoveryHub(t)
	notes := `isthmus: east discovers new: -: not looked at yet
isthmus: east discovers west: TokenRefused: the API server of west\nrejects the token
isthmus: new discovers east: -: not looked at yet
isthmus: new discovers west: -: not looked at yet
isthmus: west discovers new: NotAnnounced: its gateway has no address yet
`
	for _, tt := range []struct {
		reason, args   string
		stdout, stderr string
		code           int
	}{
		{"a small network", "prod", `PROD  east     new      west
east  .        Unknown  Failed
new   Unknown  .        Unknown
west  Synced   Waiting  .
`, notes, exitProblems},
		{"as a list", "prod --list", `NETWORK  READER  PEER  STATE    REASON        ISSUED                EXPIRES
prod     east    new   Unknown  -             -                     -
prod     east    west  Failed   TokenRefused  2026-01-01T00:00:00Z  2026-01-08T00:00:00Z
prod     new     east  Unknown  -             -                     -
prod     new     west  Unknown  -             -                     -
prod     west    east  Synced   -             2026-01-01T00:00:00Z  2026-01-08T00:00:00Z
prod     west    new   Waiting  NotAnnounced  -                     -
`, notes, exitProblems},
		{"nobody to discover", "dev", "", "isthmus: dev: no member is to discover another\n", exitFine},
		{"a network that is misspelt", "prods", "", "isthmus: no network \"prods\" on the hub\nisthmus: hint: did you mean \"prod\"?\n", exitCannotRun},
	} {
		stdout, stderr, code := isthmus(t, append([]string{"peers", "--kubeconfig", kubeconfig}, strings.Fields(tt.args)...)...)
		if diff := cmp.Diff(tt.stdout, stdout); diff != "" {
			t.Errorf("%s: stdout (-want +got):\n%s", tt.reason, diff)
		}
		if diff := cmp.Diff(tt.stderr, stderr); diff != "" || code != tt.code {
			t.Errorf("%s: exit code %d, stderr (-want +got):\n%s", tt.reason, code, diff)
		}
	}
	stdout, _, code := isthmus(t, "peers", "--member", "west", "--kubeconfig", kubeconfig, "-o", "json")
	for _, part := range []string{`"kind": "PeersReport"`, `"reader": "east"`, `"peer": "west"`, `"state": "Failed"`, `"expiresAt": "2026-01-08T00:00:00Z"`} {
		if !strings.Contains(stdout, part) || code != exitProblems {
			t.Errorf("exit code %d, and no %s in %s", code, part, stdout)
		}
	}
	if strings.Contains(stdout, `"peer": "new",
          "name": "new",
          "state": "Unknown"`) {
		t.Errorf("pairs of others in %s", stdout)
	}
}

// TestManyPeers: a network that is too large for a matrix is a list.
func TestManyPeers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		members int
		name    string
		list    bool
	}{{9, "m%02d", false}, {12, "m%02d", true}, {13, "m%02d", true}, {5, "quite-a-long-name-of-one-%02d", true}} {
		var members []string
		for i := range tt.members {
			members = append(members, object("Member", fmt.Sprintf(tt.name, i), `"applicationNetwork":"prod"`, ""))
		}
		kubeconfig := startHub(t, map[string]string{networksPath: object("ApplicationNetwork", "prod", "", ""), membersPath: strings.Join(members, ",")})
		stdout, _, _ := isthmus(t, "peers", "--kubeconfig", kubeconfig)
		if list := strings.HasPrefix(stdout, "NETWORK"); list != tt.list {
			t.Errorf("%d members: list %v:\n%s", tt.members, list, stdout)
		}
	}
}
