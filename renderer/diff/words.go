package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// headline is the report in one line.
func (r Report) headline() string {
	switch {
	case r.Empty():
		return "no difference"
	case len(r.Impact.Members) == 0:
		return "no member changes"
	}
	return fmt.Sprintf("%d of %s %s, risk %s", len(r.Impact.Members), counted(r.Impact.Of, "member"),
		map[bool]string{true: "changes", false: "change"}[len(r.Impact.Members) == 1], strings.ToLower(string(r.Risk)))
}

// fact is one line of the summary.
type fact struct{ Name, Text string }

// facts are the summary: whom the change concerns, in the order in which a
// reviewer asks.
func (r Report) facts() []fact {
	var out []fact
	add := func(name, text string) {
		if text != "" {
			out = append(out, fact{name, text})
		}
	}
	add("members", listed(r.Impact.Members))
	var rings []string
	for _, ring := range r.Impact.Rings {
		rings = append(rings, fmt.Sprintf("%s %d of %d", ringName(ring.Name), ring.Members, ring.Of))
	}
	add("rings", strings.Join(rings, ", "))
	if n := len(r.Impact.Disrupted); n > 0 {
		add("disruptive", fmt.Sprintf("on %s: %s", counted(n, "member"), listed(r.Impact.Disrupted)))
	}
	var restarts []string
	for _, restart := range r.Impact.Restarts {
		said := fmt.Sprintf("%s %s on %s", restart.Kind, restart.Name, counted(len(restart.Members), "member"))
		if restart.Nodes > 0 {
			said += " (" + counted(restart.Nodes, "node") + ")"
		}
		restarts = append(restarts, said)
	}
	add("restarts", strings.Join(restarts, ", "))
	var objects []string
	for _, action := range Actions {
		if n := r.Impact.Objects[action]; n > 0 {
			objects = append(objects, fmt.Sprintf("%d %s", n, verb(action, n)))
		}
	}
	add("objects", strings.Join(objects, ", "))
	for _, w := range r.Impact.Windows {
		text := w.Windows + ": " + listed(w.Members)
		if w.Ignored {
			text += " (isthmus does not hold to windows yet)"
		}
		add("windows", text)
	}
	return out
}

// on names the members of an effect.
func (e Effect) on() string {
	if len(e.Members) == 0 {
		return ""
	}
	return listed(e.Members)
}

// tags are what is said of an object's change beside its name.
func (c ObjectChange) tags() string {
	if c.Restarts {
		return "restarts"
	}
	return ""
}

// YAML returns the object's change as a unified diff; empty for a CRD, whose
// schema nobody reads so.
func (c ObjectChange) YAML() string {
	if c.Kind == "CustomResourceDefinition" {
		return ""
	}
	const context = 3
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: lines(c.before), B: lines(c.after),
		FromFile: c.identify(), ToFile: c.identify() + " on " + c.Members[0], Context: context,
	})
	if err != nil { // a strings.Builder takes everything
		return ""
	}
	return text
}

// lines of an object as YAML. What was rendered can be written.
func lines(object *unstructured.Unstructured) []string {
	if object == nil {
		return nil
	}
	text, err := yaml.Marshal(object.Object)
	if err != nil {
		return nil
	}
	return slices.Collect(strings.Lines(string(text)))
}
