package fleet

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const (
	peerEndpointPath = "spec.cluster.peerEndpoint"
	peerServerPath   = peerEndpointPath + ".server"
	peerCAPath       = peerEndpointPath + ".certificateAuthority"
)

// invalidPeerEndpoint: the address becomes the server of a kubeconfig, and whatever
// else is in it would be sent with every request or to nobody.
func invalidPeerEndpoint(spec *v1alpha1.MemberSpec, report field) {
	endpoint := spec.Cluster.PeerEndpoint
	if endpoint == nil {
		return
	}
	invalidPeerServer(endpoint.Server, report)
	if name := endpoint.TLSServerName; name != "" && !isHost(name) {
		report(peerEndpointPath+".tlsServerName", fmt.Sprintf("%s is neither a DNS name nor an IP address", quote(name)), "a name that the API server's certificate has")
	}
	if _, problem := certificates(endpoint.CertificateAuthority); problem != "" {
		report(peerCAPath, problem, "PEM text of the certificates that sign the API server's, which are no secret")
	}
}

func invalidPeerServer(server string, report field) {
	const hint = "such as https://eastus-1.example.com:6443"
	address, err := url.Parse(server)
	switch {
	case server == "": // the schema says so
	case err != nil || address.Scheme != "https" || address.Hostname() == "" || !isHost(address.Hostname()):
		report(peerServerPath, "not an https address", hint)
	case address.User != nil:
		report(peerServerPath, "has a login, which is no business of Git", hint)
	case strings.Trim(address.Path, "/") != "" || address.RawQuery != "" || address.ForceQuery || address.Fragment != "":
		report(peerServerPath, "has more than a host and a port", hint)
	case !isPort(address.Port()):
		report(peerServerPath, fmt.Sprintf("%s is not a port", quote(address.Port())), hint)
	}
}

func isHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || len(validation.IsDNS1123Subdomain(strings.ToLower(host))) == 0
}

// isPort takes none for one, too: that of https.
func isPort(port string) bool {
	number, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && number > 0
}

// certificates reads PEM text of nothing but certificates; empty text has none. It
// returns what is wrong in words without any of the text.
func certificates(text string) (all []*x509.Certificate, problem string) {
	for rest := []byte(strings.TrimSpace(text)); len(rest) > 0; {
		block, after := pem.Decode(rest)
		switch {
		case block == nil:
			return nil, "not PEM text of certificates"
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, "has a private key, which must not be in Git"
		case block.Type != "CERTIFICATE":
			return nil, "has something beside certificates"
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Sprintf("the certificate number %d cannot be read", len(all)+1)
		}
		all, rest = append(all, certificate), []byte(strings.TrimSpace(string(after)))
	}
	return all, ""
}

// doubtfulPeerEndpoint: what has such an address answers inside of one cluster or
// machine only, and what is not a CA verifies one certificate until it is renewed.
func doubtfulPeerEndpoint(spec *v1alpha1.MemberSpec, report field) {
	endpoint := spec.Cluster.PeerEndpoint
	if endpoint == nil {
		return
	}
	if address, err := url.Parse(endpoint.Server); err == nil && isInside(address.Hostname()) {
		report(peerServerPath, fmt.Sprintf("%s leads to another place in each cluster: peers do not reach this member by it", quote(address.Hostname())),
			"name an address that other members' istiods reach")
	}
	all, _ := certificates(endpoint.CertificateAuthority)
	for i, certificate := range all {
		if !certificate.IsCA {
			report(peerCAPath, fmt.Sprintf("the certificate number %d is not one of a CA: it verifies itself alone, until it is renewed", i+1),
				"use the certificate of the CA that issues the API server's")
		}
	}
}

// isInside tells whether a host means what it is said in.
func isInside(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if address, err := netip.ParseAddr(host); err == nil {
		return address.IsLoopback() || address.IsUnspecified() || address.IsLinkLocalUnicast() || address.IsMulticast()
	}
	for _, suffix := range []string{".localhost", ".svc", ".cluster.local"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return slices.Contains([]string{"localhost", "kubernetes", "kubernetes.default"}, host)
}

// hubWithoutPeerEndpoint: the reconciler reaches its own cluster by an address that
// means something else in every other.
func hubWithoutPeerEndpoint(d *documents, report reporter) {
	for _, at := range d.members {
		cluster := at.member.Spec.Cluster
		if cluster.Type == v1alpha1.ClusterHub && cluster.PeerEndpoint == nil && d.isDiscovered(at) {
			report(at, "spec.cluster.type", "other members cannot discover this one: the reconciler's address for the cluster that it runs in holds in that cluster only",
				"set spec.cluster.peerEndpoint to one that their istiods reach")
		}
	}
}

// isDiscovered tells whether any other member is to discover this one.
func (d *documents) isDiscovered(at *document) bool {
	network := d.network(at.member.Spec.ApplicationNetwork)
	if network == nil {
		return false
	}
	members := d.inNetwork(network.name)
	r, err := relationOf(network.network.Spec.Discovery.Peers, labelsOf(members))
	_, discovered := r.degrees()
	return err == nil && discovered[slices.Index(members, at)] > 0
}
