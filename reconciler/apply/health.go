package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// isGated reports whether an object has a health that delivery waits for.
func isGated(s Subject) bool {
	switch s.groupKind() {
	case schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "batch", Kind: "Job"}:
		return true
	}
	return s.isCRD() || s.isGateway()
}

func (s Subject) isGateway() bool {
	return s.Group == "gateway.networking.k8s.io" && s.Kind == "Gateway"
}

// gate waits until objects are healthy. Not blocking, it looks once and reports
// who is not.
func (d *delivery) gate(ctx context.Context, stage bundle.Stage, objects []wanted, block bool) error {
	if len(objects) == 0 {
		return nil
	}
	// A correction must not wait for another object's health.
	d.target.writes.Unlock()
	defer func() {
		d.target.writes.Lock()
		if last := d.target.lastInventory(); last != nil {
			d.inventory = last // a correction may have written it
		}
	}()
	patience := d.options.StageTimeout
	if stage == bundle.StageGateways {
		patience = d.options.GatewayTimeout
	}
	began := time.Now()
	waiting, err := d.waitFor(ctx, stage, patience, "wait for health", func() ([]Waiting, error) {
		waiting, err := d.unhealthy(ctx, stage, objects, !block || time.Since(began) > quickLooks)
		if !block {
			d.waiting = append(d.waiting, waiting...)
			return nil, err
		}
		objects = slices.DeleteFunc(objects, func(w wanted) bool {
			return !slices.ContainsFunc(waiting, func(x Waiting) bool { return x.Subject == w.Subject })
		})
		return waiting, err
	})
	if err != nil || len(waiting) == 0 {
		return err
	}
	d.waiting = append(d.waiting, waiting...)
	for _, w := range waiting {
		if !w.Subject.isGateway() {
			d.failed = append(d.failed, waitedFor(w, NotReady, "wait for"))
		}
	}
	return d.failed.err()
}

func waitedFor(w Waiting, reason member.Reason, doing string) *ObjectError {
	return &ObjectError{Subject: w.Subject, Stage: w.Stage, Reason: reason, Doing: doing, Err: fmt.Errorf("%s", w.Why)}
}

// waitFor asks until nothing is waited for or patience is over, and returns
// what still is. It asks quickly at first, because most waits are short, and then
// ever more rarely: what it sees late is a fourth of the wait, and no more than two
// seconds.
func (d *delivery) waitFor(ctx context.Context, stage bundle.Stage, patience time.Duration, doing string,
	ask func() ([]Waiting, error)) ([]Waiting, error) {
	began, deadline := time.Now(), time.NewTimer(patience)
	defer deadline.Stop()
	for {
		waiting, err := ask()
		if err != nil || len(waiting) == 0 {
			return nil, err
		}
		d.options.tell(Progress{Stage: stage, Doing: doing, Waiting: waiting})
		next := time.NewTimer(min(max(time.Since(began)/4, 50*time.Millisecond), 2*time.Second))
		select {
		case <-next.C:
		case <-deadline.C:
			next.Stop()
			return waiting, nil
		case <-ctx.Done():
			next.Stop()
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, member.Wrap(doing, ctx.Err())
			}
			// The time of the call is over: what is waited for is the better message.
			return waiting, nil
		}
	}
}

// quickLooks is how long a kind that is not served is not asked why: it is served in
// a moment, and reading fifteen whole CRDs again and again only keeps the API server
// from getting there.
const quickLooks = 2 * time.Second

// unhealthy are the objects that are not healthy now; ask says whether CRDs whose
// kinds are not served, and the pods of DaemonSets, are read for the reason.
func (d *delivery) unhealthy(ctx context.Context, stage bundle.Stage, objects []wanted, ask bool) ([]Waiting, error) {
	var waiting []Waiting
	refreshed := false
	for _, w := range objects {
		why, err := "", error(nil)
		if w.isCRD() {
			var served bool
			if served, err = d.served(w); err == nil && !served && !refreshed {
				refreshed = true
				d.target.member.Forget()
				served, err = d.served(w)
			}
			if err == nil && !served {
				why, err = d.notServed(ctx, w, ask)
			}
		} else {
			why, err = d.notHealthy(ctx, w.Subject, ask)
		}
		if err != nil {
			return nil, objectError(w.Subject, stage, "read the health of", err)
		}
		if why != "" {
			waiting = append(waiting, Waiting{Subject: w.Subject, Stage: stage, Why: why})
		}
	}
	return waiting, nil
}

// notHealthy says why an object is not healthy; of a DaemonSet with the nodes, if
// it may ask.
func (d *delivery) notHealthy(ctx context.Context, s Subject, ask bool) (string, error) {
	live, err := d.live(ctx, s)
	if apierrors.IsNotFound(err) {
		return "not there", nil
	}
	if err != nil {
		return "", err
	}
	if s.isGateway() {
		return notProgrammed(live), nil
	}
	if s.Kind == "DaemonSet" {
		d.scheduled = max(d.scheduled, countOf(live, "desiredNumberScheduled"))
	}
	computed, err := status.Compute(live)
	if err != nil {
		return "", fmt.Errorf("read its status: %w", err)
	}
	if computed.Status == status.CurrentStatus {
		return "", nil
	}
	if s.Kind != "DaemonSet" || !ask || computed.Status != status.InProgressStatus {
		return computed.Message, nil
	}
	if nodes := d.nodesBehind(ctx, live); nodes != "" {
		return ofNodes(live) + "; " + nodes, nil
	}
	return computed.Message, nil
}

func (d *delivery) live(ctx context.Context, s Subject) (*unstructured.Unstructured, error) {
	mapping, err := d.target.member.Mapping(s.kind())
	if err != nil {
		return nil, err
	}
	client := d.target.member.Dynamic.Resource(mapping.Resource)
	if s.Namespace == "" {
		return client.Get(ctx, s.Name, metav1.GetOptions{})
	}
	return client.Namespace(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
}

// served reports whether the kinds of a CRD can be used. What the API server serves
// is asked, because Established is said a moment before it is true.
func (d *delivery) served(w wanted) (bool, error) {
	plural, _, _ := unstructured.NestedString(w.object.Object, "spec", "names", "plural")
	for _, kind := range servedKinds(w.object) {
		mapping, err := d.target.member.Mapping(kind)
		if err != nil && member.ReasonOf(err) != member.KindMissing {
			return false, err
		}
		if err != nil || mapping.Resource.Resource != plural { // another CRD may have the same kind
			return false, nil
		}
	}
	return true, nil
}

// notServed says why the kinds of a CRD are not served; roughly, unless it may ask.
func (d *delivery) notServed(ctx context.Context, w wanted, ask bool) (string, error) {
	if !ask {
		return notServedYet, nil
	}
	live, err := d.live(ctx, w.Subject)
	if apierrors.IsNotFound(err) {
		return "not there", nil
	}
	if err != nil {
		return "", err
	}
	return notEstablished(live), nil
}

const notServedYet = "its kind is not served yet"

// servedKinds are the kinds that a CustomResourceDefinition makes the API serve.
func servedKinds(crd *unstructured.Unstructured) []schema.GroupVersionKind {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	var kinds []schema.GroupVersionKind
	for _, v := range versions {
		version, _ := v.(map[string]any)
		if served, _ := version["served"].(bool); served {
			name, _ := version["name"].(string)
			kinds = append(kinds, schema.GroupVersionKind{Group: group, Version: name, Kind: kind})
		}
	}
	return kinds
}

func notEstablished(crd *unstructured.Unstructured) string {
	for _, name := range []string{"NamesAccepted", "Established"} {
		if c := condition(crd, name); c != nil && c.Status != metav1.ConditionTrue {
			return "not established: " + c.Message
		}
	}
	return notServedYet
}

// notProgrammed reports why a Gateway does not carry traffic. It is looked at
// here because kstatus does not know the condition.
func notProgrammed(gateway *unstructured.Unstructured) string {
	c := condition(gateway, "Programmed")
	switch {
	case c == nil:
		return "no controller has taken it"
	case c.ObservedGeneration < gateway.GetGeneration():
		return "its controller has not seen the last change"
	case c.Status != metav1.ConditionTrue:
		return c.Message
	}
	if addresses, _, _ := unstructured.NestedSlice(gateway.Object, "status", "addresses"); len(addresses) == 0 {
		return "it has no address yet"
	}
	return ""
}

func condition(o *unstructured.Unstructured, name string) *metav1.Condition {
	all, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, one := range all {
		fields, _ := one.(map[string]any)
		if fields["type"] != name {
			continue
		}
		c := metav1.Condition{Type: name}
		text, _ := fields["status"].(string)
		c.Status = metav1.ConditionStatus(text)
		c.Message, _ = fields["message"].(string)
		c.ObservedGeneration, _ = fields["observedGeneration"].(int64)
		return &c
	}
	return nil
}
