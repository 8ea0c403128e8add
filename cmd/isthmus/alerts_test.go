package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// prometheusRule is the part of the Prometheus operator's kind that alerts use.
type prometheusRule struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       struct {
		Groups []struct {
			Name  string  `json:"name"`
			Rules []alert `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// runbooks are where alerts send people: to the page that has their object's name.
const runbooks = "https://github.com/isthmus-mesh/isthmus/blob/main/docs/"

// TestAlerts: an alert by a metric or a label that does not exist never fires, and
// one without a runbook wakes somebody for nothing.
func TestAlerts(t *testing.T) {
	t.Parallel()
	known := registered(t)
	seen := map[string]bool{}
	for _, rule := range alerts(t) {
		if seen[rule.Alert] || !strings.HasPrefix(rule.Alert, "Isthmus") {
			t.Errorf("%s: the name is no name of ours, or is there twice", rule.Alert)
		}
		seen[rule.Alert] = true
		selected := selectors(t, rule)
		for name, labels := range selected {
			if known[name] == nil {
				t.Errorf("%s: no metric %s is registered", rule.Alert, name)
			}
			for _, label := range labels {
				if known[name] != nil && !slices.Contains(known[name], label) {
					t.Errorf("%s: %s has no label %s", rule.Alert, name, label)
				}
			}
		}
		if rule.For != "" {
			if _, err := parseFor(rule.For); err != nil {
				t.Errorf("%s: for: %v", rule.Alert, err)
			}
		}
		if !slices.Contains([]string{"warning", "critical"}, rule.Labels["severity"]) {
			t.Errorf("%s: severity %q", rule.Alert, rule.Labels["severity"])
		}
		for _, annotation := range []string{"summary", "description"} {
			if rule.Annotations[annotation] == "" {
				t.Errorf("%s: no %s", rule.Alert, annotation)
			}
		}
		name, anchor, _ := strings.Cut(strings.TrimPrefix(rule.Annotations["runbook_url"], runbooks), "#")
		page, err := os.ReadFile("../../docs/" + name)
		if err != nil || !strings.Contains(string(page), `<a id="`+anchor+`">`) {
			t.Errorf("%s: docs/%s has no anchor %q", rule.Alert, name, anchor)
		}
		if !strings.Contains(string(page), rule.Alert) {
			t.Errorf("%s: docs/%s does not name it", rule.Alert, name)
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d alerts", len(seen))
	}
}

// alerts builds the component with what it is a component of.
func alerts(t *testing.T) []alert {
	t.Helper()
	folder, err := os.MkdirTemp(".", "alerts-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := filesys.MakeFsOnDisk().WriteFile(filepath.Join(folder, "kustomization.yaml"),
		[]byte("resources: [../../../deploy]\ncomponents: [../../../deploy/alerts]\n")); err != nil {
		t.Fatal(err)
	}
	made := built(t, folder)
	var out []alert
	for _, name := range []string{"isthmus-trust", "isthmus-discovery"} {
		rule := decode[prometheusRule](t, made, "PrometheusRule/"+name)
		if rule.APIVersion != "monitoring.coreos.com/v1" || len(rule.Spec.Groups) == 0 {
			t.Fatalf("not a rule of the Prometheus operator: %+v", rule)
		}
		for _, group := range rule.Spec.Groups {
			out = append(out, group.Rules...)
		}
	}
	return out
}

// selectors returns the metrics that an expression reads, with the labels that it
// selects or groups them by.
func selectors(t *testing.T, rule alert) map[string][]string {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
	if err != nil {
		t.Errorf("%s: %v", rule.Alert, err)
		return nil
	}
	out := map[string][]string{}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		for _, matcher := range selector.LabelMatchers {
			if matcher.Name != "__name__" {
				out[selector.Name] = append(out[selector.Name], matcher.Name)
			}
		}
		for _, above := range path {
			if aggregate, ok := above.(*parser.AggregateExpr); ok {
				out[selector.Name] = append(out[selector.Name], aggregate.Grouping...)
			}
		}
		out[selector.Name] = append(out[selector.Name], []string{}...)
		return nil
	})
	return out
}

var (
	nameOf   = regexp.MustCompile(`fqName: "([^"]+)"`)
	labelsOf = regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
)

// registered returns the metrics of the reconciler and their labels.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	descriptions := make(chan *prometheus.Desc, 10_000)
	metrics.Registry.(prometheus.Collector).Describe(descriptions)
	close(descriptions)
	out := map[string][]string{}
	for description := range descriptions {
		name := nameOf.FindStringSubmatch(description.String())
		if name == nil {
			t.Fatalf("no name in %s", description)
		}
		labels := []string{}
		if found := labelsOf.FindStringSubmatch(description.String()); found != nil && found[1] != "" {
			labels = strings.Split(found[1], ",")
		}
		out[name[1]] = labels
	}
	if out["isthmus_member_ready"] == nil {
		t.Fatal("the reconciler's metrics are not registered")
	}
	return out
}

// parseFor reads how long something has to last, as Prometheus writes it.
func parseFor(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		d, err := time.ParseDuration(days + "h")
		return 24 * d, err
	}
	return time.ParseDuration(text)
}
