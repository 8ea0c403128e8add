package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const (
	peersPath       = "spec.discovery.peers"
	exportsPath     = "spec.discovery.exports"
	credentialsPath = "spec.discovery.credentials"
)

func discoveryNotSupported(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	if spec.Discovery.Mode == v1alpha1.DiscoveryMessaging {
		report("spec.discovery.mode", "Messaging is not supported yet", "use RemoteCredentials")
	}
}

// invalidPeers finds selectors that are none.
func invalidPeers(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	for i, peering := range spec.Discovery.Peers {
		path := fmt.Sprintf("%s[%d]", peersPath, i)
		for _, side := range []struct {
			path     string
			selector *metav1.LabelSelector
		}{{path + ".selector", peering.Selector}, {path + ".discovers", peering.Discovers}} {
			if _, err := metav1.LabelSelectorAsSelector(side.selector); err != nil {
				report(side.path, fmt.Sprintf("not a selector: %v", err), "")
			}
		}
	}
}

// invalidExport: a Service that is exported is one on all members, which those are
// not that belong to a cluster itself or to its mesh.
func invalidExport(d *documents, report reporter) {
	for _, at := range d.networks {
		exports := at.network.Spec.Discovery.Exports
		for i, export := range exports {
			path := fmt.Sprintf("%s[%d]", exportsPath, i)
			selector, err := exported(export)
			owner := d.ownerOf(at, export.Namespace)
			switch {
			case err != nil:
				report(at, path+".selector", fmt.Sprintf("not a selector: %v", err), "")
			case owner != "":
				report(at, path+".namespace", fmt.Sprintf("%s belongs to %s, and its Services to each member alone", quote(export.Namespace), owner), "")
			case export.Namespace == metav1.NamespaceDefault && selector.Matches(apiServer):
				report(at, path, "selects the Service kubernetes, so pods would be sent to other members' API servers",
					"give it a selector that leaves out component=apiserver, or move the Services to a namespace of their own")
			default:
				if j := covered(exports, i, selector); j >= 0 {
					report(at, path, fmt.Sprintf("adds nothing to exports[%d]", j), "remove one of them")
				}
			}
		}
	}
}

// ownerOf says whose the namespace is on members, empty when it is people's.
func (d *documents) ownerOf(network *document, namespace string) string {
	if strings.HasPrefix(namespace, "kube-") {
		return "Kubernetes"
	}
	if namespace == network.network.Spec.DataPlane.Namespace {
		return "the mesh"
	}
	for _, at := range d.inNetwork(network.name) {
		if at.member.Spec.ControlPlane.Placement == v1alpha1.PlacementHosted && HostingNamespace(network.network, at.name) == namespace {
			return fmt.Sprintf("the istiod of member %s", quote(at.name))
		}
	}
	return ""
}

// apiServer are the labels that an API server gives its own Service.
var apiServer = labels.Set{"component": "apiserver", "provider": "kubernetes"}

// exported returns the selector of what is exported, everything without one.
func exported(export v1alpha1.Export) (labels.Selector, error) {
	if export.Selector == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(export.Selector)
}

// covered returns the position of another export that says all that this one says,
// -1 without any.
func covered(exports []v1alpha1.Export, i int, selector labels.Selector) int {
	for j, other := range exports {
		theirs, err := exported(other)
		if i == j || err != nil || other.Namespace != exports[i].Namespace {
			continue
		}
		if same := theirs.String() == selector.String(); same && j < i || !same && theirs.Empty() {
			return j
		}
	}
	return -1
}

// exportNotEnrolled: istiod does not look whether the pods behind a Service are in
// the mesh when it sends other members to them.
func exportNotEnrolled(d *documents, report reporter) {
	for _, at := range d.networks {
		told := map[string]bool{}
		for i, export := range at.network.Spec.Discovery.Exports {
			enrolled := slices.ContainsFunc(at.network.Spec.Namespaces, func(n v1alpha1.MeshNamespace) bool {
				return n.Name == export.Namespace && n.Ambient
			})
			if enrolled || told[export.Namespace] || d.ownerOf(at, export.Namespace) != "" {
				continue
			}
			told[export.Namespace] = true
			report(at, fmt.Sprintf("%s[%d].namespace", exportsPath, i),
				fmt.Sprintf("the network does not enrol the namespace %s: other members are sent to its pods, and reach them only if something else does", quote(export.Namespace)),
				"add it to spec.namespaces with ambient: true")
		}
	}
}

// The bounds of a token: API servers give none for less than ten minutes, and one
// that lives longer than a year is as good as forever.
const (
	shortestToken = 10 * time.Minute
	longestToken  = 8760 * time.Hour
)

// invalidCredentials: near its beginning a token is replaced all the time, near its
// end there is no time left to try again.
func invalidCredentials(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	credentials := spec.Discovery.Credentials
	if life := credentials.Lifetime; life != nil {
		switch {
		case life.Duration < shortestToken || life.Duration > longestToken:
			report(credentialsPath+".lifetime", fmt.Sprintf("%s is not between %s and %s", hours(life.Duration), hours(shortestToken), hours(longestToken)), "")
		case life.Duration%time.Second != 0:
			report(credentialsPath+".lifetime", fmt.Sprintf("%s is not whole seconds", life.Duration), "")
		}
	}
	if written := credentials.RotateAt; written != "" {
		if share, err := strconv.Atoi(strings.TrimSuffix(written, "%")); err != nil || share < 10 || share > 80 {
			report(credentialsPath+".rotateAt", fmt.Sprintf("%s is not between 10%% and 80%%", written), "")
		}
	}
}

// idlePeering finds entries by which no member discovers another.
func idlePeering(d *documents, report reporter) {
	const labelsHint = "labels are those of the Member objects"
	eachRelation(d, func(at *document, members []*document, r relation) {
		for i, peering := range at.network.Spec.Discovery.Peers {
			path := fmt.Sprintf("%s[%d]", peersPath, i)
			readers, peers := r.readers.of(i), r.peers.of(i)
			switch {
			case len(readers) == 0:
				report(at, path+".selector", "selects no member of the network", labelsHint)
			case len(peers) == 0:
				report(at, path+".discovers", "selects no member of the network", labelsHint)
			case len(readers) > 1 || !slices.Equal(readers, peers):
			case peering.Discovers == nil:
				report(at, path, fmt.Sprintf("selects the member %s alone, which has nobody to discover", quote(members[readers[0]].name)),
					"say by discovers whom it discovers")
			default:
				report(at, path, fmt.Sprintf("selects the member %s alone, to discover itself", quote(members[readers[0]].name)), labelsHint)
			}
		}
	})
}

// memberApart finds members that discover nobody, and those whom nobody discovers,
// while others do and are.
func memberApart(d *documents, report reporter) {
	eachRelation(d, func(at *document, members []*document, r relation) {
		discovers, discovered := r.degrees()
		for _, side := range []struct {
			degrees []int
			message string
		}{
			{discovers, "leaves members that discover nobody: %s"},
			{discovered, "leaves members that nobody discovers: %s"},
		} {
			var apart []string
			for i, degree := range side.degrees {
				if degree == 0 {
					apart = append(apart, members[i].name)
				}
			}
			if len(apart) > 0 && len(apart) < len(members) {
				report(at, peersPath, fmt.Sprintf(side.message, some(apart)), "check their labels, if that is not meant")
			}
		}
	})
}

// What each peer costs each istiod, as Istio has measured it with 300 services and
// 4,000 endpoints, and how many peers pass without a word.
const (
	peerMegabytes   = 180
	peerCorePercent = 1
	manyPeers       = 20
)

// costlyDiscovery says what it costs that members discover so many others.
func costlyDiscovery(d *documents, report reporter) {
	for _, at := range d.networks {
		if at.network.Spec.Discovery.Mode != v1alpha1.DiscoveryRemoteCredentials {
			continue
		}
		members := d.inNetwork(at.name)
		r, err := relationOf(at.network.Spec.Discovery.Peers, labelsOf(members))
		if err != nil || len(members) <= manyPeers {
			continue
		}
		discovers, _ := r.degrees()
		most := slices.Max(discovers)
		if most <= manyPeers {
			continue
		}
		report(at, peersPath, fmt.Sprintf("member %s discovers %d others: its istiod needs about %.1f GB of memory and %d %% of a core more, by Istio's figures of %d MB and %d %% for each",
			quote(members[slices.Index(discovers, most)].name), most, float64(most*peerMegabytes)/1000, most*peerCorePercent, peerMegabytes, peerCorePercent),
			"say who discovers whom, such as members of one region: "+peersPath+" takes selectors")
	}
}

// eachRelation calls for each network that says who discovers whom. It does not
// when a file could not be read: the member that a selector means may be in there.
func eachRelation(d *documents, check func(at *document, members []*document, r relation)) {
	if !d.whole {
		return
	}
	for _, at := range d.networks {
		members := d.inNetwork(at.name)
		r, err := relationOf(at.network.Spec.Discovery.Peers, labelsOf(members))
		if err == nil && len(at.network.Spec.Discovery.Peers) > 0 && len(members) > 1 {
			check(at, members, r)
		}
	}
}

// inNetwork returns the members of a network.
func (d *documents) inNetwork(network string) []*document {
	var out []*document
	for _, at := range d.members {
		if at.member.Spec.ApplicationNetwork == network {
			out = append(out, at)
		}
	}
	return out
}

// labelsOf the members.
func labelsOf(members []*document) []map[string]string {
	out := make([]map[string]string, len(members))
	for i, at := range members {
		out[i] = at.member.Labels
	}
	return out
}

// relation says who discovers whom: a member discovers another one if an entry of
// peers selects them as reader and peer.
type relation struct{ readers, peers selection }

// selection has a bit for each entry of peers that selects a member, for each
// member. A list has 64 entries at most.
type selection []uint64

// of returns the positions of the members that an entry selects.
func (s selection) of(entry int) []int {
	var out []int
	for i, bits := range s {
		if bits&(1<<entry) != 0 {
			out = append(out, i)
		}
	}
	return out
}

// relationOf takes the labels of members; it returns the error of a selector that
// does not parse.
func relationOf(peers []v1alpha1.Peering, members []map[string]string) (relation, error) {
	if len(peers) == 0 {
		peers = []v1alpha1.Peering{{}} // all discover each other
	}
	r := relation{make(selection, len(members)), make(selection, len(members))}
	for i, peering := range peers {
		if err := r.readers.add(i, peering.Selector, members); err != nil {
			return r, err
		}
		if err := r.peers.add(i, cmp.Or(peering.Discovers, peering.Selector), members); err != nil {
			return r, err
		}
	}
	return r, nil
}

// add adds an entry; without a selector it selects all.
func (s selection) add(entry int, selector *metav1.LabelSelector, members []map[string]string) error {
	parsed, err := metav1.LabelSelectorAsSelector(cmp.Or(selector, &metav1.LabelSelector{}))
	if err != nil {
		return err
	}
	for i, of := range members {
		if parsed.Matches(labels.Set(of)) {
			s[i] |= 1 << entry
		}
	}
	return nil
}

// degrees returns how many others each of the members discovers, and how many
// discover it.
func (r relation) degrees() (discovers, discovered []int) {
	discovers, discovered = r.readers.meet(r.peers), r.peers.meet(r.readers)
	for i := range r.readers {
		if r.readers[i]&r.peers[i] != 0 { // itself
			discovers[i]--
			discovered[i]--
		}
	}
	return discovers, discovered
}

// meet returns for each of the one with how many of the other it has an entry in
// common. Most members are selected by the same entries as many others.
func (s selection) meet(other selection) []int {
	alike := map[uint64]int{}
	for _, bits := range other {
		alike[bits]++
	}
	out := make([]int, len(s))
	for i, bits := range s {
		for theirs, count := range alike {
			if bits&theirs != 0 {
				out[i] += count
			}
		}
	}
	return out
}

// some returns the first of the names, and how many more there are.
func some(names []string) string {
	const shown = 5
	slices.Sort(names)
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}
