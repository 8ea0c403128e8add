package peering

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

func labelled(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	east := map[string]string{"region": "east"}
	members := []Seen{
		{Name: "c", Labels: map[string]string{"region": "west"}, Announced: true},
		{Name: "b", Labels: east, Announced: true},
		{Name: "a", Labels: east, Announced: true},
		{Name: "new", Labels: east},
		{Name: "going", Labels: east, Announced: true, Leaving: true},
	}
	for _, tt := range []struct {
		reason    string
		discovery *v1alpha1.Discovery
		reader    string
		want      []Want
	}{
		{"all read all by default, and wait for one that is not ready", nil, "a", []Want{
			{Name: "b", Ready: true}, {Name: "c", Ready: true}, {Name: "new", Why: NotAnnounced}}},
		{"one that is not announced reads all the same", &v1alpha1.Discovery{}, "new", []Want{
			{Name: "a", Ready: true}, {Name: "b", Ready: true}, {Name: "c", Ready: true}}},
		{"one that leaves reads until it is gone", &v1alpha1.Discovery{}, "going", []Want{
			{Name: "a", Ready: true}, {Name: "b", Ready: true}, {Name: "c", Ready: true}, {Name: "new", Why: NotAnnounced}}},
		{"a region among itself", &v1alpha1.Discovery{Peers: []v1alpha1.Peering{{Selector: labelled("region", "east")}}}, "a", []Want{
			{Name: "b", Ready: true}, {Name: "new", Why: NotAnnounced}}},
		{"who is in no entry reads nobody", &v1alpha1.Discovery{Peers: []v1alpha1.Peering{{Selector: labelled("region", "east")}}}, "c", nil},
		{"one way", &v1alpha1.Discovery{Peers: []v1alpha1.Peering{
			{Selector: labelled("region", "west"), Discovers: labelled("region", "east")}}}, "c", []Want{
			{Name: "a", Ready: true}, {Name: "b", Ready: true}, {Name: "new", Why: NotAnnounced}}},
		{"and not the other", &v1alpha1.Discovery{Peers: []v1alpha1.Peering{
			{Selector: labelled("region", "west"), Discovers: labelled("region", "east")}}}, "a", nil},
		{"all read some", &v1alpha1.Discovery{Peers: []v1alpha1.Peering{{Discovers: labelled("region", "west")}}}, "a", []Want{{Name: "c", Ready: true}}},
		{"a selector that does not parse selects nothing", &v1alpha1.Discovery{Peers: []v1alpha1.Peering{
			{Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "region", Operator: "Near"}}}}}}, "a", nil},
		{"messages need no credentials", &v1alpha1.Discovery{Mode: v1alpha1.DiscoveryMessaging}, "a", nil},
	} {
		at := slices.IndexFunc(members, func(s Seen) bool { return s.Name == tt.reader })
		if diff := cmp.Diff(tt.want, Peers(tt.discovery, members[at], members)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

// TestPeersOfAnyFleet holds, for fleets made by chance, what must hold for all.
func TestPeersOfAnyFleet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // G404: repeatable on purpose.
		members, discovery := anyFleet(random)
		relation := RelationOf(discovery)
		shuffled := slices.Clone(members)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, reader := range members {
			wants := relation.Peers(reader, members)
			if diff := cmp.Diff(wants, relation.Peers(reader, shuffled)); diff != "" {
				t.Fatalf("seed %d: the order of members matters:\n%s", seed, diff)
			}
			if !slices.IsSortedFunc(wants, func(a, b Want) int { return strings.Compare(a.Name, b.Name) }) {
				t.Fatalf("seed %d: not sorted: %v", seed, wants)
			}
			for _, peer := range members {
				at := slices.IndexFunc(wants, func(w Want) bool { return w.Name == peer.Name })
				wanted := at >= 0
				switch {
				case wanted && (peer.Name == reader.Name || peer.Leaving):
					t.Fatalf("seed %d: %s reads %s", seed, reader.Name, peer.Name)
				case wanted && wants[at].Ready == (wants[at].Why != ""), wanted && wants[at].Ready && !peer.Announced:
					t.Fatalf("seed %d: %+v", seed, wants[at])
				case wanted != slices.Contains(relation.Readers(peer, members), reader.Name):
					t.Fatalf("seed %d: %s and %s do not agree that the one reads the other", seed, reader.Name, peer.Name)
				case len(discovery.Peers) == 0 && !wanted && peer.Name != reader.Name && !peer.Leaving:
					t.Fatalf("seed %d: %s does not read %s, and nothing says so", seed, reader.Name, peer.Name)
				}
			}
		}
	}
}

func anyFleet(random *rand.Rand) ([]Seen, *v1alpha1.Discovery) {
	value := func() string { return string(rune('x' + random.IntN(3))) }
	selector := func() *metav1.LabelSelector {
		if random.IntN(3) == 0 {
			return nil
		}
		return labelled("in", value())
	}
	var members []Seen
	for i := range 1 + random.IntN(8) {
		members = append(members, Seen{
			Name: fmt.Sprintf("m%d", i), Labels: map[string]string{"in": value()},
			Announced: random.IntN(4) > 0, Leaving: random.IntN(6) == 0,
		})
	}
	discovery := &v1alpha1.Discovery{}
	for range random.IntN(3) {
		discovery.Peers = append(discovery.Peers, v1alpha1.Peering{Selector: selector(), Discovers: selector()})
	}
	return members, discovery
}

var (
	issued = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	at     = Endpoint{Server: "https://east.example:6443", CA: []byte("pem")}
)

// canary is in each token's signature.
const canary = "canary-of-a-token"

// jwt is a token with claims.
func jwt(claims map[string]any) string {
	raw, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(raw) + "." + canary
}

func claims(life time.Duration, anchor, anchorUID string) map[string]any {
	return map[string]any{
		"iat": issued.Unix(), "exp": issued.Add(life).Unix(),
		"kubernetes.io": map[string]any{
			"namespace":      "applink-system",
			"serviceaccount": map[string]any{"name": Account, "uid": "account-1"},
			"secret":         map[string]any{"name": anchor, "uid": anchorUID},
		},
	}
}

// minted is a credential as an API server makes it.
func minted(t *testing.T, life time.Duration) Credential {
	t.Helper()
	c, err := Mint(t.Context(), answering(jwt(claims(life, "isthmus-peer-west", "anchor-1"))), request(life))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(life time.Duration) Request {
	return Request{Peer: "east", Endpoint: at, Namespace: "applink-system", Anchor: "isthmus-peer-west", AnchorUID: "anchor-1", Lifetime: life}
}

func answering(token string) Asking {
	return func(_ context.Context, _, _ string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		r.Status.Token = token
		return r, nil
	}
}

func TestMint(t *testing.T) {
	t.Parallel()
	var asked *authenticationv1.TokenRequest
	ask := func(_ context.Context, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		if namespace != "applink-system" || account != Account {
			t.Errorf("asked for %s/%s", namespace, account)
		}
		asked = r.DeepCopy()
		r.Status.Token = jwt(claims(time.Hour, "isthmus-peer-west", "anchor-1"))
		return r, nil
	}
	c, err := Mint(t.Context(), ask, request(168*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	bound := &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: "isthmus-peer-west", UID: "anchor-1"}
	if diff := cmp.Diff(bound, asked.Spec.BoundObjectRef); diff != "" || *asked.Spec.ExpirationSeconds != 168*3600 {
		t.Errorf("asked for %d s, bound (-want +got):\n%s", *asked.Spec.ExpirationSeconds, diff)
	}
	if c.Life() != time.Hour {
		t.Errorf("life of %s, want the hour that was granted", c.Life())
	}
	for reason, token := range map[string]string{
		"no token":              "",
		"no JSON web token":     "opaque",
		"claims that are none":  "e30.%%%." + canary,
		"no life":               jwt(map[string]any{"iat": 5, "exp": 5}),
		"bound to another":      jwt(claims(time.Hour, "isthmus-peer-west", "anchor-2")),
		"bound to no anchor":    jwt(map[string]any{"iat": 5, "exp": 9, "kubernetes.io": map[string]any{"namespace": "applink-system", "serviceaccount": map[string]any{"name": Account}}}),
		"one of another member": jwt(map[string]any{"iat": 5, "exp": 9}),
	} {
		if _, err := Mint(t.Context(), answering(token), request(time.Hour)); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: error %v", reason, err)
		}
	}
	refused := errors.New("refused")
	_, err = Mint(t.Context(), func(context.Context, string, string, *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		return nil, refused
	}, request(time.Hour))
	if !errors.Is(err, refused) {
		t.Errorf("error %v does not wrap the cause", err)
	}
}

func TestSecretAndBack(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []Endpoint{at, {Server: "https://10.0.0.1", TLSServerName: "kubernetes"}} {
		c := minted(t, time.Hour)
		c.Endpoint = endpoint
		secret, again := c.Secret("applink-system"), c.Secret("applink-system")
		if diff := cmp.Diff(secret, again); diff != "" {
			t.Errorf("another Secret the second time:\n%s", diff)
		}
		if secret.GetName() != "istio-remote-secret-east" || secret.GetLabels()[LabelMultiCluster] != "true" || secret.GetAnnotations()[AnnotationCluster] != "east" {
			t.Errorf("metadata %v", secret.Object["metadata"])
		}
		data, token := c.Data(), []byte(c.Token.Reveal())
		back, err := Parse("east", data, token)
		if diff := cmp.Diff(c, back); err != nil || diff != "" {
			t.Errorf("read back: %v (-want +got):\n%s", err, diff)
		}
		if c.Status().Digest != Digest(data, token) {
			t.Error("the record has another digest than what is in the Secrets")
		}
	}
}

// TestReplacedTokenKeepsTheKubeconfig: while the peer is where it was, another token
// is in the file alone; else the kubeconfig has it, too.
func TestReplacedTokenKeepsTheKubeconfig(t *testing.T) {
	t.Parallel()
	first := minted(t, time.Hour)
	next := request(2 * time.Hour)
	next.Before = &first
	again, err := Mint(t.Context(), answering(jwt(claims(2*time.Hour, "isthmus-peer-west", "anchor-1"))), next)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Secret("applink-system"), again.Secret("applink-system")); diff != "" {
		t.Errorf("another kubeconfig:\n%s", diff)
	}
	files, _, _ := unstructured.NestedStringMap(Tokens("applink-system", []Credential{again}).Object, "data")
	if raw, err := base64.StdEncoding.DecodeString(files["east"]); err != nil || string(raw) != again.Token.Reveal() || again.Token.Equal(first.Token) {
		t.Error("the file does not have the new token")
	}
	if again.Status().Digest == first.Status().Digest || again.Life() != 2*time.Hour {
		t.Errorf("the record is that of the old token: %+v", again.Status())
	}
	back, err := Parse("east", again.Data(), []byte(again.Token.Reveal()))
	if diff := cmp.Diff(again, back); err != nil || diff != "" {
		t.Errorf("read back: %v (-want +got):\n%s", err, diff)
	}
	if back, err = Parse("east", again.Data(), nil); err != nil || !back.Token.Equal(first.Token) || back.Life() != time.Hour {
		t.Errorf("without the file the kubeconfig is not kept: %v %+v", err, back.Claims)
	}
	next.Endpoint.Server = "https://moved"
	moved, err := Mint(t.Context(), answering(again.Token.Reveal()), next)
	if err != nil || !moved.First.Equal(again.Token) {
		t.Errorf("the kubeconfig of a peer that has moved has an old token: %v", err)
	}
}

// TestKubeconfigIsWhatIstiodTakes holds the text to a golden: with each change of it
// every istiod connects anew.
func TestKubeconfigIsWhatIstiodTakes(t *testing.T) {
	t.Parallel()
	c := Credential{Peer: "east", Endpoint: Endpoint{Server: "https://east.example:6443", TLSServerName: "kubernetes", CA: []byte("pem")}, Token: NewToken("d.e.f"), First: NewToken("a.b.c")}
	const want = `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: cGVt
    server: https://east.example:6443
    tls-server-name: kubernetes
  name: east
contexts:
- context:
    cluster: east
    user: east
  name: east
current-context: east
kind: Config
users:
- name: east
  user:
    token: a.b.c
    tokenFile: var/run/secrets/isthmus/peers/east
`
	if diff := cmp.Diff(want, string(c.Data()["east"])); diff != "" {
		t.Errorf("kubeconfig (-want +got):\n%s", diff)
	}
	own := strings.NewReplacer("a.b.c", "d.e.f", "    tokenFile: var/run/secrets/isthmus/peers/east\n", "").Replace(want)
	if diff := cmp.Diff(own, string(c.Kubeconfig())); diff != "" {
		t.Errorf("kubeconfig for others than istiod (-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := string(minted(t, time.Hour).Data()["east"])
	for reason, data := range map[string]map[string]string{
		"nothing":                  {},
		"another peer's":           {"west": good},
		"two keys":                 {"east": good, "west": good},
		"not YAML":                 {"east": "\tno: {"},
		"no users":                 {"east": "apiVersion: v1\nkind: Config\n"},
		"a plugin to execute":      {"east": strings.Replace(good, "    token:", "    exec: {command: sh}\n    token:", 1)},
		"TLS that is not verified": {"east": strings.Replace(good, "    server:", "    insecure-skip-tls-verify: true\n    server:", 1)},
		"a token that is none":     {"east": strings.Replace(good, canary, "."+canary, 1)},
	} {
		bytes := map[string][]byte{}
		for name, text := range data {
			bytes[name] = []byte(text)
		}
		if _, err := Parse("east", bytes, nil); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: error %v", reason, err)
		}
	}
}

func TestDigestTellsDataApart(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for reason, data := range map[string]map[string][]byte{
		"nothing": nil, "empty": {"": nil}, "a=b": {"a": []byte("b")}, "ab=": {"ab": nil}, "a=,b=": {"a": nil, "b": nil}, "a=c": {"a": []byte("c")},
	} {
		for _, token := range []string{"", "t"} {
			digest := Digest(data, []byte(token))
			if other, ok := seen[digest]; ok || len(digest) != 64 {
				t.Errorf("%s %s and %s: digest %s", reason, token, other, digest)
			}
			seen[digest] = reason + " " + token
		}
	}
}

// TestTokensNeverShow prints and encodes a credential in every way that Go has.
func TestTokensNeverShow(t *testing.T) {
	t.Parallel()
	c := minted(t, time.Hour)
	hidden := struct{ inside []Credential }{[]Credential{c}}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		for _, what := range []any{c, &c, c.Token, &c.Token, hidden, &hidden, map[string]Credential{"c": c}, c.First} {
			shown = append(shown, fmt.Sprintf(verb, what))
		}
	}
	for _, what := range []any{c, &c, hidden, c.Status()} {
		raw, err := json.Marshal(what)
		if err != nil {
			raw = []byte(err.Error())
		}
		shown = append(shown, string(raw))
	}
	for _, secret := range []string{canary, fmt.Sprintf("%x", canary), strings.Split(c.Token.Reveal(), ".")[1]} {
		for _, text := range shown {
			if strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
				t.Errorf("shows the token: %s", text)
			}
		}
	}
	if !strings.Contains(c.Token.Reveal(), canary) {
		t.Error("the token has no canary, so nothing is shown")
	}
}

func TestPolicyOf(t *testing.T) {
	t.Parallel()
	before := metav1.NewTime(issued)
	for _, tt := range []struct {
		reason string
		in     v1alpha1.PeerCredentials
		want   Policy
	}{
		{"defaults", v1alpha1.PeerCredentials{}, Policy{Lifetime: 168 * time.Hour, RotateAt: 40}},
		{"as written", v1alpha1.PeerCredentials{Lifetime: &metav1.Duration{Duration: time.Hour}, RotateAt: "70%", ReplaceIssuedBefore: &before},
			Policy{Lifetime: time.Hour, RotateAt: 70, ReplaceIssuedBefore: issued}},
	} {
		if diff := cmp.Diff(tt.want, PolicyOf(tt.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestAnchor(t *testing.T) {
	t.Parallel()
	const first, second = "isthmus-peer-west", "isthmus-peer-west.1793534400"
	at := func(after time.Duration) *metav1.Time { return &metav1.Time{Time: issued.Add(after)} }
	for _, tt := range []struct {
		reason string
		before *metav1.Time
		has    string
		want   string
	}{
		{"the first", nil, "", first},
		{"it stays", nil, first, first},
		{"older ones are to be replaced", at(0), first, second},
		{"a new reader then", at(0), "", second},
		{"it stays, too", at(0), second, second},
		{"the fleet does not say so any more", nil, second, second},
		{"nor to one that had not come to it", nil, first, first},
		{"the fleet says an earlier time", at(-time.Hour), second, second},
		{"a later time", at(time.Second), second, "isthmus-peer-west.1793534401"},
		{"a time to come", at(48 * time.Hour), second, second},
		{"a time to come, of a new reader", at(48 * time.Hour), "", first},
		{"another reader's name that begins alike", nil, "isthmus-peer-west-2.5", first},
		{"a name that is no anchor", nil, "isthmus-peer-west.x", first},
	} {
		if got := Anchor("west", v1alpha1.PeerCredentials{ReplaceIssuedBefore: tt.before}, tt.has, issued.Add(time.Hour)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
	if !IsAnchorOf("west", second) || IsAnchorOf("west", "isthmus-peer-west-2") || IsAnchorOf("west", "cacerts") {
		t.Error("anchors of a reader are told from others by their names")
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const life = 100 * time.Hour
	keep := Verdict{Usable: true}
	for _, tt := range []struct {
		reason string
		change func(*Policy, *Facts)
		want   Verdict
	}{
		{"as it was made", func(*Policy, *Facts) {}, keep},
		{"not there", func(_ *Policy, f *Facts) { f.Live = nil }, Verdict{Mint: true, Reason: Missing}},
		{"no credential", func(_ *Policy, f *Facts) { f.Live, f.Unreadable = nil, errors.New("unreadable") }, Verdict{Mint: true, Reason: Unreadable}},
		{"other bytes than the hub knows", func(_ *Policy, f *Facts) { f.Digest = "other" }, Verdict{Mint: true, Reason: Edited, Usable: true}},
		{"a hub that lost its records", func(_ *Policy, f *Facts) { f.Known = nil }, Verdict{Mint: true, Reason: Edited, Usable: true}},
		{"an edit that leads elsewhere", func(_ *Policy, f *Facts) { f.Digest, f.Endpoint = "other", &Endpoint{Server: "https://elsewhere"} },
			Verdict{Mint: true, Reason: Edited}},
		{"another address", func(_ *Policy, f *Facts) { f.Endpoint = &Endpoint{Server: "https://moved", CA: at.CA} }, Verdict{Mint: true, Reason: EndpointChanged, Usable: true}},
		{"another CA", func(_ *Policy, f *Facts) { f.Endpoint = &Endpoint{Server: at.Server, CA: []byte("new")} }, Verdict{Mint: true, Reason: EndpointChanged, Usable: true}},
		{"an address that is not known now", func(_ *Policy, f *Facts) { f.Endpoint = nil }, keep},
		{"an account that was made anew", func(_ *Policy, f *Facts) { f.AccountUID = "account-2" }, Verdict{Mint: true, Reason: AccountChanged, Usable: true}},
		{"another namespace", func(_ *Policy, f *Facts) { f.Namespace = "istio-system" }, Verdict{Mint: true, Reason: AccountChanged, Usable: true}},
		{"an account that is not known now", func(_ *Policy, f *Facts) { f.AccountUID = "" }, keep},
		{"an anchor that was made anew", func(_ *Policy, f *Facts) { f.AnchorUID = "anchor-2" }, Verdict{Mint: true, Reason: AnchorChanged, Usable: true}},
		{"an anchor that is not known now", func(_ *Policy, f *Facts) { f.AnchorUID, f.Anchor = "", "isthmus-peer-west.1" }, keep},
		{"from before what the fleet says", func(p *Policy, _ *Facts) { p.ReplaceIssuedBefore = issued.Add(time.Minute) }, Verdict{Mint: true, Reason: ReplacedByFleet, Usable: true}},
		{"from exactly then", func(p *Policy, _ *Facts) { p.ReplaceIssuedBefore = issued }, keep},
		{"what the fleet says of the future", func(p *Policy, _ *Facts) { p.ReplaceIssuedBefore = issued.Add(90 * time.Hour) }, keep},
		{"a clock that fell back", func(_ *Policy, f *Facts) { f.Now = issued.Add(-MaxSkew - time.Second) }, Verdict{Mint: true, Reason: FromTheFuture, Usable: true, Timed: true}},
		{"skew that is bearable", func(_ *Policy, f *Facts) { f.Now = issued.Add(-MaxSkew) }, keep},
		{"too late for another to be in use in time", func(p *Policy, f *Facts) { f.Now, p.RotateAt = issued.Add(life-Grace), 100 },
			Verdict{Mint: true, Reason: RotationDue, Usable: true, Timed: true}},
		{"expired", func(_ *Policy, f *Facts) { f.Now = issued.Add(life) }, Verdict{Mint: true, Reason: Expired, Usable: true, Timed: true}},
		{"before its share of life", func(_ *Policy, f *Facts) { f.Now = issued.Add(36 * time.Hour) }, keep},
		{"after it", func(_ *Policy, f *Facts) { f.Now = issued.Add(40 * time.Hour) }, Verdict{Mint: true, Reason: RotationDue, Usable: true, Timed: true}},
		{"what leads elsewhere goes before what is old", func(_ *Policy, f *Facts) {
			f.Now, f.Endpoint = issued.Add(life), &Endpoint{Server: "https://moved"}
		}, Verdict{Mint: true, Reason: EndpointChanged, Usable: true}},
	} {
		live := minted(t, life)
		policy := Policy{Lifetime: life, RotateAt: 40}
		facts := Facts{
			Now: issued.Add(time.Hour), Known: live.Status(), Live: &live, Digest: live.Status().Digest, Endpoint: &at,
			Namespace: "applink-system", AccountUID: "account-1", Anchor: "isthmus-peer-west", AnchorUID: "anchor-1",
		}
		tt.change(&policy, &facts)
		if diff := cmp.Diff(tt.want, Judge(policy, facts)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

// TestDueAtIsSpread shows that tokens which were made together are not all due
// together, and never later than their share.
func TestDueAtIsSpread(t *testing.T) {
	t.Parallel()
	at := map[time.Time]bool{}
	earliest, latest := issued.Add(36*time.Hour), issued.Add(40*time.Hour)
	for i := range 100 {
		c := Claims{Anchor: "isthmus-peer-west", AnchorUID: types.UID(fmt.Sprint(i)), IssuedAt: issued, ExpiresAt: issued.Add(100 * time.Hour)}
		due := Policy{RotateAt: 40}.DueAt(c)
		if due.Before(earliest) || due.After(latest) {
			t.Errorf("due at %s, want from %s to %s", due, earliest, latest)
		}
		at[due] = true
	}
	if len(at) < 90 {
		t.Errorf("100 tokens are due at %d times: %v", len(at), slices.SortedFunc(maps.Keys(at), time.Time.Compare))
	}
}
