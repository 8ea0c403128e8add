package controlplane

import (
	"net/netip"
	"testing"
)

// Clusters of one control plane share no address, and within one the addresses
// that the harness gives are distinct and outside of kwok's.
func TestNetworksAreDisjoint(t *testing.T) {
	seen := map[string]string{}
	claim := func(what, address string) {
		t.Helper()
		if _, err := netip.ParseAddr(address); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if other := seen[address]; other != "" {
			t.Fatalf("%s and %s are both %s", what, other, address)
		}
		seen[address] = what
	}
	var ranges []netip.Prefix
	for n := range maxClusters {
		network := networkOf(n)
		pods := netip.MustParsePrefix(network.pods())
		for _, text := range []string{network.services(), network.pods()} {
			prefix := netip.MustParsePrefix(text).Masked()
			for _, other := range ranges {
				if prefix.Overlaps(other) {
					t.Fatalf("ranges %s and %s overlap", prefix, other)
				}
			}
			ranges = append(ranges, prefix)
		}
		for i := range 500 {
			claim("load balancer", network.loadBalancer(i))
			claim("istiod pod", network.istiodPod(i))
			if pods.Contains(netip.MustParseAddr(network.istiodPod(i))) {
				t.Fatalf("kwok may give %s to another pod", network.istiodPod(i))
			}
		}
		claim("node", network.node(0))
		claim("node", network.node(1))
	}
}
