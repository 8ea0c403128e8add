package diff

import (
	"fmt"
	"strings"
)

// TextOptions say how much a text tells.
type TextOptions struct {
	// Objects lists the objects that change, YAML also how.
	Objects, YAML bool
}

// Text returns the report for a terminal, without colours. What the fleet has in
// it is as it is there: whoever prints it escapes it.
func (r Report) Text(options TextOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.headline())
	for _, f := range r.facts() {
		fmt.Fprintf(&b, "  %-11s %s\n", f.Name, f.Text)
	}
	for _, e := range r.Effects {
		fmt.Fprintf(&b, "\n%-7s %s: %s\n", e.Risk, e.Area, e.Title)
		if on := e.on(); on != "" {
			fmt.Fprintf(&b, "        on %s\n", on)
		}
		for _, note := range e.Notes {
			fmt.Fprintf(&b, "        - %s\n", note)
		}
	}
	for _, behind := range r.Behind {
		fmt.Fprintf(&b, "\nbehind  %s: %s\n", behind.Member, behind.Why)
	}
	r.textFindings(&b)
	if (options.Objects || options.YAML) && len(r.Objects) > 0 {
		fmt.Fprintf(&b, "\n%s:\n", counted(len(r.Objects), "object"))
		for _, c := range r.Objects {
			line := fmt.Sprintf("  %-8s %s  %s  %s", c.Action, c.identify(), listed(c.Members), c.tags())
			fmt.Fprintf(&b, "%s\n", strings.TrimRight(line, " "))
		}
	}
	if options.YAML {
		for _, c := range r.Objects {
			if text := c.YAML(); text != "" {
				fmt.Fprintf(&b, "\n%s", text)
			}
		}
	}
	return b.String()
}

func (r Report) textFindings(b *strings.Builder) {
	for _, f := range r.Findings {
		fmt.Fprintf(b, "\n%-7s policy %s: %s\n", f.Severity, f.Policy, f.Message)
		if f.Hint != "" {
			fmt.Fprintf(b, "        hint: %s\n", f.Hint)
		}
	}
	for _, p := range r.NewProblems {
		fmt.Fprintf(b, "\nnew     warning: %s\n", p.String())
		if p.Hint != "" {
			fmt.Fprintf(b, "        hint: %s\n", p.Hint)
		}
	}
	for _, p := range r.Cured {
		fmt.Fprintf(b, "\ncured   warning: %s\n", p.String())
	}
}
