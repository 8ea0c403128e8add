package apply

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// The reasons of the Gateway API's CRDs.
const (
	// GatewayAPIMissing: the member is to have the CRDs and does not.
	GatewayAPIMissing member.Reason = "GatewayAPIMissing"
	// GatewayAPIOwned: isthmus is to deliver the CRDs, and somebody else does.
	GatewayAPIOwned member.Reason = "GatewayAPIOwned"
)

// Annotations of the Gateway API on its CRDs.
const (
	annotationBundleVersion = "gateway.networking.k8s.io/bundle-version"
	annotationChannel       = "gateway.networking.k8s.io/channel"
)

// gatewayAPIPath is where the API server has CRDs.
const gatewayAPIPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// neededCRDs are those without which there is no gateway and no waypoint; they are
// in every standard channel since v1.1.
var neededCRDs = []string{
	"gatewayclasses.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io",
	"grpcroutes.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io",
	"referencegrants.gateway.networking.k8s.io",
}

// GatewayAPI reads which version and channel of the Gateway API the member has,
// going by the CRD of Gateways; both are empty where the CRD does not say. Where
// CRDs are missing that gateways need, the error has the reason
// [GatewayAPIMissing] and names them. Nothing is written.
func (t *Target) GatewayAPI(ctx context.Context) (catalog.GatewayAPI, error) {
	var found catalog.GatewayAPI
	var missing []string
	for _, name := range neededCRDs {
		crd, err := t.wire.get(ctx, path.Join(gatewayAPIPath, name))
		if apierrors.IsNotFound(err) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return found, member.Wrap("read the CRDs of the Gateway API", err)
		}
		if strings.HasPrefix(name, "gateways.") {
			found = catalog.GatewayAPI{Version: crd.Annotations[annotationBundleVersion], Channel: crd.Annotations[annotationChannel]}
		}
	}
	if len(missing) > 0 {
		return found, &member.Error{Reason: GatewayAPIMissing, Doing: fmt.Sprintf(
			"the member lacks CRDs of the Gateway API: %s: install its standard channel, or let isthmus deliver it with gatewayAPI.owner: isthmus",
			strings.Join(missing, ", "))}
	}
	return found, nil
}

// NeedsGatewayAPI tells whether the set has Gateways and not the CRDs for them.
func (s Set) NeedsGatewayAPI() bool {
	needs := slices.ContainsFunc(s.Objects, func(o bundle.Object) bool { return SubjectOf(o.Object).isGateway() })
	return needs && !slices.ContainsFunc(s.Objects, func(o bundle.Object) bool {
		return o.Object.GetLabels()[LabelComponent] == string(bundle.ComponentGatewayAPI)
	})
}

// isGatewayAPI reports whether the object is part of the Gateway API's own
// manifests. Many have an interest in those: what others own in them is theirs,
// and a newer one is kept.
func (w wanted) isGatewayAPI() bool {
	return w.object.GetLabels()[LabelComponent] == string(bundle.ComponentGatewayAPI)
}

// isGatewayAPI tells the same of what only an inventory knows.
func (s Subject) isGatewayAPI() bool {
	return (s.isCRD() || s.isAdmissionPolicy()) &&
		(strings.HasSuffix(s.Name, ".gateway.networking.k8s.io") || strings.HasSuffix(s.Name, ".gateway.networking.x-k8s.io"))
}

// isAdmissionPolicy: like a CRD it is cluster-wide, and others may have put it
// there before us.
func (s Subject) isAdmissionPolicy() bool {
	return s.Group == "admissionregistration.k8s.io" && strings.HasPrefix(s.Kind, "ValidatingAdmissionPolicy")
}

// isShared reports whether others may have had the object before us and rely on it.
func (s Subject) isShared() bool { return s.isNamespace() || s.isCRD() || s.isAdmissionPolicy() }

// leave reads an object of the Gateway API and returns it if it is to stay as it
// is; nil if it is to be applied. What is ours and newer stays: CRDs do not go
// back, also when a release of Istio does. A newer one of others is an error.
// A policy of others that is of the version wanted stays theirs: its rules cannot
// be owned together, because the API server adds defaults to them.
func (d *delivery) leave(ctx context.Context, at string, w wanted) (*sight, error) {
	live, err := d.target.wire.get(ctx, at)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	has, wants := live.Annotations[annotationBundleVersion], w.object.GetAnnotations()[annotationBundleVersion]
	seen, owners := sightOf(&live.ObjectMeta), othersOf(&live.ObjectMeta)
	switch {
	case len(owners) > 0 && w.isAdmissionPolicy() && has == wants:
		return &seen, nil
	case has == "" || catalog.Compare(has, wants) <= 0:
		return nil, nil
	case len(owners) == 0:
		return &seen, nil
	}
	return nil, &member.Error{Reason: GatewayAPIOwned, Doing: fmt.Sprintf(
		"it is of version %s, newer than %s, and belongs to %s: name that version in gatewayAPI.version, or leave it to them with gatewayAPI.owner: Member",
		has, wants, strings.Join(owners, ", "))}
}

// othersOf are the field managers of an object's definition beside us, sorted.
func othersOf(o *metav1.ObjectMeta) []string {
	var names []string
	for _, entry := range o.ManagedFields {
		if entry.Manager != FieldManager && entry.Subresource == "" && !slices.Contains(names, entry.Manager) {
			names = append(names, entry.Manager)
		}
	}
	slices.Sort(names)
	return names
}
