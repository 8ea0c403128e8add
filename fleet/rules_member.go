package fleet

import (
	"fmt"
	"regexp"
	"time"
	_ "time/tzdata" // the same zones are known wherever isthmus runs

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

var managedCluster = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerService/managedClusters/[^/]+$`)

// invalidCluster: each type of cluster has its own fields, and not those of
// another.
func invalidCluster(spec *v1alpha1.MemberSpec, report field) {
	const resourceID, kubeconfig = "spec.cluster.resourceID", "spec.cluster.kubeconfigRef"
	cluster := spec.Cluster
	switch cluster.Type {
	case v1alpha1.ClusterAKS, v1alpha1.ClusterKubernetes, v1alpha1.ClusterHub:
	default:
		return // the schema says what is wrong
	}
	if cluster.Type != v1alpha1.ClusterKubernetes && cluster.KubeconfigRef != nil {
		report(kubeconfig, "only with type Kubernetes", "set type: Kubernetes, or remove it")
	}
	if cluster.Type != v1alpha1.ClusterAKS && cluster.ResourceID != "" {
		report(resourceID, "only with type AKS", "set type: AKS, or remove it")
	}
	if cluster.Type != v1alpha1.ClusterAKS && cluster.Azure != nil {
		report("spec.cluster.azure", "only with type AKS", "set type: AKS, or remove it")
	}
	switch cluster.Type {
	case v1alpha1.ClusterAKS:
		if cluster.ResourceID == "" {
			report(resourceID, "not set", "`az aks show --query id` prints it")
		} else if !managedCluster.MatchString(cluster.ResourceID) {
			report(resourceID, "not the id of an AKS cluster",
				"/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.ContainerService/managedClusters/<name>")
		}
		if cluster.Azure != nil {
			invalidLogin("spec.cluster.azure", &cluster.Azure.AzureLogin, report)
		}
	case v1alpha1.ClusterKubernetes:
		if cluster.KubeconfigRef == nil {
			report(kubeconfig, "not set", "name the Secret on the hub that holds the cluster's kubeconfig")
		}
	}
}

// invalidLogin: an application needs to be named and has a secret; nobody else
// has one.
func invalidLogin(path string, azure *v1alpha1.AzureLogin, report field) {
	if azure.Identity != v1alpha1.AzureServicePrincipal {
		if azure.SecretRef != nil {
			report(path+".secretRef", "only with identity ServicePrincipal", "set identity: ServicePrincipal, or remove it")
		}
		return
	}
	for _, need := range []struct{ field, value, hint string }{
		{".clientID", azure.ClientID, "the application's id: `az ad sp show` prints it as appId"},
		{".tenantID", azure.TenantID, "`az account show --query tenantId` prints it"},
	} {
		if need.value == "" {
			report(path+need.field, "not set", need.hint)
		}
	}
	if azure.SecretRef == nil {
		report(path+".secretRef", "not set", "name the Secret on the hub that holds the application's clientSecret or clientCertificate")
	}
}

// longestWindow is a week: a window opens on days of the week, so a longer one
// would never close.
const longestWindow = 7 * 24 * time.Hour

func invalidWindow(spec *v1alpha1.MemberSpec, report field) {
	for i, window := range spec.MaintenanceWindows {
		path := fmt.Sprintf("spec.maintenanceWindows[%d]", i)
		if d := window.Duration.Duration; d <= 0 || d > longestWindow {
			report(path+".duration", fmt.Sprintf("%s is not more than 0 and at most %s", hours(d), hours(longestWindow)), "")
		}
		// "Local" would be another zone on every machine.
		if _, err := time.LoadLocation(window.Timezone); err != nil || window.Timezone == "Local" {
			report(path+".timezone", fmt.Sprintf("%s is not a time zone", quote(window.Timezone)), "an IANA name such as Europe/Berlin")
		}
	}
}
