package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// rule is one named check between fields or between objects.
type rule struct {
	// reason is stable: people filter by it.
	reason   string
	severity Severity
	check    func(d *documents, report reporter)
}

// reporter takes what a rule found: where, what, and a hint or nothing.
type reporter func(at *document, path, message, hint string)

// rules in the order in which they run. Every rule runs, whatever the others
// found; one that needs a field to be valid leaves it to the schema to say so.
var rules = []rule{
	{"DuplicateNetwork", SeverityError, duplicateNetworks},
	{"DuplicateMember", SeverityError, duplicateMembers},
	{"InvalidLabel", SeverityError, invalidLabels},

	{"InvalidVault", SeverityError, eachNetwork(invalidVault)},
	{"UnknownVaultAddress", SeverityWarning, eachNetwork(unknownVaultAddress)},
	{"InvalidLifetime", SeverityError, eachNetwork(invalidLifetime)},
	{"InvalidRotation", SeverityError, eachNetwork(invalidRotation)},
	{"InvalidRoot", SeverityError, eachNetwork(invalidRoot)},
	{"RootEmergency", SeverityWarning, eachNetwork(rootEmergency)},
	{"ProceedWithoutStranger", SeverityError, proceedWithoutStrangers},
	{"ExternalRoot", SeverityWarning, externalRoot},
	{"InvalidDelivery", SeverityError, eachNetwork(invalidDelivery)},
	{"HostedDelivery", SeverityError, hostedDelivery},
	{"InvalidRevocation", SeverityError, invalidRevocation},
	{"DiscoveryNotSupported", SeverityError, eachNetwork(discoveryNotSupported)},
	{"InvalidPeers", SeverityError, eachNetwork(invalidPeers)},
	{"InvalidExport", SeverityError, invalidExport},
	{"ExportNotEnrolled", SeverityWarning, exportNotEnrolled},
	{"InvalidCredentials", SeverityError, eachNetwork(invalidCredentials)},
	{"IdlePeering", SeverityWarning, idlePeering},
	{"MemberApart", SeverityWarning, memberApart},
	{"CostlyDiscovery", SeverityWarning, costlyDiscovery},
	{"ReservedNamespace", SeverityError, eachNetwork(reservedNamespace)},
	{"InvalidUpgrade", SeverityError, eachUpgrade(invalidUpgrade)},
	{"InvalidRing", SeverityError, eachNetwork(invalidRing)},
	{"ReservedMeshConfig", SeverityError, eachNetwork(reservedMeshConfig)},
	{"InvalidTelemetry", SeverityError, eachNetwork(invalidTelemetry)},
	{"InvalidComponents", SeverityError, invalidComponents},
	{"InvalidPatch", SeverityError, eachPatch(invalidPatch)},
	{"PatchNotAllowed", SeverityError, eachPatch(forbiddenPatch)},
	{"TooManyPatches", SeverityError, tooManyPatches},

	{"UnknownNetwork", SeverityError, unknownNetworks},
	{"InvalidDrift", SeverityError, invalidDrift},
	{"InvalidCluster", SeverityError, eachMember(invalidCluster)},
	{"SharedCluster", SeverityError, sharedClusters},
	{"InvalidPeerEndpoint", SeverityError, eachMember(invalidPeerEndpoint)},
	{"DoubtfulPeerEndpoint", SeverityWarning, eachMember(doubtfulPeerEndpoint)},
	{"HubWithoutPeerEndpoint", SeverityWarning, hubWithoutPeerEndpoint},
	{"InvalidHost", SeverityError, invalidHosts},
	{"InvalidWindow", SeverityError, eachMember(invalidWindow)},
	{"InvalidGateway", SeverityError, eachMember(invalidGateway)},
	{"SharedAddress", SeverityError, sharedAddresses},
	{"InvalidPodRange", SeverityError, eachMember(invalidPodRange)},
	{"OverlappingPods", SeverityError, overlappingPods},
	{"GatewayNotRendered", SeverityWarning, gatewayNotRendered},

	{"InvalidResources", SeverityError, invalidResourcesSelector},
	{"ResourcesForNobody", SeverityWarning, resourcesForNobody},
	{"ManifestNotAllowed", SeverityError, eachManifest(manifestNotAllowed)},
	{"InvalidManifest", SeverityError, eachManifest(invalidManifest)},
	{"ForeignNamespace", SeverityError, eachManifest(foreignNamespace)},
	{"ReservedManifest", SeverityError, eachManifest(reservedManifest)},
	{"DuplicateManifest", SeverityError, duplicateManifests},
	{"MembersDiffer", SeverityError, waypointForSome},
	{"WaypointShutOut", SeverityWarning, waypointShutOut},
	{"PolicyNotEnforced", SeverityWarning, eachManifest(policyNotEnforced)},

	{"NotYetActedOn", SeverityWarning, notYetActedOn},
}

// documents is all that was read, in the order of files and lines.
type documents struct {
	networks, members []*document
	// manifests in the order of the networks' spec.resources.
	manifests []*Manifest
	// byName holds the first of each name.
	byName map[objectKey]*document
	whole  bool
}

func newDocuments(all []*document, whole bool) *documents {
	d := &documents{byName: map[objectKey]*document{}, whole: whole}
	for _, document := range all {
		if document.network != nil {
			d.networks = append(d.networks, document)
		} else {
			d.members = append(d.members, document)
		}
		key := objectKey{document.kind, document.name}
		if d.byName[key] == nil {
			d.byName[key] = document
		}
	}
	return d
}

// network and member return the first object of the name, or nil.
func (d *documents) network(name string) *document {
	return d.byName[objectKey{v1alpha1.ApplicationNetworkKind, name}]
}

func (d *documents) member(name string) *document {
	return d.byName[objectKey{v1alpha1.MemberKind, name}]
}

// check runs every rule.
func (d *documents) check() Problems {
	var problems Problems
	for _, rule := range rules {
		rule.check(d, func(at *document, path, message, hint string) {
			if at.refused(path) || len(problems) > maxProblems {
				return
			}
			if len(problems) == maxProblems {
				path, message, hint = "", fmt.Sprintf("more than %d problems", maxProblems), ""
			}
			problems = append(problems, Problem{
				File: at.file, Line: at.line(path), Path: path, Severity: rule.severity,
				Reason: rule.reason, Message: message, Hint: hint,
			})
		})
	}
	return problems
}

// field reports about a field of the object that is being checked.
type field func(path, message, hint string)

func eachNetwork(check func(*v1alpha1.ApplicationNetworkSpec, field)) func(*documents, reporter) {
	return func(d *documents, report reporter) {
		for _, at := range d.networks {
			check(&at.network.Spec, func(path, message, hint string) { report(at, path, message, hint) })
		}
	}
}

func eachMember(check func(*v1alpha1.MemberSpec, field)) func(*documents, reporter) {
	return func(d *documents, report reporter) {
		for _, at := range d.members {
			check(&at.member.Spec, func(path, message, hint string) { report(at, path, message, hint) })
		}
	}
}

// eachUpgrade checks the upgrades that were written, not those inherited.
func eachUpgrade(check func(*v1alpha1.Upgrade, field)) func(*documents, reporter) {
	return func(d *documents, report reporter) {
		for _, at := range slices.Concat(d.networks, d.members) {
			if !at.written("spec.upgrade") {
				continue
			}
			upgrade := at.upgrade()
			check(upgrade, func(path, message, hint string) { report(at, path, message, hint) })
		}
	}
}

func (d *document) upgrade() *v1alpha1.Upgrade {
	if d.network != nil {
		return d.network.Spec.Upgrade
	}
	return d.member.Spec.Upgrade
}

func duplicateNetworks(d *documents, report reporter) { d.duplicates(d.networks, report) }

// duplicateMembers: a name is a cluster's name in the mesh and a folder of the
// bundles, so it is unique in the fleet and not only in its network.
func duplicateMembers(d *documents, report reporter) { d.duplicates(d.members, report) }

func (d *documents) duplicates(all []*document, report reporter) {
	for _, at := range all {
		first := d.byName[objectKey{at.kind, at.name}]
		if first == at || at.name == "" {
			continue
		}
		report(at, "metadata.name", fmt.Sprintf("the %s %s is already in %s",
			kindWords[at.kind], quote(at.name), first.position("metadata.name")), "")
	}
}

// kindWords are the kinds as people say them.
var kindWords = map[string]string{
	v1alpha1.ApplicationNetworkKind: "network",
	v1alpha1.MemberKind:             "member",
}

// position returns "file:line" of a field.
func (d *document) position(path string) string {
	return fmt.Sprintf("%s:%d", d.file, d.line(path))
}

const labelForm = "up to 63 letters, digits, dashes, dots and underscores, with a letter or digit at both ends"

// invalidLabels: the hub's API server takes labels of this form only.
func invalidLabels(d *documents, report reporter) {
	for _, at := range slices.Concat(d.networks, d.members) {
		labels := at.labels()
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			path, value := join("metadata.labels", key, &schema{}), labels[key]
			if len(validation.IsQualifiedName(key)) > 0 {
				report(at, path, "not a label's name", labelForm+", after a domain and a slash if you like")
			}
			if len(validation.IsValidLabelValue(value)) > 0 {
				report(at, path, fmt.Sprintf("%s is not a label's value", quote(value)), labelForm)
			}
		}
	}
}

func (d *document) labels() map[string]string {
	if d.network != nil {
		return d.network.Labels
	}
	return d.member.Labels
}

// unknownNetworks says nothing when a file could not be read: the network may
// be in there.
func unknownNetworks(d *documents, report reporter) {
	if !d.whole {
		return
	}
	var names []string
	for _, at := range d.networks {
		names = append(names, at.name)
	}
	for _, at := range d.members {
		if name := at.member.Spec.ApplicationNetwork; name != "" && d.network(name) == nil {
			report(at, "spec.applicationNetwork", fmt.Sprintf("the fleet has no network %s", quote(name)), suggest(name, names))
		}
	}
}

// sharedClusters: two members in one cluster would each undo what the other
// applies.
func sharedClusters(d *documents, report reporter) {
	first := map[string]*document{}
	for _, at := range d.members {
		cluster, path := identity(at.member.Spec.Cluster)
		if cluster == "" {
			continue
		}
		other := first[cluster]
		if other == nil {
			first[cluster] = at
			continue
		}
		report(at, path, fmt.Sprintf("the same cluster as member %s in %s", quote(other.name), other.position(path)),
			"a cluster joins once")
	}
}

// identity returns what two members of one cluster have in common, as far as
// the files tell, and the field that says it.
func identity(cluster v1alpha1.Cluster) (id, path string) {
	ref := cluster.KubeconfigRef
	switch {
	case cluster.Type == v1alpha1.ClusterAKS && cluster.ResourceID != "":
		return strings.ToLower(strings.Trim(cluster.ResourceID, "/")), "spec.cluster.resourceID"
	case cluster.Type == v1alpha1.ClusterKubernetes && ref != nil && ref.Name != "":
		return "secret " + ref.Name + " " + cmp.Or(ref.Key, "value"), "spec.cluster.kubeconfigRef"
	}
	// Members of type Hub that pull are each their own hub; two with one hub show
	// when the second claims the cluster.
	return "", ""
}
