package validation

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/hashicorp/go-multierror"
	"google.golang.org/protobuf/proto"
	extensions "istio.io/api/extensions/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/validation"
	"istio.io/istio/pkg/util/protomarshal"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// validator is what istiod's webhook does with the kind.
type validator struct {
	empty    proto.Message
	validate validation.ValidateFunc
}

// validators of Istio's kinds. EnvoyFilter has none here: it would bring all of
// Envoy's configuration, some 470 packages, for a kind that waypoints ignore.
var validators = map[schema.GroupKind]validator{
	{Group: "extensions.istio.io", Kind: "TrafficExtension"}:    {&extensions.TrafficExtension{}, validation.ValidateTrafficExtension},
	{Group: "extensions.istio.io", Kind: "WasmPlugin"}:          {&extensions.WasmPlugin{}, validation.ValidateWasmPlugin},
	{Group: "networking.istio.io", Kind: "DestinationRule"}:     {&networking.DestinationRule{}, validation.ValidateDestinationRule},
	{Group: "networking.istio.io", Kind: "Gateway"}:             {&networking.Gateway{}, validation.ValidateGateway},
	{Group: "networking.istio.io", Kind: "ProxyConfig"}:         {&networkingv1beta1.ProxyConfig{}, validation.ValidateProxyConfig},
	{Group: "networking.istio.io", Kind: "ServiceEntry"}:        {&networking.ServiceEntry{}, validation.ValidateServiceEntry},
	{Group: "networking.istio.io", Kind: "Sidecar"}:             {&networking.Sidecar{}, validation.ValidateSidecar},
	{Group: "networking.istio.io", Kind: "VirtualService"}:      {&networking.VirtualService{}, validation.ValidateVirtualService},
	{Group: "networking.istio.io", Kind: "WorkloadEntry"}:       {&networking.WorkloadEntry{}, validation.ValidateWorkloadEntry},
	{Group: "networking.istio.io", Kind: "WorkloadGroup"}:       {&networking.WorkloadGroup{}, validation.ValidateWorkloadGroup},
	{Group: "security.istio.io", Kind: "AuthorizationPolicy"}:   {&security.AuthorizationPolicy{}, validation.ValidateAuthorizationPolicy},
	{Group: "security.istio.io", Kind: "PeerAuthentication"}:    {&security.PeerAuthentication{}, validation.ValidatePeerAuthentication},
	{Group: "security.istio.io", Kind: "RequestAuthentication"}: {&security.RequestAuthentication{}, validation.ValidateRequestAuthentication},
	{Group: "telemetry.istio.io", Kind: "Telemetry"}:            {&telemetry.Telemetry{}, validation.ValidateTelemetry},
}

// semantics returns what Istio's validator of the kind finds.
func semantics(object *unstructured.Unstructured) []Finding {
	gvk := object.GroupVersionKind()
	v, ok := validators[gvk.GroupKind()]
	if !ok {
		return nil
	}
	spec := v.empty.ProtoReflect().New().Interface()
	content, err := json.Marshal(object.Object["spec"])
	if err == nil && object.Object["spec"] != nil {
		// Fields that the types here do not have are a newer release's: its schema
		// has let them pass.
		err = protomarshal.UnmarshalAllowUnknown(content, spec)
	}
	if err != nil {
		return []Finding{{Path: "spec", Message: oneLine(err.Error())}}
	}
	warning, err := v.validate(config.Config{
		Meta: config.Meta{
			GroupVersionKind: config.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind},
			Name:             object.GetName(), Namespace: object.GetNamespace(),
			Labels: object.GetLabels(), Annotations: object.GetAnnotations(),
		},
		Spec: spec,
	})
	var findings []Finding
	for _, message := range messages(err) {
		findings = append(findings, Finding{Path: "spec", Message: message})
	}
	for _, message := range messages(warning) {
		findings = append(findings, Finding{Path: "spec", Message: message, Warning: true})
	}
	return findings
}

// messages returns the texts of the errors that are joined in one.
func messages(err error) []string {
	if err == nil {
		return nil
	}
	var several *multierror.Error
	if errors.As(err, &several) {
		var out []string
		for _, one := range several.Errors {
			out = append(out, messages(one)...)
		}
		return out
	}
	return []string{oneLine(err.Error())}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
