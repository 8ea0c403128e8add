package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
)

// armVersion of the calls about managed clusters. What is read of the answers has
// been in every version since 2021.
const armVersion = "2025-05-01"

// address is where a cluster is.
type address struct {
	server string
	ca     []byte
}

// managedCluster is what is known of an AKS cluster.
type managedCluster struct {
	key, id  string
	endpoint v1alpha1.AzureEndpoint
	login    *azure.Login
	now      func() time.Time
	timeout  time.Duration
	// suspect says that the cluster did not answer where it is thought to be.
	suspect atomic.Bool

	turn chan struct{} // held while the rest is used
	at   address
	read time.Time // zero for never
	next time.Time // no attempt before
	last error     // of the last attempt
}

// address is read once; it is read again when it is old or suspect, and what is
// known stays good while that fails, unless the cluster is gone.
func (c *managedCluster) address(ctx context.Context) (address, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return address{}, Wrap("find the cluster in Azure", ctx.Err())
	}
	now, known := c.now(), !c.read.IsZero()
	old := !known || now.Sub(c.read) >= azureFresh || (c.suspect.Load() && now.Sub(c.read) >= azureSuspect)
	switch {
	case old && !now.Before(c.next):
		at, err := c.ask(ctx)
		if err == nil {
			c.at, c.read, c.next, c.last = at, now, time.Time{}, nil
			c.suspect.Store(false)
		} else {
			c.last = err
		}
	case !old:
		return c.at, nil
	}
	if c.last != nil && (!known || ReasonOf(c.last) == ClusterGone) {
		return address{}, c.last
	}
	return c.at, nil
}

// properties are those that we read of a managed cluster.
type properties struct {
	FQDN        string `json:"fqdn"`
	PrivateFQDN string `json:"privateFQDN"`
	PowerState  struct {
		Code string `json:"code"`
	} `json:"powerState"`
	AADProfile *struct{} `json:"aadProfile"`
}

func (c *managedCluster) ask(ctx context.Context) (address, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	client, err := arm.NewClient("isthmus", "v1.0.0", c.login, &arm.ClientOptions{
		ClientOptions: c.login.ClientOptions(), DisableRPRegistration: true,
	})
	if err != nil {
		return address{}, &Error{Reason: Unclassified, Doing: "prepare the calls to Azure", Err: err}
	}
	var cluster struct {
		Properties properties `json:"properties"`
	}
	if err := c.call(ctx, client, http.MethodGet, "", &cluster); err != nil {
		return address{}, err
	}
	var credentials struct {
		Kubeconfigs []struct {
			Value []byte `json:"value"`
		} `json:"kubeconfigs"`
	}
	host, err := hostOf(cluster.Properties, c.endpoint)
	if err != nil {
		return address{}, err
	}
	if err := c.call(ctx, client, http.MethodPost, "/listClusterUserCredential", &credentials); err != nil {
		return address{}, err
	}
	if len(credentials.Kubeconfigs) == 0 {
		return address{}, &Error{Reason: ServerFailing, Doing: "Azure gives no kubeconfig of the cluster"}
	}
	return addressIn(credentials.Kubeconfigs[0].Value, host)
}

// hostOf chooses one of the cluster's names.
func hostOf(p properties, endpoint v1alpha1.AzureEndpoint) (string, error) {
	host := p.FQDN
	if endpoint == v1alpha1.EndpointPrivate || (endpoint == "" && host == "") {
		host = p.PrivateFQDN
	}
	switch {
	case p.AADProfile == nil:
		return "", &Error{Reason: CredentialsRejected, Doing: "the cluster does not take identities of Microsoft Entra: enable that with `az aks update --enable-aad`, or use type Kubernetes with a kubeconfig"}
	case p.PowerState.Code == "Stopped":
		return "", &Error{Reason: Unreachable, Doing: "the cluster is stopped: start it with `az aks start`, or suspend the member"}
	case host == "":
		return "", &Error{Reason: Unreachable, Doing: fmt.Sprintf("the cluster has no address of the kind that spec.cluster.azure.endpoint asks for (%q)", endpoint)}
	}
	return host, nil
}

// addressIn takes the port and the CA from a kubeconfig of Azure. It goes through
// the same checks as any kubeconfig, and whatever it says of users is not read.
func addressIn(kubeconfig []byte, host string) (address, error) {
	if len(kubeconfig) > MaxKubeconfig {
		return address{}, refuse("of Azure is larger than %d bytes", MaxKubeconfig)
	}
	parsed, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return address{}, refuse("of Azure is not readable")
	}
	cluster, _, err := current(parsed)
	if err != nil {
		return address{}, err
	}
	if err := checkCluster(cluster, Options{}); err != nil {
		return address{}, err
	}
	if len(cluster.CertificateAuthorityData) == 0 {
		return address{}, refuse("of Azure has no certificate-authority-data")
	}
	server, err := url.Parse(cluster.Server)
	if err != nil {
		return address{}, refuse("field clusters[].cluster.server is not a URL")
	}
	if port := server.Port(); port != "" {
		host = net.JoinHostPort(host, port)
	}
	return address{server: (&url.URL{Scheme: "https", Host: host}).String(), ca: cluster.CertificateAuthorityData}, nil
}

func (c *managedCluster) call(ctx context.Context, client *arm.Client, method, action string, into any) error {
	request, err := runtime.NewRequest(ctx, method, runtime.JoinPaths(client.Endpoint(), c.id+action))
	if err != nil {
		return &Error{Reason: Unclassified, Doing: "prepare a call to Azure", Err: err}
	}
	request.Raw().URL.RawQuery = url.Values{"api-version": {armVersion}}.Encode()
	request.Raw().Header.Set("Accept", "application/json")
	response, err := client.Pipeline().Do(request)
	if err != nil {
		return c.failure(action, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		if response.StatusCode == http.StatusTooManyRequests {
			c.next = c.now().Add(max(azure.RenewRetry, azure.RetryAfter(response, c.now())))
		}
		return c.failure(action, runtime.NewResponseError(response))
	}
	raw, err := runtime.Payload(response)
	if err != nil {
		return c.failure(action, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return &Error{Reason: ServerFailing, Doing: "read the answer of Azure about the cluster"} // the cause may quote it
	}
	return nil
}

// failure says what an answer of Azure means. Only Azure's own word that the
// cluster or its group is not there means that it is gone: a subscription that
// cannot be seen may have moved.
func (c *managedCluster) failure(action string, err error) error {
	const doing = "find the cluster in Azure: "
	answer := (*azcore.ResponseError)(nil)
	if !errors.As(err, &answer) {
		if reason := transportReason(err); reason == Unreachable || reason == Canceled {
			return &Error{Reason: reason, Doing: doing + "no answer"}
		}
		return c.login.Refusal(err)
	}
	switch code := answer.StatusCode; {
	case code == http.StatusNotFound && (answer.ErrorCode == "ResourceNotFound" || answer.ErrorCode == "ResourceGroupNotFound"):
		return &Error{Reason: ClusterGone, Doing: doing + "it is not there any more (" + answer.ErrorCode + ")"}
	case code == http.StatusNotFound:
		return &Error{Reason: AccessDenied, Doing: doing + "not visible to this identity: check the subscription in resourceID, the tenant and the cloud"}
	case code == http.StatusForbidden && action != "":
		return &Error{Reason: AccessDenied, Doing: doing + "the identity may not list its user credential: give it the role \"Azure Kubernetes Service Cluster User Role\" on the cluster"}
	case code == http.StatusForbidden:
		return &Error{Reason: AccessDenied, Doing: doing + "the identity may not read it: give it the role \"Azure Kubernetes Service Cluster User Role\" on the cluster"}
	case code == http.StatusUnauthorized:
		return &Error{Reason: CredentialsRejected, Doing: doing + "Azure does not take the identity's token: check the tenant and the cloud"}
	case code == http.StatusTooManyRequests:
		return &Error{Reason: Throttled, Doing: doing + "too many requests"}
	case code >= http.StatusInternalServerError:
		return &Error{Reason: ServerFailing, Doing: fmt.Sprintf("%sanswer %d", doing, code)}
	default:
		return &Error{Reason: Unclassified, Doing: fmt.Sprintf("%sanswer %d", doing, code)}
	}
}
