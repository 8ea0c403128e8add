package diff

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// areasOf components, for what no rule of its own speaks of.
var areasOf = map[bundle.Component]Area{
	bundle.ComponentNamespaces: AreaNamespaces,
	bundle.ComponentCRDs:       AreaCRDs,
	bundle.ComponentGatewayAPI: AreaGatewayAPI,
	bundle.ComponentTrust:      AreaTrust,
	bundle.ComponentIstiod:     AreaIstiod,
	bundle.ComponentCNI:        AreaCNI,
	bundle.ComponentZtunnel:    AreaZtunnel,
	bundle.ComponentGateway:    AreaGateway,
	bundle.ComponentPolicy:     AreaPolicy,
	bundle.ComponentPeers:      AreaPeers,
	bundle.ComponentTelemetry:  AreaTelemetry,
	bundle.ComponentResources:  AreaResources,
}

// restartNotes say what the replacement of pods means, component by component.
// What an old pod does when it ends, the old bundle says.
func restartNotes(changes []change, before view) []string {
	var out []string
	for _, c := range changes {
		if !c.restarts {
			continue
		}
		switch c.component() {
		case bundle.ComponentIstiod:
			out = append(out, "istiod restarts: configuration and certificates wait for it, traffic does not")
		case bundle.ComponentCNI:
			out = append(out, "the CNI agent restarts node by node: pods that start on a node meanwhile wait")
		case bundle.ComponentZtunnel:
			out = append(out, fmt.Sprintf("ztunnel restarts node by node: connections that live %s longer are reset", drain(before)))
		default:
			out = append(out, fmt.Sprintf("%s %s restarts", c.object().GetKind(), nameOf(c.object())))
		}
	}
	return slices.Compact(out)
}

// drain is how long the node proxies that run now let connections live on when they
// end; it is what their grace period leaves.
func drain(v view) time.Duration {
	var grace int64
	for _, o := range v.bundle.Objects {
		if o.Object.GetKind() == "DaemonSet" && bundle.Component(o.Object.GetLabels()[bundle.ComponentLabel]) == bundle.ComponentZtunnel {
			grace, _, _ = unstructured.NestedInt64(o.Object.Object, "spec", "template", "spec", "terminationGracePeriodSeconds")
		}
	}
	return max(0, time.Duration(grace)*time.Second-ambient.DrainMargin)
}

func nameOf(o *unstructured.Unstructured) string {
	if o.GetNamespace() != "" {
		return o.GetNamespace() + "/" + o.GetName()
	}
	return o.GetName()
}

// componentChanges tells of components that change otherwise than by another
// release, name or place of their member, with the fields that do.
func componentChanges(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		if before.Release.Version != after.Release.Version || controlPlane(before) != controlPlane(after) ||
			before.network.Spec.DataPlane.Namespace != after.network.Spec.DataPlane.Namespace {
			return
		}
		for _, component := range components(s.changes[name]) {
			changes := slices.DeleteFunc(slices.Clone(s.changes[name]), func(c change) bool {
				return c.component() != component || explained(c, before, after)
			})
			if len(changes) == 0 {
				continue
			}
			e := Effect{Area: areaOf(component), Risk: RiskLow, Network: after.network.Name, Members: []string{name}}
			e.Title = tally(changes)
			if notes := restartNotes(changes, before); len(notes) > 0 {
				e.Risk = RiskMedium
				e.Notes = notes
			}
			e.Notes = append(e.Notes, fieldNotes(changes, name, after)...)
			report(e)
		}
	})
}

func controlPlane(v view) v1alpha1.ControlPlane { return v.member.Spec.ControlPlane }

func areaOf(component bundle.Component) Area {
	if area, ok := areasOf[component]; ok {
		return area
	}
	return AreaResources
}

// components that have a change, in the order of delivery, without people's own
// manifests: those have a rule of their own.
func components(changes []change) []bundle.Component {
	var out []bundle.Component
	for _, c := range changes {
		if c.component() != bundle.ComponentResources && !slices.Contains(out, c.component()) {
			out = append(out, c.component())
		}
	}
	return out
}

// explained tells whether a rule speaks of the change already: of an enrolled
// namespace, a waypoint, a gateway, the mTLS mode.
func explained(c change, before, after view) bool {
	switch c.component() {
	case bundle.ComponentNamespaces:
		return c.object().GetName() != after.network.Spec.DataPlane.Namespace || before.member.Spec.Connectivity.Network != after.member.Spec.Connectivity.Network
	case bundle.ComponentGateway:
		same := len(specChanges(before.member.Spec.Connectivity, after.member.Spec.Connectivity)) == 0 && before.Gateway == after.Gateway
		was, is := namespacesOf(before.network)[c.object().GetNamespace()], namespacesOf(after.network)[c.object().GetNamespace()]
		return !same && c.object().GetNamespace() == after.network.Spec.DataPlane.Namespace || len(specChanges(was, is)) > 0
	case bundle.ComponentPolicy:
		return before.network.Spec.DataPlane.MTLS != after.network.Spec.DataPlane.MTLS
	case bundle.ComponentIstiod, bundle.ComponentZtunnel:
		return before.member.Spec.Connectivity.Network != after.member.Spec.Connectivity.Network
	}
	return false
}

// tally is "2 objects change, 1 object is created", or names the only one.
func tally(changes []change) string {
	if len(changes) == 1 {
		c := changes[0]
		return fmt.Sprintf("%s %s %s", c.object().GetKind(), nameOf(c.object()), verb(c.action, 1))
	}
	counts := map[Action]int{}
	for _, c := range changes {
		counts[c.action]++
	}
	var parts []string
	for _, a := range Actions {
		if n := counts[a]; n > 0 {
			parts = append(parts, counted(n, "object")+" "+verb(a, n))
		}
	}
	return strings.Join(parts, ", ")
}

// verb of an action, for one object or several.
func verb(a Action, n int) string {
	one := n == 1
	pick := func(singular, plural string) string {
		if one {
			return singular
		}
		return plural
	}
	switch a {
	case Create:
		return pick("is created", "are created")
	case Recreate:
		return pick("is made anew", "are made anew")
	case Remove:
		return pick("is removed", "are removed")
	case Release:
		return pick("is released", "are released")
	}
	return pick("changes", "change")
}

// fieldNotes say which fields of which object change.
func fieldNotes(changes []change, name string, after view) []string {
	const most = 6
	var out []string
	for _, c := range changes {
		at := c.object().GetKind() + " " + nameOf(c.object()) + ": "
		if len(changes) == 1 { // its title has it
			at = ""
		} else if c.action != Change && c.action != Recreate {
			out = append(out, c.object().GetKind()+" "+nameOf(c.object())+" "+verb(c.action, 1))
		}
		for _, f := range inGeneral(c.fields, name, after.member.Spec.Connectivity.Network) {
			out = append(out, at+f.said())
		}
	}
	if more := len(out) - most; more > 0 {
		out = append(out[:most], fmt.Sprintf("and %s more, below", counted(more, "field")))
	}
	return out
}

// resourcesChange tells of people's own manifests, each by itself.
func resourcesChange(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		for _, c := range s.changes[name] {
			if c.component() != bundle.ComponentResources {
				continue
			}
			e := Effect{Area: AreaResources, Risk: RiskLow, Network: after.network.Name, Members: []string{name},
				Title: fmt.Sprintf("your %s %s %s", c.object().GetKind(), nameOf(c.object()), verb(c.action, 1))}
			if c.action == Change {
				e.Notes = saidAll(inGeneral(c.fields, name, after.member.Spec.Connectivity.Network))
			}
			switch {
			case steersTraffic(c.object()):
				e.Risk = RiskMedium
				if c.action == Remove || c.object().GetKind() == "AuthorizationPolicy" || c.object().GetKind() == "PeerAuthentication" {
					e.Risk = RiskHigh
				}
				e.Notes = append(e.Notes, "it decides which traffic passes, and where to")
			case c.restarts:
				e.Risk = RiskMedium
				e.Notes = append(e.Notes, "its pods restart")
			}
			report(e)
		}
	})
}

// steersTraffic: kinds of Istio and of the Gateway API that istiod acts on.
func steersTraffic(o *unstructured.Unstructured) bool {
	group := o.GroupVersionKind().Group
	return strings.HasSuffix(group, ".istio.io") && group != "telemetry.istio.io" || group == "gateway.networking.k8s.io"
}
