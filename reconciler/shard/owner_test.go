package shard

import (
	"fmt"
	"testing"
)

func replicas(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("isthmus-6d5f7c9b8-%05d", i*7919))
	}
	return out
}

func members(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("member/eastus-%d", i))
	}
	return out
}

func TestOwnerIsEven(t *testing.T) {
	t.Parallel()
	all := members(2000)
	for n := 2; n <= 8; n++ {
		load := map[string]int{}
		for _, member := range all {
			load[Owner(replicas(n), member)]++
		}
		for replica, got := range load {
			if fair := len(all) / n; got < fair*3/4 || got > fair*5/4 {
				t.Errorf("%d replicas: %s has %d members, a fair share is %d", n, replica, got, fair)
			}
		}
	}
}

// TestOwnerMovesLittle: a replica that comes takes its share from the others and
// moves nothing between them; one that goes is the same backwards.
func TestOwnerMovesLittle(t *testing.T) {
	t.Parallel()
	all := members(2000)
	for n := 1; n <= 8; n++ {
		before, after := replicas(n), replicas(n+1)
		moved := 0
		for _, member := range all {
			was, is := Owner(before, member), Owner(after, member)
			if was == is {
				continue
			}
			moved++
			if is != after[n] {
				t.Errorf("%s moved from %s to %s when %s came", member, was, is, after[n])
			}
		}
		if fair := len(all) / (n + 1); moved > fair*5/4 {
			t.Errorf("%d+1 replicas: %d members moved, a fair share is %d", n, moved, fair)
		}
	}
}

func TestOwnerIgnoresOrder(t *testing.T) {
	t.Parallel()
	if Owner(nil, "m") != "" {
		t.Error("nobody owns something")
	}
	for _, member := range members(50) {
		if Owner([]string{"a", "b", "c"}, member) != Owner([]string{"c", "a", "b"}, member) {
			t.Errorf("the owner of %s depends on the order of the replicas", member)
		}
	}
	if viewOf([]string{"b", "a", "b"}).hash() != viewOf([]string{"a", "b"}).hash() {
		t.Error("a view depends on the order of the replicas")
	}
}
