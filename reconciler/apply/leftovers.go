package apply

import (
	"context"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// istiod makes objects that no inventory lists. They carry no label of ours and
// are told by what istiod of Istio 1.27 to 1.31 writes into them.

// gatewayChildren are the kinds that istiod makes for each Gateway, with an
// owner reference to it.
var gatewayChildren = []schema.GroupVersionKind{
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "ServiceAccount"},
	{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
}

// gatewayNameLabel is on every one of gatewayChildren.
const gatewayNameLabel = "gateway.networking.k8s.io/gateway-name"

// istiodClasses are the GatewayClasses that istiod makes, with the controller
// that it writes into each.
var istiodClasses = map[string]string{
	"istio":                       "istio.io/gateway-controller",
	"istio-remote":                "istio.io/unmanaged-gateway",
	"istio-waypoint":              "istio.io/mesh-controller",
	"istio-east-west":             "istio.io/eastwest-controller",
	"istio-agentgateway":          "istio.io/agentgateway-controller",
	"istio-agentgateway-waypoint": "istio.io/agentgateway-waypoint-controller",
}

// istiodConfigMaps are what istiod writes into every namespace, with the label
// istiodConfigLabel.
var istiodConfigMaps = []string{"istio-ca-root-cert", "istio-ca-crl"}

const istiodConfigLabel = "istio.io/config=true"

// istiodLocks are the ConfigMaps by which istiods elect a leader.
var istiodLocks = []string{
	"istio-leader", "istio-namespace-controller-election", "istio-gateway-deployment-leader", "istio-gateway-status-leader",
}

// removeGatewayChildren removes what istiod made for Gateways that are gone.
// The cluster's garbage collector does the same; asking ourselves makes it
// certain, and done before istiod itself goes. istiod may make one more while
// it has not seen the deletion, so what is found is deleted at every look.
func (d *delivery) removeGatewayChildren(ctx context.Context, gateways map[types.UID]bool) error {
	if len(gateways) == 0 {
		return nil
	}
	return d.removeFound(ctx, bundle.StageGateways, func() ([]located, error) {
		var all []located
		for _, kind := range gatewayChildren {
			objects, err := d.locate(ctx, kind, selection{labels: gatewayNameLabel})
			if err != nil {
				return nil, err
			}
			all = append(all, slices.DeleteFunc(objects, func(o located) bool {
				return !slices.ContainsFunc(o.meta.OwnerReferences, func(r metav1.OwnerReference) bool { return gateways[r.UID] })
			})...)
		}
		return all, nil
	})
}

// removeLeftovers removes what istiod made outside of its namespace. It runs
// after istiod has lost its rights, so nothing comes back. Where another
// istiod is on the member, it is that one's too, and stays.
func (d *delivery) removeLeftovers(ctx context.Context) error {
	istiods, err := d.locate(ctx, gatewayChildren[0], selection{labels: "app=istiod"})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(istiods, func(o located) bool { return o.Namespace != d.mesh.SystemNamespace }) {
		d.options.tell(Progress{Stage: bundle.StageControlPlane, Doing: "leave GatewayClasses and root certificates to the other istiod"})
		return nil
	}
	return d.removeFound(ctx, bundle.StageControlPlane, func() ([]located, error) {
		all, err := d.classes(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range istiodConfigMaps {
			objects, err := d.locate(ctx, InventorySubject(d.mesh).kind(), selection{labels: istiodConfigLabel, fields: "metadata.name=" + name})
			if err != nil {
				return nil, err
			}
			all = append(all, slices.DeleteFunc(objects, func(o located) bool {
				// Those in the home go with it.
				return o.Namespace == d.mesh.SystemNamespace
			})...)
		}
		return all, nil
	})
}

// emptyHome removes what istiod left in a system namespace that stays.
func (d *delivery) emptyHome(ctx context.Context) error {
	lease := schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}
	return d.removeFound(ctx, bundle.StageFoundation, func() ([]located, error) {
		leases, err := d.locate(ctx, lease, selection{namespace: d.mesh.SystemNamespace})
		if err != nil {
			return nil, err
		}
		all := slices.DeleteFunc(leases, func(o located) bool { return !strings.HasPrefix(o.Name, "istio") })
		configs, err := d.locate(ctx, InventorySubject(d.mesh).kind(), selection{namespace: d.mesh.SystemNamespace})
		if err != nil {
			return nil, err
		}
		all = append(all, slices.DeleteFunc(configs, func(o located) bool {
			return !slices.Contains(istiodLocks, o.Name) && !slices.Contains(istiodConfigMaps, o.Name)
		})...)
		secrets, err := d.locate(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Secret"},
			selection{namespace: d.mesh.SystemNamespace, fields: "metadata.name=istio-ca-secret"})
		return append(all, secrets...), err
	})
}

// located is an object with its resource.
type located struct {
	Subject
	resource schema.GroupVersionResource
	meta     metav1.ObjectMeta
}

// locate lists objects of a kind; a kind that is not served has none.
func (d *delivery) locate(ctx context.Context, kind schema.GroupVersionKind, which selection) ([]located, error) {
	mapping, err := d.target.mapping(ctx, kind)
	if err != nil || mapping == nil {
		return nil, err
	}
	items, err := d.target.wire.list(ctx, mapping.Resource, which)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, member.Wrap("list "+mapping.Resource.Resource, err)
	}
	out := make([]located, len(items))
	for i, o := range items {
		out[i] = located{Subject{kind.Group, kind.Version, kind.Kind, o.Namespace, o.Name}, mapping.Resource, o.ObjectMeta}
	}
	return out, nil
}

// classes are the GatewayClasses that istiod made.
func (d *delivery) classes(ctx context.Context) ([]located, error) {
	kind := schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "GatewayClass"}
	objects, err := d.locate(ctx, kind, selection{})
	if err != nil {
		return nil, err
	}
	var out []located
	for _, o := range objects {
		controller, ours := istiodClasses[o.Name]
		if !ours {
			continue
		}
		live, err := d.live(ctx, o.Subject)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, objectError(o.Subject, bundle.StageControlPlane, "read", err)
		}
		if has, _, _ := unstructured.NestedString(live.Object, "spec", "controllerName"); has == controller {
			out = append(out, o)
		}
	}
	return out, nil
}

// removeFound deletes what find returns until it returns nothing.
func (d *delivery) removeFound(ctx context.Context, stage bundle.Stage, find func() ([]located, error)) error {
	waiting, err := d.waitFor(ctx, stage, d.options.GoneTimeout, "wait for deletion", func() ([]Waiting, error) {
		objects, err := find()
		if err != nil {
			return nil, err
		}
		var waiting []Waiting
		for _, o := range objects {
			if err := d.removeLocated(ctx, o, stage); err != nil {
				return nil, err
			}
			waiting = append(waiting, Waiting{Subject: o.Subject, Stage: stage, Why: "being deleted"})
		}
		return waiting, nil
	})
	if err != nil {
		return err
	}
	var failed Errors
	for _, w := range waiting {
		failed = append(failed, waitedFor(w, NotGone, "remove"))
	}
	return failed.err()
}

func (d *delivery) removeLocated(ctx context.Context, o located, stage bundle.Stage) error {
	if o.meta.DeletionTimestamp == nil {
		at := pathOf(&meta.RESTMapping{Resource: o.resource, Scope: scopeOf(o.Subject)}, o.Subject)
		err := d.target.wire.delete(ctx, at, o.meta.UID)
		if err != nil && !apierrors.IsNotFound(err) {
			return objectError(o.Subject, stage, "remove", err)
		}
	}
	d.changes[o.key()] = Change{Subject: o.Subject, Stage: stage, Action: Deleted}
	return nil
}

func scopeOf(s Subject) meta.RESTScope {
	if s.Namespace == "" {
		return meta.RESTScopeRoot
	}
	return meta.RESTScopeNamespace
}
