package diff

import (
	_ "embed"
	"fmt"
	"html/template"
	"strings"
)

//go:embed report.html
var page string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"lower": func(r any) string { return strings.ToLower(fmt.Sprint(r)) },
	"lines": func(text string) []diffLine { return diffLines(text) },
}).Parse(page))

// HTML returns the report as one page that needs nothing else: no script, no
// picture and no font from elsewhere.
func (r Report) HTML() (string, error) {
	var b strings.Builder
	err := pageTemplate.Execute(&b, struct {
		Report
		Headline string
		Facts    []fact
		Areas    []Area
		Matrix   []matrixRow
		More     int
	}{Report: r, Headline: r.headline(), Facts: r.facts(), Areas: r.areas(), Matrix: r.matrix(), More: max(0, len(r.Impact.Members)-mostRows)})
	if err != nil {
		return "", fmt.Errorf("write the report as HTML: %w", err)
	}
	return b.String(), nil
}

// diffLine is one line of a unified diff, and what it is.
type diffLine struct{ Class, Text string }

func diffLines(text string) []diffLine {
	var out []diffLine
	for line := range strings.Lines(text) {
		class := ""
		switch {
		case strings.HasPrefix(line, "---"), strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "@@"):
			class = "at"
		case strings.HasPrefix(line, "+"):
			class = "add"
		case strings.HasPrefix(line, "-"):
			class = "del"
		}
		out = append(out, diffLine{class, line})
	}
	return out
}

// areas that have an effect on members, in their order.
func (r Report) areas() []Area {
	var out []Area
	for _, area := range areas {
		for _, e := range r.Effects {
			if e.Area == area && len(e.Members) > 0 {
				out = append(out, area)
				break
			}
		}
	}
	return out
}

// matrixRow is one member and the risk in each of the areas.
type matrixRow struct {
	Member string
	Risks  []Risk
}

// mostRows of the table of members and areas are shown.
const mostRows = 200

// matrix says which members an effect of which area reaches, and how risky it is.
func (r Report) matrix() []matrixRow {
	found := map[string]map[Area]Risk{}
	for _, e := range r.Effects {
		for _, name := range e.Members {
			if found[name] == nil {
				found[name] = map[Area]Risk{}
			}
			if was, known := found[name][e.Area]; !known || e.Risk.AtLeast(was) {
				found[name][e.Area] = e.Risk
			}
		}
	}
	var out []matrixRow
	for _, name := range r.Impact.Members[:min(mostRows, len(r.Impact.Members))] {
		row := matrixRow{Member: name}
		for _, area := range r.areas() {
			row.Risks = append(row.Risks, found[name][area])
		}
		out = append(out, row)
	}
	return out
}
