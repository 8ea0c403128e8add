package fleet

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// defaultRotateAt is the share of a certificate's life after which Azure
// Kubernetes Application Network replaces it, on every tier.
const defaultRotateAt = "50%"

// fillDefaults fills in what the files leave out: networks first, since members
// inherit from theirs.
func (d *documents) fillDefaults() {
	for _, document := range d.networks {
		defaultNetwork(&document.network.Spec)
	}
	for _, document := range d.members {
		var inherited *v1alpha1.Upgrade
		if network := d.network(document.member.Spec.ApplicationNetwork); network != nil {
			inherited = network.network.Spec.Upgrade
		}
		defaultMember(document.member, inherited)
	}
}

func defaultNetwork(spec *v1alpha1.ApplicationNetworkSpec) {
	fill(&spec.Trust.Domain, "cluster.local")
	fill(&spec.Trust.Vault.Type, v1alpha1.VaultDirectory)
	// The lifetimes of Azure Kubernetes Application Network: 12 months, 90 days
	// and a day.
	defaultLifetime(&spec.Trust.Root.CertificateLifetime, 8760*time.Hour)
	defaultLifetime(&spec.Trust.Intermediate.CertificateLifetime, 2160*time.Hour)
	defaultLifetime(&spec.Trust.Workload, 24*time.Hour)
	fill(&spec.Trust.Root.Key.Algorithm, v1alpha1.KeyECDSAP256)
	fill(&spec.Trust.Root.Issuer, v1alpha1.RootSelfSigned)
	fill(&spec.Trust.Root.Rotation, v1alpha1.RotationProceed)
	defaultDelivery(&spec.Trust.Delivery)
	fill(&spec.Trust.Revocation, v1alpha1.RevocationDisabled)
	fill(&spec.DataPlane.Namespace, "applink-system")
	fill(&spec.DataPlane.MTLS, v1alpha1.MTLSPermissive)
	fill(&spec.Discovery.Mode, v1alpha1.DiscoveryRemoteCredentials)
	for i := range spec.Namespaces {
		if waypoint := spec.Namespaces[i].Waypoint; waypoint != nil {
			fill(&waypoint.Name, "waypoint")
		}
	}
	if spec.Review != nil {
		for i := range spec.Review.Policies {
			fill(&spec.Review.Policies[i].Severity, v1alpha1.PolicyError)
		}
	}
	defaultTelemetry(spec.Telemetry)
	if spec.Upgrade == nil {
		spec.Upgrade = &v1alpha1.Upgrade{}
	}
	defaultUpgrade(spec.Upgrade)
	if spec.DeletionGuard.Members == nil {
		spec.DeletionGuard.Members = new(int32(1))
	}
	if spec.DeletionGuard.ObjectsPercent == nil {
		spec.DeletionGuard.ObjectsPercent = new(int32(20))
	}
}

// defaultMember fills in a member; inherited is its network's upgrade, nil when
// the fleet has no such network.
func defaultMember(member *v1alpha1.Member, inherited *v1alpha1.Upgrade) {
	spec := &member.Spec
	fill(&spec.Connectivity.Network, member.Name)
	fill(&spec.Connectivity.EastWestGateway.Visibility, v1alpha1.VisibilityInternal)
	fill(&spec.ControlPlane.Placement, v1alpha1.PlacementMember)
	if spec.Upgrade == nil && inherited != nil {
		spec.Upgrade = inherited.DeepCopy()
	}
	if spec.Upgrade == nil {
		spec.Upgrade = &v1alpha1.Upgrade{}
	}
	defaultUpgrade(spec.Upgrade)
	for i := range spec.MaintenanceWindows {
		fill(&spec.MaintenanceWindows[i].Timezone, "UTC")
	}
}

func defaultTelemetry(telemetry *v1alpha1.Telemetry) {
	if telemetry == nil {
		return
	}
	if collector := telemetry.Collector; collector != nil && collector.Port == 0 {
		collector.Port = 4317 // OTLP over gRPC
	}
	if logs := telemetry.AccessLogs; logs != nil {
		fill(&logs.Requests, v1alpha1.LogAll)
		fill(&logs.To, v1alpha1.LogToStdout)
	}
	if telemetry.Tracing != nil {
		fill(&telemetry.Tracing.Sampling, "1%")
	}
	if telemetry.Metrics != nil {
		fill(&telemetry.Metrics.PodMonitors, v1alpha1.PodMonitorsNone)
	}
}

func defaultDelivery(delivery *v1alpha1.Delivery) {
	fill(&delivery.Mode, v1alpha1.DeliveryDirect)
	if store := delivery.Store; store != nil {
		fill(&store.Kind, v1alpha1.StoreInCluster)
	}
	if azure := delivery.Azure; azure != nil {
		fill(&azure.Identity, v1alpha1.ProviderWorkloadIdentity)
	}
}

func defaultLifetime(lifetime *v1alpha1.CertificateLifetime, validity time.Duration) {
	if lifetime.Validity == nil {
		lifetime.Validity = &metav1.Duration{Duration: validity}
	}
	fill(&lifetime.RotateAt, defaultRotateAt)
}

// defaultUpgrade fills in the mode, and the channel where the mode has one. It
// leaves the version empty: without one a running member keeps what it runs,
// which the files do not know.
func defaultUpgrade(upgrade *v1alpha1.Upgrade) {
	fill(&upgrade.Mode, v1alpha1.UpgradeSelfManaged)
	if upgrade.Mode == v1alpha1.UpgradeFullyManaged {
		fill(&upgrade.Channel, v1alpha1.ChannelStable)
	}
}

// fill sets the field to the value if it is not set.
func fill[T ~string](field *T, value T) { *field = cmp.Or(*field, value) }
