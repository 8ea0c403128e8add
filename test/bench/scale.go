package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// scales are the sizes of fleets by which the growth of the cost is told.
var scales = []int{10, 100, 1000, 5000}

// scaled is what fleets of one size took, each in a process of its own.
type scaled struct {
	members int
	// total is the time from the start of the process to its end, busy what its
	// threads computed in it: the latter hardly depends on what else runs.
	total, busy, edit, editBusy []float64
	// peak memory of the process and all that it ever allocated, in MiB.
	peak, allocated float64
	// allocations of the process.
	allocations uint64
}

// benchScale renders fleets of several sizes, each with all its files, and then
// again after an edit of one member.
func benchScale(ctx context.Context, s settings) ([]Table, error) {
	var all []scaled
	for _, members := range scales {
		one := scaled{members: members}
		for i := range s.pairs {
			fmt.Fprintf(s.progress, "bench: render %d members, run %d of %d\n", members, i+1, s.pairs)
			if err := one.run(ctx, s.self); err != nil {
				return nil, err
			}
		}
		all = append(all, one)
	}
	if s.plot != "" {
		if err := os.MkdirAll(filepath.Dir(s.plot), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(s.plot, plot(all), 0o644); err != nil {
			return nil, err
		}
	}
	return []Table{scaleTable(all)}, nil
}

func scaleTable(all []scaled) Table {
	table := Table{
		Title:   "How the cost grows: fleets from nothing to files in memory",
		Counted: []string{"members", "peak MiB", "allocated MiB", "allocations", "CPU ns per member"},
		Notes: []string{
			"CPU is the time that the process computed on both cores; it includes its start.",
			"An edit: load the fleet with one member changed, render it, lay out the files, compare all of them with those before.",
		},
	}
	for _, one := range all {
		counts := map[string]int{
			"members": one.members, "peak MiB": int(one.peak), "allocated MiB": int(one.allocated),
			"allocations": int(one.allocations), "CPU ns per member": int(one.perMember() * 1e9),
		}
		busy := newRow("%d members, CPU", one.members)
		busy.Values, busy.Counts = one.busy, counts
		total, edit := newRow("%d members, from start to end", one.members), newRow("%d members, after an edit of one", one.members)
		total.Values, edit.Values = one.total, one.edit
		if one.members == 1000 {
			total.AtMost, edit.AtMost = 5, 1
		}
		editBusy := newRow("%d members, after an edit of one, CPU", one.members)
		editBusy.Values = one.editBusy
		table.Rows = append(table.Rows, busy, total, editBusy, edit)
	}
	return table
}

// perMember is the CPU time of one member, in seconds.
func (s scaled) perMember() float64 {
	_, median, _ := spread(s.busy)
	return median / float64(s.members)
}

func (s *scaled) run(ctx context.Context, self string) error {
	cmd := exec.CommandContext(ctx, self, "-scale", strconv.Itoa(s.members))
	cmd.Stderr = os.Stderr
	start := time.Now()
	stdout, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	total := time.Since(start)
	var took scaleAnswer
	if err := json.Unmarshal(stdout, &took); err != nil {
		return err
	}
	s.total = append(s.total, (total - took.Extra).Seconds())
	s.busy = append(s.busy, took.Busy.Seconds())
	s.edit, s.editBusy = append(s.edit, took.Edit.Seconds()), append(s.editBusy, took.EditBusy.Seconds())
	s.peak, s.allocated, s.allocations = took.Peak, took.Allocated, took.Allocations
	return nil
}

// scaleAnswer is what a process of its own says about itself.
type scaleAnswer struct {
	// Busy is the CPU time until the files were there, Edit and EditBusy what an edit
	// took, and Extra what came after the files.
	Busy, Edit, EditBusy, Extra time.Duration
	// Peak and Allocated in MiB until the files were there.
	Peak, Allocated float64
	Allocations     uint64
}

// scaleAlone renders so many members from nothing and lays out their files, and
// does so again after an edit of one member.
func scaleAlone(w io.Writer, members int) error {
	names := []string{example}
	for i := range members - 1 {
		names = append(names, fmt.Sprintf("member-%05d", i))
	}
	fleet, err := exampleFleet(compared, names...)
	if err != nil {
		return err
	}
	r, layout := renderer.New(catalog.Builtin()), &bundle.Layout{}
	bundles, _, _, err := render(r, fleet)
	if err != nil {
		return err
	}
	before, err := layout.Files(bundles)
	if err != nil {
		return err
	}
	var answer scaleAnswer
	answer.look()
	start := time.Now()
	changed := maps.Clone(fleet)
	edited := *changed[example+".yaml"]
	edited.Data = append(slices.Clone(edited.Data), "  components: {cni: {logLevel: debug}}\n"...)
	changed[example+".yaml"] = &edited
	if bundles, _, _, err = render(r, changed); err != nil {
		return err
	}
	after, err := layout.Files(bundles)
	if err != nil {
		return err
	}
	differing := 0
	for name, content := range after {
		if !bytes.Equal(before[name], content) {
			differing++
		}
	}
	answer.Edit, answer.EditBusy = time.Since(start), cpuTime()-answer.Busy
	if differing == 0 || differing > 10 || len(before) != len(after) {
		return fmt.Errorf("an edit of one member changes %d files of %d", differing, len(after))
	}
	answer.Extra = time.Since(start)
	return json.NewEncoder(w).Encode(answer)
}

// look notes what the process has used so far.
func (a *scaleAnswer) look() {
	a.Busy = cpuTime()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err == nil {
		a.Peak = float64(usage.Maxrss >> 10)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	a.Allocated, a.Allocations = float64(memory.TotalAlloc>>20), memory.Mallocs
}

// cpuTime is what the threads of this process have computed so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
