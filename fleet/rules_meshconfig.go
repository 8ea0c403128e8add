package fleet

import (
	"fmt"
	"strings"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// ownMeshConfig are the fields of Istio's MeshConfig that isthmus sets, or that
// would take the mesh out of its hands, with what to do instead.
var ownMeshConfig = map[string]string{
	"ca":                                     "spec.trust says where certificates come from",
	"caCertificates":                         "spec.trust says where certificates come from",
	"certificates":                           "spec.trust says where certificates come from",
	"configSources":                          "istiod reads the configuration of its own member; see spec.resources",
	"defaultConfig.caCertificatesPem":        "spec.trust says where certificates come from",
	"defaultConfig.discoveryAddress":         "spec.controlPlane of a member says where its istiod is",
	"defaultConfig.meshId":                   "it is the network's name",
	"defaultConfig.proxyMetadata.SECRET_TTL": "set spec.trust.workload.validity",
	"defaultConfig.proxyMetadata.ISTIO_META_CLUSTER_ID":   "it is the member's name",
	"defaultConfig.proxyMetadata.ISTIO_META_ENABLE_HBONE": "it is always on",
	"defaultConfig.proxyMetadata.ISTIO_META_MESH_ID":      "it is the network's name",
	"defaultConfig.proxyMetadata.ISTIO_META_NETWORK":      "set spec.connectivity.network of the member",
	"rootNamespace":       "set spec.dataPlane.namespace",
	"serviceScopeConfigs": "label a Service istio.io/global: \"true\" to make it global, or set spec.discovery.exports",
	"trustDomain":         "set spec.trust.domain",
}

// ownProviders begins the names of telemetry's providers.
const ownProviders = "isthmus-"

// reservedMeshConfig finds what isthmus sets itself: merged, one of the two would
// silently lose.
func reservedMeshConfig(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	fields, err := MeshConfigOf(spec)
	if err != nil {
		report("spec.meshConfig", err.Error(), "")
		return
	}
	for path, hint := range ownMeshConfig {
		if has(fields, strings.Split(path, ".")...) {
			report("spec.meshConfig."+path, "isthmus sets it", hint)
		}
	}
	for i, provider := range items(fields["extensionProviders"]) {
		if name, _ := provider["name"].(string); strings.HasPrefix(name, ownProviders) {
			report(fmt.Sprintf("spec.meshConfig.extensionProviders[%d].name", i),
				fmt.Sprintf("names that begin with %s are those of spec.telemetry", ownProviders), "choose another name")
		}
	}
}

// MeshConfigOf returns the fields of spec.meshConfig as JSON values, nil without
// any.
func MeshConfigOf(spec *v1alpha1.ApplicationNetworkSpec) (map[string]any, error) {
	if spec.MeshConfig == nil || len(spec.MeshConfig.Raw) == 0 {
		return nil, nil
	}
	var fields map[string]any
	if err := utiljson.Unmarshal(spec.MeshConfig.Raw, &fields); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return fields, nil
}
