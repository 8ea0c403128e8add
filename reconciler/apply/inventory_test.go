package apply

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

func entries(names ...string) []Entry {
	var out []Entry
	for _, name := range names {
		out = append(out, Entry{
			Subject: Subject{Version: "v1", Kind: "ConfigMap", Namespace: "n", Name: name}, Stage: bundle.StageControlPlane,
		})
	}
	return out
}

func TestInventoryWrittenAhead(t *testing.T) {
	before := Inventory{Digest: "d1", Entries: entries("a", "b")}
	before.Entries[0].UID, before.Entries[0].Hash = "u", "h"
	intended := entries("b", "c")
	intended[0].Version, intended[0].Hash, intended[1].Hash, intended[1].Keep = "v2", "new", "new", true

	got := before.with(intended)

	want := Inventory{Digest: "d1", Entries: entries("a", "b", "c")}
	want.Entries[0].UID, want.Entries[0].Hash = "u", "h"
	want.Entries[2].Keep = true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("neither claims what is not applied nor drops what is (-want +got):\n%s", diff)
	}
	if len(before.Entries) != 2 {
		t.Error("changed the inventory it was made from")
	}
}

func TestInventoryInParts(t *testing.T) {
	for _, tt := range []struct {
		entries, parts int
	}{{10, 0}, {10000, 3}} {
		var names []string
		for i := range tt.entries {
			names = append(names, fmt.Sprintf("object-%05d", i))
		}
		in := Inventory{Network: "n", Entries: entries(names...)}
		h, parts := in.split(maxPart)
		if len(h.Parts) != len(parts) || (len(parts) > 0) != (tt.parts > 0) {
			t.Errorf("%d entries: %d parts", tt.entries, len(parts))
		}
		for name, part := range parts {
			if len(part) > maxPart || !strings.HasPrefix(name, inventoryName+"-") {
				t.Errorf("part %s has %d bytes", name, len(part))
			}
		}
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseHead(string(raw))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, back); diff != "" {
			t.Errorf("head (-want +got):\n%s", diff)
		}
	}
}

func TestParseHead(t *testing.T) {
	for _, tt := range []struct {
		reason, raw string
		want        member.Reason
	}{
		{"a later version says so", `{"version":2}`, InventoryTooNew},
		{"a later version in another shape too", `{"version":2,"inventory":7}`, InventoryTooNew},
		{"no version", `{"inventory":{}}`, member.Unclassified},
		{"no content", `{"version":1}`, member.Unclassified},
		{"not JSON", `{`, member.Unclassified},
		{"empty", ``, member.Unclassified},
	} {
		if _, err := parseHead(tt.raw); member.ReasonOf(err) != tt.want {
			t.Errorf("%s: error %v, want %s", tt.reason, err, tt.want)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add(`{"version":1,"inventory":{"network":"n","entries":[{"version":"v1","kind":"ConfigMap","name":"a","stage":"cni"}]}}`)
	f.Add(`{"version":1,"parts":["isthmus-inventory-00"]}`)
	f.Fuzz(func(t *testing.T, raw string) {
		h, err := parseHead(raw)
		if err == nil && (h.Version != inventoryVersion || h.Inventory == nil && len(h.Parts) == 0) {
			t.Errorf("accepted %q", raw)
		}
	})
}

// TestInventoryOfTenThousand is more than one object of the API server can hold.
// Two processes write it: the later one is told, loses nothing, and goes on from
// what it then reads.
func TestInventoryOfTenThousand(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	mesh := Mesh{Network: "many", SystemNamespace: "many-system"}
	create(t, m, "v1", "Namespace", "", mesh.SystemNamespace, nil)
	names := make([]string, 10000)
	for i := range names {
		names[i] = fmt.Sprintf("object-%05d", i)
	}
	first, second := NewTarget(m), NewTarget(m)
	written, err := first.writeInventory(t.Context(), mesh, nil, Inventory{Network: "many", Digest: "d1", Entries: entries(names...)})
	if err != nil {
		t.Fatal(err)
	}
	stale, err := second.readInventory(t.Context(), mesh)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(written.Inventory, stale.Inventory); diff != "" {
		t.Errorf("read (-written +read):\n%s", diff)
	}
	if _, err := first.writeInventory(t.Context(), mesh, written, Inventory{Network: "many", Digest: "d2", Entries: entries(names[:9000]...)}); err != nil {
		t.Fatal(err)
	}
	wire.Reset()
	for range 3 {
		_, err := second.writeInventory(t.Context(), mesh, stale, Inventory{Network: "many", Digest: "d3", Entries: entries(names[1:]...)})
		if member.ReasonOf(err) != Conflict {
			t.Fatalf("error %v, want a Conflict", err)
		}
	}
	if writes := wire.Writes(); len(writes) > 3*4 {
		t.Errorf("%d writes for three refusals: %v", len(writes), writes)
	}
	now, err := second.readInventory(t.Context(), mesh)
	if err != nil || now.Digest != "d2" || len(now.Entries) != 9000 {
		t.Fatalf("after the conflict: %v, want what the other one wrote", err)
	}
	if _, err := second.writeInventory(t.Context(), mesh, now, Inventory{Network: "many", Digest: "d3", Entries: entries(names[1:]...)}); err != nil {
		t.Fatal(err)
	}
	last, err := first.readInventory(t.Context(), mesh)
	if err != nil || len(last.Entries) != 9999 {
		t.Errorf("last: %v", err)
	}
}
