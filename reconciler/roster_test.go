package reconciler

import (
	"context"
	"errors"
	"slices"
	"testing"

	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// TestRoster: it has each network's members as their events tell, and those who are
// concerned hear of a change when it is there; at a start nobody does.
func TestRoster(t *testing.T) {
	t.Parallel()
	var r roster
	var told []string
	r.concerns = func(m *v1alpha1.Member) {
		now, err := r.network(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, m.Spec.ApplicationNetwork+"/"+m.Name)
		if is := slices.Contains(now, m); is != (m.Labels["is"] == "there") {
			t.Errorf("%s is told, and there: %t", m.Name, is)
		}
	}
	member := func(network, name, is string) *v1alpha1.Member {
		m := aMember(network, name)
		m.Labels = map[string]string{"is": is}
		return &m
	}
	handler := r.handler()
	expect := func(what string, want []string, members ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("%s: told of %q, want %q", what, told, want)
		}
		told = nil
		self := member("prod", "any", "")
		var names []string
		all, err := r.network(t.Context(), self)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			names = append(names, m.Name)
		}
		if !slices.Equal(names, members) {
			t.Errorf("%s: prod has %q, want %q", what, names, members)
		}
	}
	west, east := member("prod", "west", "there"), member("prod", "east", "there")
	handler.OnAdd(west, true)
	handler.OnAdd(member("dev", "south", "there"), true)
	expect("the start", nil, "west")
	handler.OnAdd(east, false)
	expect("one that joins", []string{"prod/east"}, "east", "west")
	same := east.DeepCopy()
	same.Status.Objects = 7
	handler.OnUpdate(east, same)
	expect("nothing that concerns others", nil, "east", "west")
	if all, _ := r.network(t.Context(), same); all[0] != same {
		t.Error("and is not as it is now")
	}
	same.Labels["is"] = "gone"
	moved := member("dev", "east", "there")
	handler.OnUpdate(same, moved)
	expect("another network", []string{"prod/east", "dev/east"}, "west")
	west.Labels["is"] = "gone"
	handler.OnDelete(cache.DeletedFinalStateUnknown{Obj: west})
	expect("one that was deleted while nobody looked", []string{"prod/west"})
}

// TestRosterWaits: before it has those of the start, a network would seem to have lost
// its members.
func TestRosterWaits(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := roster{synced: func() bool { cancel(); return false }}
	m := aMember("prod", "west")
	if _, err := r.network(ctx, &m); !errors.Is(err, context.Canceled) {
		t.Errorf("it does not wait: %v", err)
	}
}
