package fleet

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const (
	hostPath    = "spec.controlPlane.host"
	addressPath = "spec.controlPlane.address"
)

// invalidHosts checks members whose istiod runs in another member, and that the
// fields for those are there for no other.
func invalidHosts(d *documents, report reporter) {
	for _, at := range d.members {
		place := at.member.Spec.ControlPlane
		if place.Placement == v1alpha1.PlacementHosted {
			invalidHost(d, at, report)
			invalidHostedAddress(at, report)
			continue
		}
		for _, field := range []struct{ path, value string }{{hostPath, place.Host}, {addressPath, place.Address}} {
			if field.value != "" {
				report(at, field.path, "only with placement Hosted", "set placement: Hosted, or remove it")
			}
		}
	}
}

func invalidHost(d *documents, at *document, report reporter) {
	spec := at.member.Spec
	name := spec.ControlPlane.Host
	host := d.member(name)
	switch {
	case name == "":
		report(at, hostPath, "not set", "name the member that runs this member's istiod")
	case name == at.name:
		report(at, hostPath, "a member cannot host itself", "set placement: Member")
	case host == nil && d.whole:
		report(at, hostPath, fmt.Sprintf("the fleet has no member %s", quote(name)), "")
	case host == nil:
	case host.member.Spec.ApplicationNetwork != spec.ApplicationNetwork:
		report(at, hostPath, fmt.Sprintf("member %s is in network %s, not in %s", quote(name),
			quote(host.member.Spec.ApplicationNetwork), quote(spec.ApplicationNetwork)), "")
	case host.member.Spec.ControlPlane.Placement == v1alpha1.PlacementHosted:
		report(at, hostPath, fmt.Sprintf("the istiod of member %s runs in another member itself", quote(name)), "name a member with placement Member")
	default:
		invalidHosting(d, at, report)
	}
}

// invalidHosting checks the namespace in which istiod is to run in the host.
func invalidHosting(d *documents, at *document, report reporter) {
	network := d.network(at.member.Spec.ApplicationNetwork)
	if network == nil {
		return // unknownNetworks says so
	}
	namespace := HostingNamespace(network.network, at.name)
	if len(namespace) > validation.DNS1123LabelMaxLength {
		report(at, hostPath, fmt.Sprintf("the istiod would run in namespace %s, whose name has %d characters, %d are allowed",
			quote(namespace), len(namespace), validation.DNS1123LabelMaxLength), "shorten dataPlane.namespace of the network")
	}
	for i, taken := range network.network.Spec.Namespaces {
		if taken.Name == namespace {
			report(network, fmt.Sprintf("spec.namespaces[%d].name", i), fmt.Sprintf("the istiod of member %s runs in it", quote(at.name)), "")
		}
	}
}

// invalidHostedAddress: the member cannot look for its istiod, it has to be told.
func invalidHostedAddress(at *document, report reporter) {
	address := at.member.Spec.ControlPlane.Address
	ip, err := netip.ParseAddr(address)
	switch {
	case address == "":
		report(at, addressPath, "not set", "name the address of the load balancer in the host: an IP address that it may take, or a DNS name")
	case err == nil && (!ip.IsGlobalUnicast() || ip.Zone() != "" || ip.Is4In6()):
		report(at, addressPath, fmt.Sprintf("no load balancer can have the address %s", quote(address)), "")
	case err != nil && (len(validation.IsDNS1123Subdomain(address)) > 0 || strings.Trim(address, "0123456789.") == ""):
		report(at, addressPath, fmt.Sprintf("%s is neither an IP address nor a DNS name", quote(address)), "")
	}
}
