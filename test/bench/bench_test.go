package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet"
)

func TestAlternate(t *testing.T) {
	var turns string
	say := func(who string, err error) func() error {
		return func() error { turns += who; return err }
	}
	if err := alternate(3, say("a", nil), say("b", nil)); err != nil || turns != "abbaab" {
		t.Errorf("turns %q, error %v", turns, err)
	}
	turns = ""
	if err := alternate(3, say("a", errors.New("broken")), say("b", nil)); err == nil || turns != "a" {
		t.Errorf("a contender that fails ends it: turns %q, error %v", turns, err)
	}
}

func TestPrint(t *testing.T) {
	theirs := &Row{Name: "theirs", Unit: "s", Values: []float64{2, 4, 3}, Counts: map[string]int{"writes": 47}}
	ours := &Row{Name: "ours", Unit: "s", Values: []float64{0.02, 0.01, 0.0301}, AtMost: 0.01}
	times := ratio("theirs : ours", theirs, ours)
	times.AtLeast = 100
	var out bytes.Buffer
	report := Report{CPUs: 2, Go: "go1", Pairs: 3, Load: []string{"0.10"}, Tables: []Table{{
		Title: "A race", Counted: []string{"writes"}, Rows: []*Row{theirs, ours, times}, Notes: []string{"So it is."},
	}}}
	if err := report.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := `isthmus bench: 2 CPUs, go1, pairs: 3, load of the machine: 0.10

A race

                 min     median  max      writes  bar
  theirs         2 s     3 s     4 s      47      
  ours           10 ms   20 ms   30.1 ms          at most 0.01 s: MISSED
  theirs : ours  99.7 ×  100 ×   400 ×            at least 100 ×: met

  - So it is.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// The ends of lines are as kubectl 1.36 writes them.
func TestRequestsIn(t *testing.T) {
	log := `I1122 18:58:33.9 1 loader.go:407] Config loaded from file:  x
I1122 18:58:33.9 1 round_trippers.go:632] "Response" verb="GET" url="https://127.0.0.1:9/openapi/v3" status="200 OK" milliseconds=3
I1122 18:58:33.9 1 round_trippers.go:632] "Response" verb="PATCH" url="https://127.0.0.1:9/api/v1/namespaces/shop?fieldManager=kubectl&force=false" status="201 Created" milliseconds=3
I1122 18:58:33.9 1 round_trippers.go:632] "Response" verb="PATCH" url="https://127.0.0.1:9/api/v1/namespaces/shop?dryRun=All" status="200 OK" milliseconds=3
namespace/shop serverside-applied
`
	want := map[string]int{"reads": 1, "writes": 1, "dry runs": 1}
	if diff := cmp.Diff(want, requestsIn(log)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// What is compared must be whole, and on the release that the other side has.
func TestRenderAlone(t *testing.T) {
	var out bytes.Buffer
	if err := renderAlone(&out, 2, 3); err != nil {
		t.Fatal(err)
	}
	var took rendering
	if err := json.Unmarshal(out.Bytes(), &took); err != nil {
		t.Fatal(err)
	}
	if len(took.More) != 3 || took.Objects < 80 || took.Render == 0 {
		t.Errorf("rendered %+v", took)
	}
	if args := strings.Join(istioctlArgs(), " "); !strings.Contains(args, "tag="+compared) {
		t.Errorf("istioctl renders another release: %s", args)
	}
	set, err := exampleSet()
	if err != nil {
		t.Fatal(err)
	}
	if set.Release != delivered || set.SystemNamespace != system || set.Network != network {
		t.Errorf("delivered is %s in %s of %s", set.Release, set.SystemNamespace, set.Network)
	}
}

// An edit of one member must change its files and no others, or it is not what is
// measured.
func TestScaleAlone(t *testing.T) {
	var out bytes.Buffer
	if err := scaleAlone(&out, 3); err != nil {
		t.Fatal(err)
	}
	var answer scaleAnswer
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Busy == 0 || answer.Edit == 0 || answer.Peak == 0 || answer.Allocations == 0 {
		t.Errorf("measured %+v", answer)
	}
	if only := parts("scale"); len(only) != 1 || len(parts("")) < 6 || len(parts("other")) != 0 {
		t.Errorf("parts %v", only)
	}
}

// The members of that fleet are to discover each other, or something else is measured.
func TestMeshedFleet(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 11, 27, 22, 0, 0, 0, time.UTC))
	for _, replaced := range []*metav1.Time{nil, &at} {
		files, err := meshedFleet([]string{example, "member-0001"}, replaced)
		if err != nil {
			t.Fatal(err)
		}
		f, problems := fleet.Load(files)
		if f == nil || len(f.Members) != 2 {
			t.Fatal(problems)
		}
		discovery := f.Networks[0].Spec.Discovery
		if len(discovery.Peers) > 0 || !discovery.Credentials.ReplaceIssuedBefore.Equal(replaced) {
			t.Errorf("discovery %+v", discovery)
		}
	}
}

func TestSizesIn(t *testing.T) {
	if sizes, err := sizesIn("3, 50,100"); err != nil || !slices.Equal(sizes, []int{3, 50, 100}) {
		t.Errorf("sizes %v, %v", sizes, err)
	}
	for _, wrong := range []string{"", "2", "ten", "50,10", "10,10"} {
		if sizes, err := sizesIn(wrong); err == nil {
			t.Errorf("%q gives %v", wrong, sizes)
		}
	}
}

func TestPlot(t *testing.T) {
	svg := plot([]scaled{{members: 10, busy: []float64{1}}, {members: 100, busy: []float64{2}}, {members: 200, busy: []float64{4, 4, 8}}})
	var parsed struct {
		Circles []struct {
			X float64 `xml:"cx,attr"`
			Y float64 `xml:"cy,attr"`
		} `xml:"circle"`
	}
	if err := xml.Unmarshal(svg, &parsed); err != nil {
		t.Fatal(err)
	}
	c := parsed.Circles
	if len(c) != 3 || c[2].X != plotRight || c[2].Y != plotTop || c[1].X != (plotLeft+plotRight)/2 || c[1].Y != (plotTop+plotBottom)/2 {
		t.Errorf("points %+v", c)
	}
}
