package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// What Istio writes on pods and reads from namespaces.
const (
	dataPlaneModeLabel = "istio.io/dataplane-mode"
	// redirectionAnnotation is on a pod while CNI sends its traffic to ztunnel.
	redirectionAnnotation = "ambient.istio.io/redirection"
	// sidecarAnnotation is on a pod that has a sidecar.
	sidecarAnnotation = "sidecar.istio.io/status"
)

// namedPods are as many as a message names.
const namedPods = 3

// enrolment is how a pod is in the mesh.
type enrolment int

const (
	// notEnrolled: it is not, or it is part of the mesh itself.
	notEnrolled enrolment = iota
	// enrolledByUs: by the label that isthmus put on its namespace.
	enrolledByUs
	// enrolledByOthers: by a label of its own or of its namespace, or by a sidecar.
	enrolledByOthers
)

// enrolmentOf judges one pod. Namespace is that of the pod; ours says that its
// labels are from us.
func enrolmentOf(pod, namespace *metav1.ObjectMeta, ours bool) enrolment {
	mode, set := pod.Labels[dataPlaneModeLabel]
	labelled := namespace != nil && namespace.Labels[dataPlaneModeLabel] == "ambient"
	switch {
	case pod.Labels[gatewayNameLabel] != "":
		return notEnrolled // istiod made it, and it goes with its Gateway
	case pod.Annotations[sidecarAnnotation] != "", mode == "ambient":
		return enrolledByOthers
	case pod.Annotations[redirectionAnnotation] != "enabled" && (set || !labelled):
		return notEnrolled
	case ours:
		return enrolledByUs
	}
	return enrolledByOthers
}

// refuseEnrolled stops a leave while workloads are enrolled that a person has to
// take out of the mesh.
func (d *delivery) refuseEnrolled(ctx context.Context, force bool) error {
	_, others, err := d.enrolled(ctx, false)
	if err != nil || len(others) == 0 {
		return err
	}
	if force {
		d.note(fmt.Sprintf("forced, with %s still enrolled: %s", pods(len(others)), namePods(others)))
		return nil
	}
	return stillEnrolled(others)
}

func stillEnrolled(all []Subject) error {
	return &member.Error{Reason: Enrolled, Doing: fmt.Sprintf(
		"leave: %s still enrolled in the mesh: %s: take the label %s off the pods and namespaces, and restart pods that have a sidecar without it; or set leave: Force",
		pods(len(all)), namePods(all), dataPlaneModeLabel)}
}

func pods(n int) string {
	if n == 1 {
		return "1 pod is"
	}
	return fmt.Sprintf("%d pods are", n)
}

func namePods(all []Subject) string {
	var names []string
	for _, pod := range all[:min(namedPods, len(all))] {
		names = append(names, pod.Namespace+"/"+pod.Name)
	}
	if more := len(all) - namedPods; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// enrolled are the pods that are in the mesh by us and by others, sorted.
// Released says that our labels are off the namespaces already: one that still
// enrols its pods does so for somebody else.
func (d *delivery) enrolled(ctx context.Context, released bool) (byUs, byOthers []Subject, err error) {
	namespaces, err := d.target.wire.list(ctx, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, selection{})
	if err != nil {
		return nil, nil, member.Wrap("list namespaces", err)
	}
	byName := map[string]*metav1.ObjectMeta{}
	for i := range namespaces {
		byName[namespaces[i].Name] = &namespaces[i].ObjectMeta
	}
	all, err := d.target.wire.list(ctx, schema.GroupVersionResource{Version: "v1", Resource: "pods"},
		selection{fields: "status.phase!=Succeeded,status.phase!=Failed,metadata.namespace!=" + d.mesh.SystemNamespace})
	if err != nil {
		return nil, nil, member.Wrap("list pods", err)
	}
	for i := range all {
		pod := &all[i].ObjectMeta
		namespace := byName[pod.Namespace]
		ours := d.inventory.find(namespaceSubject(pod.Namespace)) != nil
		if released && namespace != nil && namespace.Labels[dataPlaneModeLabel] == "ambient" {
			ours = false
		}
		s := Subject{Version: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}
		switch enrolmentOf(pod, namespace, ours) {
		case enrolledByUs:
			byUs = append(byUs, s)
		case enrolledByOthers:
			byOthers = append(byOthers, s)
		}
	}
	slices.SortFunc(byUs, compareSubjects)
	slices.SortFunc(byOthers, compareSubjects)
	return byUs, byOthers, nil
}

// unenrol gives up the namespaces that isthmus enrolled and stay, and waits
// until their pods are out of the mesh, which CNI sees to.
func (d *delivery) unenrol(ctx context.Context, force bool) error {
	var kept []Entry
	for _, e := range d.inventory.Entries {
		if !e.isNamespace() || e.Name == d.mesh.SystemNamespace {
			continue
		}
		_, seen, err := d.look(ctx, e.Subject)
		if err != nil {
			return objectError(e.Subject, e.Stage, "read", err)
		}
		if judge(e, seen, d.mesh.Network) == verdictRelease {
			kept = append(kept, e)
		}
	}
	d.takeAway(ctx, kept)
	if err := d.failed.err(); err != nil {
		return err
	}
	waiting, err := d.waitFor(ctx, bundle.StageZtunnel, d.options.GoneTimeout, "wait for pods to be out of the mesh", func() ([]Waiting, error) {
		byUs, byOthers, err := d.enrolled(ctx, true)
		if err != nil || force && len(byUs) == 0 {
			return nil, err
		}
		if len(byOthers) > 0 && !force {
			return nil, stillEnrolled(byOthers)
		}
		var waiting []Waiting
		for _, pod := range byUs {
			waiting = append(waiting, Waiting{Subject: pod, Stage: bundle.StageZtunnel, Why: "its traffic still goes to ztunnel"})
		}
		return waiting, nil
	})
	if err != nil || len(waiting) == 0 {
		return err
	}
	var left []Subject
	for _, w := range waiting {
		left = append(left, w.Subject)
	}
	if force {
		d.note(fmt.Sprintf("forced, with the traffic of %s still going to ztunnel", namePods(left)))
		return nil
	}
	return &member.Error{Reason: Enrolled, Doing: fmt.Sprintf(
		"leave: %s still redirected to ztunnel though their namespaces left the mesh: %s: see whether the istio-cni-node pods of their nodes run, restart these pods, or set leave: Force",
		pods(len(left)), namePods(left))}
}
