package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the answer of a run. Its JSON form is version 1; fields are only
// added.
type Report struct {
	Version int    `json:"version"`
	CPUs    int    `json:"cpus"`
	Go      string `json:"go"`
	Pairs   int    `json:"pairs"`
	// Load averages of a minute: at the start, and after each part.
	Load   []string `json:"load"`
	Tables []Table  `json:"tables"`
}

// Table compares contenders.
type Table struct {
	Title string `json:"title"`
	// Counted are the names of the counts that rows may have, in order.
	Counted []string `json:"counted"`
	Rows    []*Row   `json:"rows"`
	// Notes say what a reader has to know to judge the figures.
	Notes []string `json:"notes"`
}

// Row is one figure: what a contender took, or how two of them compare.
type Row struct {
	Name string `json:"name"`
	// Unit of the values: "s", "MiB", or "×" for a ratio.
	Unit string `json:"unit"`
	// Values in the order of the runs.
	Values []float64 `json:"values"`
	// Counts of the last run, by name.
	Counts map[string]int `json:"counts,omitempty"`
	// AtLeast and AtMost are the bar for the median; zero for none.
	AtLeast float64 `json:"atLeast,omitempty"`
	AtMost  float64 `json:"atMost,omitempty"`
}

func newRow(format string, args ...any) *Row {
	return &Row{Name: fmt.Sprintf(format, args...), Unit: "s", Counts: map[string]int{}}
}

func (r *Row) add(took time.Duration) { r.Values = append(r.Values, took.Seconds()) }

// ratio is how many times as long as b a took, pair by pair.
func ratio(name string, a, b *Row) *Row {
	r := &Row{Name: name, Unit: "×"}
	for i := range a.Values {
		r.Values = append(r.Values, a.Values[i]/b.Values[i])
	}
	return r
}

// spread is the least, the median and the most of values, of which there must
// be one.
func spread(values []float64) (least, median, most float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return sorted[0], (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[n-1]
}

// verdict compares the median with the bar.
func (r *Row) verdict() string {
	_, median, _ := spread(r.Values)
	switch {
	case r.AtLeast > 0 && median >= r.AtLeast:
		return fmt.Sprintf("at least %g %s: met", r.AtLeast, r.Unit)
	case r.AtLeast > 0:
		return fmt.Sprintf("at least %g %s: MISSED", r.AtLeast, r.Unit)
	case r.AtMost > 0 && median <= r.AtMost:
		return fmt.Sprintf("at most %g %s: met", r.AtMost, r.Unit)
	case r.AtMost > 0:
		return fmt.Sprintf("at most %g %s: MISSED", r.AtMost, r.Unit)
	}
	return ""
}

// Print writes the report for people.
func (r Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "isthmus bench: %d CPUs, %s, pairs: %d, load of the machine: %s\n", r.CPUs, r.Go, r.Pairs, strings.Join(r.Load, ", "))
	for _, t := range r.Tables {
		fmt.Fprintf(w, "\n%s\n\n", t.Title)
		columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(columns, "  \tmin\tmedian\tmax\t%s\n", strings.Join(append(t.Counted, "bar"), "\t"))
		for _, row := range t.Rows {
			fmt.Fprintf(columns, "  %s\n", strings.Join(row.cells(t.Counted), "\t"))
		}
		if err := columns.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(w, "\n  - %s\n", strings.Join(t.Notes, "\n  - "))
	}
	return nil
}

func (r *Row) cells(counted []string) []string {
	least, median, most := spread(r.Values)
	cells := []string{r.Name, show(least, r.Unit), show(median, r.Unit), show(most, r.Unit)}
	for _, name := range counted {
		cell := ""
		if n, ok := r.Counts[name]; ok {
			cell = fmt.Sprint(n)
		}
		cells = append(cells, cell)
	}
	return append(cells, r.verdict())
}

// show has three digits, or all before the point.
func show(value float64, unit string) string {
	if unit == "s" && value < 1 {
		value, unit = value*1000, "ms"
	}
	if value >= 100 {
		return fmt.Sprintf("%.0f %s", value, unit)
	}
	return fmt.Sprintf("%.3g %s", value, unit)
}
