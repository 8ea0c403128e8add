package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

func newStatus(p *printer) *cobra.Command {
	return hubCommand(p, &cobra.Command{
		Use:   "status",
		Short: "Print what the hub knows of fleets and members",
		Long: `Print what the hub knows of fleets and members: one line per member on stdout;
fleets that are not ready on stderr. Exits with 1 if anything is not ready.`,
		Example: "  isthmus status\n  isthmus status --context hub -o json",
	}, readStatus)
}

// hubReport is the JSON form of what the hub knows.
type hubReport struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Fleets     []fleetReport  `json:"fleets"`
	Members    []memberReport `json:"members"`
}

type fleetReport struct {
	Name              string   `json:"name"`
	Ready             string   `json:"ready"`
	Reason            string   `json:"reason,omitempty"`
	Message           string   `json:"message,omitempty"`
	Suspended         bool     `json:"suspended,omitempty"`
	AttemptedRevision string   `json:"attemptedRevision,omitempty"`
	AcceptedRevision  string   `json:"acceptedRevision,omitempty"`
	AppliedRevision   string   `json:"appliedRevision,omitempty"`
	Problems          []string `json:"problems,omitempty"`
}

type memberReport struct {
	Name            string `json:"name"`
	Network         string `json:"network"`
	Release         string `json:"release,omitempty"`
	Objects         int32  `json:"objects"`
	Nodes           int32  `json:"nodes,omitempty"`
	Ready           string `json:"ready"`
	Reason          string `json:"reason,omitempty"`
	Message         string `json:"message,omitempty"`
	Suspended       bool   `json:"suspended,omitempty"`
	AppliedRevision string `json:"appliedRevision,omitempty"`
	// Leave are the steps of a member that leaves.
	Leave []v1alpha1.LeaveStep `json:"leave,omitempty"`
}

func readStatus(ctx context.Context, hub dynamic.Interface, namespace string) (hubAnswer, error) {
	fleets, err := list[v1alpha1.Fleet](ctx, hub, namespace, "fleets")
	if err != nil {
		return nil, err
	}
	members, err := list[v1alpha1.Member](ctx, hub, namespace, "members")
	if err != nil {
		return nil, err
	}
	return newHubReport(fleets, members), nil
}

// list reads all objects of one resource of isthmus in a namespace.
func list[T any](ctx context.Context, hub dynamic.Interface, namespace, resource string) ([]T, error) {
	found, err := hub.Resource(v1alpha1.GroupVersion.WithResource(resource)).Namespace(namespace).List(ctx, metav1.ListOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, withHint(fmt.Errorf("list %s: the hub does not know them", resource), "is this the hub? name it with --context")
	case err != nil:
		return nil, fmt.Errorf("list %s in namespace %q of the hub: %w", resource, namespace, err)
	}
	out := make([]T, len(found.Items))
	for i, item := range found.Items {
		convert := runtime.DefaultUnstructuredConverter.FromUnstructured
		if convert(item.Object, &out[i]) == nil {
			continue
		}
		// One object must not hide the others. The reconciler leaves it out, too.
		var fresh T
		out[i] = fresh
		if err := convert(unreadable(item), &out[i]); err != nil {
			return nil, fmt.Errorf("read %s %q: %w", resource, item.GetName(), err)
		}
	}
	return out, nil
}

// unreadable is what is told of an object whose fields cannot be read.
func unreadable(item unstructured.Unstructured) map[string]any {
	return map[string]any{
		"metadata": map[string]any{"name": item.GetName()},
		"status": map[string]any{"conditions": []any{map[string]any{
			"type": "Ready", "status": "False", "reason": "Unreadable",
			"message": "cannot be read, and isthmus leaves it out: restore the CRDs of isthmus, then delete or mend it",
		}}},
	}
}

// newHubReport sums up fleets and members, both sorted by name.
func newHubReport(fleets []v1alpha1.Fleet, members []v1alpha1.Member) *hubReport {
	report := &hubReport{
		APIVersion: v1alpha1.GroupVersion.String(),
		Kind:       "StatusReport",
		Fleets:     make([]fleetReport, 0, len(fleets)),
		Members:    make([]memberReport, 0, len(members)),
	}
	for _, fleet := range fleets {
		ready := readyOf(fleet.Status.Conditions)
		report.Fleets = append(report.Fleets, fleetReport{
			Name:              fleet.Name,
			Ready:             string(ready.Status),
			Reason:            ready.Reason,
			Message:           ready.Message,
			Suspended:         fleet.Spec.Suspend,
			AttemptedRevision: fleet.Status.AttemptedRevision,
			AcceptedRevision:  fleet.Status.AcceptedRevision,
			AppliedRevision:   fleet.Status.AppliedRevision,
			Problems:          fleet.Status.Problems,
		})
	}
	for _, member := range members {
		ready := readyOf(member.Status.Conditions)
		report.Members = append(report.Members, memberReport{
			Name:            member.Name,
			Network:         member.Spec.ApplicationNetwork,
			Release:         member.Status.Release,
			Objects:         member.Status.Objects,
			Nodes:           member.Status.Nodes,
			Ready:           string(ready.Status),
			Reason:          ready.Reason,
			Message:         ready.Message,
			Suspended:       member.Spec.Suspend,
			AppliedRevision: member.Status.AppliedRevision,
			Leave:           member.Status.Leave,
		})
	}
	slices.SortFunc(report.Fleets, func(a, b fleetReport) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(report.Members, func(a, b memberReport) int { return strings.Compare(a.Name, b.Name) })
	return report
}

// readyOf returns the Ready condition; without one nothing is known yet.
func readyOf(conditions []metav1.Condition) metav1.Condition {
	if ready := meta.FindStatusCondition(conditions, "Ready"); ready != nil {
		return *ready
	}
	return metav1.Condition{Status: metav1.ConditionUnknown, Message: "not looked at yet"}
}

func (r *hubReport) fine() bool {
	isReady := string(metav1.ConditionTrue)
	return !slices.ContainsFunc(r.Fleets, func(f fleetReport) bool { return f.Ready != isReady }) &&
		!slices.ContainsFunc(r.Members, func(m memberReport) bool { return m.Ready != isReady })
}

func (r *hubReport) print(p *printer, namespace string) {
	if len(r.Members) > 0 {
		rows := [][]string{{"NAME", "NETWORK", "RELEASE", "OBJECTS", "READY", "STATUS"}}
		for _, m := range r.Members {
			message := m.Message
			if m.Suspended {
				message = "suspended; " + message
			}
			rows = append(rows, []string{m.Name, m.Network, orDash(m.Release), strconv.Itoa(int(m.Objects)), m.Ready, message})
		}
		p.table(rows)
	} else {
		p.note("no members in namespace %s of the hub", namespace)
	}
	for _, m := range r.Members {
		printLeave(p, m)
	}
	if len(r.Fleets) == 0 {
		p.note("no fleet in namespace %s of the hub", namespace)
		p.note("hint: a Fleet object names the Git repository to follow")
	}
	for _, f := range r.Fleets {
		if f.Ready == string(metav1.ConditionTrue) {
			continue
		}
		p.note("fleet %s: %s", f.Name, f.Message)
		for _, problem := range f.Problems {
			p.note("  %s", problem)
		}
	}
}

// printLeave tells how far a member is on its way out.
func printLeave(p *printer, m memberReport) {
	if len(m.Leave) == 0 {
		return
	}
	p.note("member %s leaves:", m.Name)
	for _, step := range m.Leave {
		line := fmt.Sprintf("  %-15s %s", step.Name, step.State)
		if step.Message != "" {
			line += ": " + step.Message
		}
		p.note("%s", line)
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
