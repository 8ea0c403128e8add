package fleet_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// discovering is a network of that many members, which are of two halves, with
// peers in YAML's flow style.
func discovering(members int, peers string) fstest.MapFS {
	var text strings.Builder
	text.WriteString("apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec: {discovery: {peers: " + peers + "}}\n")
	for i := range members {
		fmt.Fprintf(&text, `---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: member-%[1]d, labels: {half: "%[2]d", name: member-%[1]d}}
spec: {applicationNetwork: prod, cluster: {type: Kubernetes, kubeconfigRef: {name: member-%[1]d}}}
`, i, i%2)
	}
	return fstest.MapFS{"fleet.yaml": {Data: []byte(text.String())}}
}

// Each peer costs every istiod memory and time: what that comes to is told once it
// is much.
func TestCostlyDiscovery(t *testing.T) {
	for _, tt := range []struct {
		reason, peers string
		members       int
		want          string
	}{
		{"all to all, as many as pass", "[]", 21, ""},
		{"one more", "[]", 22, `member "member-0" discovers 21 others: its istiod needs about 3.8 GB of memory and 21 % of a core more, by Istio's figures of 180 MB and 1 % for each`},
		{"halves", `[{selector: {matchLabels: {half: "0"}}}, {selector: {matchLabels: {half: "1"}}}]`, 42, ""},
		{"larger halves, each the other, too", `[{selector: {matchLabels: {half: "0"}}}, {selector: {matchLabels: {half: "0"}}, discovers: {matchLabels: {half: "1"}}}, {selector: {matchLabels: {half: "1"}}}]`, 42,
			`member "member-0" discovers 41 others: its istiod needs about 7.4 GB of memory and 41 % of a core more, by Istio's figures of 180 MB and 1 % for each`},
		{"one that watches over all, and itself", `[{selector: {matchLabels: {name: member-3}}, discovers: {}}]`, 22,
			`member "member-3" discovers 21 others: its istiod needs about 3.8 GB of memory and 21 % of a core more, by Istio's figures of 180 MB and 1 % for each`},
		{"a thousand", "[{}]", 1000, `member "member-0" discovers 999 others: its istiod needs about 179.8 GB of memory and 999 % of a core more, by Istio's figures of 180 MB and 1 % for each`},
	} {
		f, problems := fleet.Load(discovering(tt.members, tt.peers))
		if f == nil {
			t.Fatalf("%s: %v", tt.reason, problems)
		}
		got := ""
		for _, p := range problems {
			if p.Reason == "CostlyDiscovery" {
				got += p.Message
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

// A file that cannot be read may hold the member that a selector means.
func TestPeersOfAFleetThatIsNotWhole(t *testing.T) {
	files := discovering(2, `[{selector: {matchLabels: {half: "7"}}}]`)
	if _, problems := fleet.Load(files); !has(problems, "IdlePeering") {
		t.Errorf("problems: %v", problems)
	}
	files["broken.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: isthmus.dev/v1alpha1\nkind: [\n")}
	if _, problems := fleet.Load(files); has(problems, "IdlePeering") {
		t.Errorf("problems: %v", problems)
	}
}
