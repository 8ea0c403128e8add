package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

const (
	// AnnotationRestart on the pod template of a proxy is the time for which it was
	// restarted, in RFC 3339: its pods are younger.
	AnnotationRestart = "isthmus.dev/restarted-after"
	// RestartManager is the field manager of AnnotationRestart. It is another one
	// than that of deliveries, which would take the annotation away again, and than
	// istiod, which applies the Deployments of gateways in the same way.
	RestartManager = "isthmus-restart"
	// annotationKubectl is what kubectl rollout restart writes.
	annotationKubectl = "kubectl.kubernetes.io/restartedAt"
)

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// Restart has all proxies of the mesh on a member that were started before a time
// started anew, and returns which of them still wait: none once every rollout is
// complete. It looks once, so it is called until nothing waits. The same time again
// restarts nothing twice, whoever asked before. After is a time that has passed,
// and its whole seconds count.
//
// Proxies are the DaemonSets of the set's ztunnel stage, which roll node by node as
// their strategy says, and the Deployments that istiod of this mesh runs for
// Gateways, whoever made those. All begin at once: a node that is away holds its own
// pod up and no gateway. One that may not be changed waits, with what to do about
// it; that somebody restarts it by kubectl is as good.
func Restart(ctx context.Context, t *Target, set Set, after time.Time) ([]Waiting, error) {
	d := &delivery{target: t, mesh: set.Mesh}
	proxies, waiting, err := d.proxies(ctx, set)
	if err != nil {
		return nil, err
	}
	for _, live := range proxies {
		w := Waiting{Subject: SubjectOf(live), Stage: stageOfProxy(live)}
		if !startsAfter(live, after) {
			restarted, err := d.restart(ctx, live, after)
			if err != nil {
				w.Why = fmt.Sprintf("it cannot be restarted: %v; a person can: kubectl rollout restart %s/%s -n %s",
					member.Wrap("patch", err), strings.ToLower(live.GetKind()), live.GetName(), live.GetNamespace())
				waiting = append(waiting, w)
				continue
			}
			live = restarted
		}
		if w.Why = d.rollsOut(ctx, live); w.Why != "" {
			waiting = append(waiting, w)
		}
	}
	return waiting, nil
}

// RestartIstiod has the istiods of a set restarted that were started before a time, as
// [Restart] does proxies. It does not wait for the rollout.
func RestartIstiod(ctx context.Context, t *Target, set Set, after time.Time) error {
	d := &delivery{target: t, mesh: set.Mesh}
	for _, o := range set.Objects {
		if o.Object.GetKind() != "Deployment" || o.Object.GetLabels()["app"] != "istiod" {
			continue
		}
		s := SubjectOf(o.Object)
		live, err := d.live(ctx, s)
		if err == nil && !startsAfter(live, after) {
			_, err = d.restart(ctx, live, after)
		}
		if err != nil {
			return objectError(s, o.Stage, "restart", err)
		}
	}
	return nil
}

// proxies are the workloads to restart, and those that are not there.
func (d *delivery) proxies(ctx context.Context, set Set) (found []*unstructured.Unstructured, missing []Waiting, err error) {
	for _, o := range set.Objects {
		if o.Stage != bundle.StageZtunnel || o.Object.GetKind() != "DaemonSet" {
			continue
		}
		s := SubjectOf(o.Object)
		live, err := d.live(ctx, s)
		if apierrors.IsNotFound(err) {
			missing = append(missing, Waiting{Subject: s, Stage: o.Stage, Why: "not there"})
			continue
		}
		if err != nil {
			return nil, nil, objectError(s, o.Stage, "read", err)
		}
		found = append(found, live)
	}
	gateways, err := d.target.member.Dynamic.Resource(deployments).List(ctx, metav1.ListOptions{LabelSelector: gatewayNameLabel})
	if err != nil {
		return nil, nil, member.Wrap("list gateways", err)
	}
	for i := range gateways.Items {
		if isProxyOf(&gateways.Items[i], d.mesh) {
			found = append(found, &gateways.Items[i])
		}
	}
	return found, missing, nil
}

// isProxyOf says whether a Deployment's pods get their certificates from the istiod
// of the mesh: another mesh may have gateways on the member, too.
func isProxyOf(deployment *unstructured.Unstructured, mesh Mesh) bool {
	containers, _, _ := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	return slices.ContainsFunc(containers, func(c any) bool {
		container, _ := c.(map[string]any)
		env, _, _ := unstructured.NestedSlice(container, "env")
		return slices.ContainsFunc(env, func(e any) bool {
			variable, _ := e.(map[string]any)
			value, _ := variable["value"].(string)
			return (variable["name"] == "CA_ADDR" || variable["name"] == "CA_ADDRESS") && strings.Contains(value, "."+mesh.SystemNamespace+".svc")
		})
	})
}

func stageOfProxy(o *unstructured.Unstructured) bundle.Stage {
	if o.GetKind() == "DaemonSet" {
		return bundle.StageZtunnel
	}
	return bundle.StageGateways
}

// startsAfter says whether a workload's pods are started anew for a time, or for a
// later one.
func startsAfter(o *unstructured.Unstructured, after time.Time) bool {
	annotations, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "annotations")
	return slices.ContainsFunc([]string{AnnotationRestart, annotationKubectl}, func(name string) bool {
		at, err := time.Parse(time.RFC3339, annotations[name])
		return err == nil && !at.Before(after.Truncate(time.Second))
	})
}

// restart has a workload roll out.
func (d *delivery) restart(ctx context.Context, live *unstructured.Unstructured, after time.Time) (*unstructured.Unstructured, error) {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": live.GetUID()}, // not another one of its name
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"annotations": map[string]any{AnnotationRestart: after.UTC().Format(time.RFC3339)}}}},
	})
	if err != nil {
		return nil, err
	}
	mapping, err := d.target.member.Mapping(live.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return d.target.member.Dynamic.Resource(mapping.Resource).Namespace(live.GetNamespace()).
		Patch(ctx, live.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: RestartManager})
}

// rollsOut says why a rollout is not complete; empty when it is.
func (d *delivery) rollsOut(ctx context.Context, live *unstructured.Unstructured) string {
	computed, err := status.Compute(live)
	switch {
	case err != nil:
		return fmt.Sprintf("read its status: %v", err)
	case computed.Status == status.CurrentStatus:
		return ""
	case live.GetKind() == "DaemonSet":
		if nodes := d.nodesBehind(ctx, live); nodes != "" {
			return nodes
		}
	}
	return computed.Message
}
