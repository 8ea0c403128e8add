package fleet

import (
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// NeedsGateways reports whether the members of the network have east-west
// gateways: not when all of several members are on one L3 network, where pods
// reach each other directly. A network of one member has them, since its next
// member may be anywhere, and a gateway that comes and goes with members would
// lose its address each time.
func (f *Fleet) NeedsGateways(network string) bool {
	var podNetworks []string
	for _, member := range f.Members {
		if member.Spec.ApplicationNetwork == network {
			podNetworks = append(podNetworks, member.Spec.Connectivity.Network)
		}
	}
	return needsGateways(podNetworks)
}

func needsGateways(podNetworks []string) bool {
	for _, other := range podNetworks {
		if other != podNetworks[0] {
			return true
		}
	}
	return len(podNetworks) < 2
}

const (
	gatewayAddress = "spec.connectivity.eastWestGateway.address"
	gatewaySubnet  = "spec.connectivity.eastWestGateway.subnet"
)

func invalidGateway(spec *v1alpha1.MemberSpec, report field) {
	gateway := spec.Connectivity.EastWestGateway
	if gateway.Subnet != "" && gateway.Visibility == v1alpha1.VisibilityExternal {
		report(gatewaySubnet, "only with visibility Internal: a public address is in no subnet", "set visibility: Internal, or remove it")
	}
	if gateway.Address == "" {
		return
	}
	address, err := netip.ParseAddr(gateway.Address)
	switch {
	case err != nil || address.Zone() != "":
		report(gatewayAddress, fmt.Sprintf("%s is not an IP address", quote(gateway.Address)), "")
	case !address.IsGlobalUnicast() || address.Is4In6():
		report(gatewayAddress, fmt.Sprintf("no load balancer can have the address %s", quote(gateway.Address)), "")
	case address.IsPrivate() && gateway.Visibility == v1alpha1.VisibilityExternal:
		report(gatewayAddress, fmt.Sprintf("%s is a private address, and the gateway is to have a public one", quote(gateway.Address)),
			"set visibility: Internal, or name a public address")
	}
}

// sharedAddresses: traffic for one of the two would arrive at the other, which
// has no such workload.
func sharedAddresses(d *documents, report reporter) {
	type door struct {
		network string
		address netip.Addr
	}
	first := map[door]*document{}
	for _, at := range d.members {
		address, err := netip.ParseAddr(at.member.Spec.Connectivity.EastWestGateway.Address)
		if err != nil {
			continue
		}
		key := door{at.member.Spec.ApplicationNetwork, address}
		if other := first[key]; other != nil {
			report(at, gatewayAddress, fmt.Sprintf("the address of member %s, too, in %s", quote(other.name), other.position(gatewayAddress)), "")
			continue
		}
		first[key] = at
	}
}

// gatewayNotRendered says nothing when a file could not be read: a member on
// another L3 network may be in there.
func gatewayNotRendered(d *documents, report reporter) {
	if !d.whole {
		return
	}
	podNetworks := map[string][]string{}
	for _, at := range d.members {
		network := at.member.Spec.ApplicationNetwork
		podNetworks[network] = append(podNetworks[network], at.member.Spec.Connectivity.Network)
	}
	for _, at := range d.members {
		for _, path := range []string{gatewayAddress, gatewaySubnet} {
			if at.written(path) && !needsGateways(podNetworks[at.member.Spec.ApplicationNetwork]) {
				report(at, path, fmt.Sprintf("every member of network %s is on the L3 network %s: there is no gateway",
					quote(at.member.Spec.ApplicationNetwork), quote(at.member.Spec.Connectivity.Network)), "")
			}
		}
	}
}

// invalidPodRange: a range begins at its first address, so that what people
// compare looks the same.
func invalidPodRange(spec *v1alpha1.MemberSpec, report field) {
	for i, cidr := range spec.Connectivity.PodCIDRs {
		path := podRange(i)
		prefix, err := netip.ParsePrefix(string(cidr))
		switch {
		case err != nil:
			report(path, fmt.Sprintf("%s is not a range of IP addresses", quote(string(cidr))), `such as "10.244.0.0/16"`)
		case prefix != prefix.Masked():
			report(path, fmt.Sprintf("%s does not begin a range of that size", quote(string(cidr))), fmt.Sprintf("write %q", prefix.Masked()))
		}
	}
}

func podRange(i int) string { return fmt.Sprintf("spec.connectivity.podCIDRs[%d]", i) }

// podsAt is a range of pods and who said so.
type podsAt struct {
	prefix netip.Prefix
	member *document
	path   string
}

// overlappingPods: on one L3 network an address leads to one pod. Members on
// different ones meet at gateways and may use the same addresses.
func overlappingPods(d *documents, report reporter) {
	type l3 struct{ mesh, network string }
	known := map[l3][]podsAt{}
	for _, at := range d.members {
		spec := at.member.Spec
		key := l3{spec.ApplicationNetwork, spec.Connectivity.Network}
		for i, cidr := range spec.Connectivity.PodCIDRs {
			prefix, err := netip.ParsePrefix(string(cidr))
			if err != nil {
				continue // invalidPodRange says so
			}
			own := podsAt{prefix.Masked(), at, podRange(i)}
			for _, other := range known[key] {
				if own.prefix.Overlaps(other.prefix) {
					report(at, own.path, fmt.Sprintf("%s overlaps with %s of member %s in %s, on the same L3 network %s", own.prefix,
						other.prefix, quote(other.member.name), other.member.position(other.path), quote(key.network)),
						"pods with one address cannot both be reached: give the members different values of connectivity.network")
					break
				}
			}
			known[key] = append(known[key], own)
		}
	}
}
