package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// settings of a run.
type settings struct {
	// pairs of runs; each contender runs so often.
	pairs int
	// members of the large fleet.
	members int
	// changes that drift is measured by, chosen at random from the seed.
	changes int
	seed    uint64
	// real members are API servers; idle is how long they are left alone.
	real int
	idle time.Duration
	// settle is how long simulated members are left alone before memory is read.
	settle time.Duration
	// watched members are played without a hub; their profile goes to a folder,
	// unless that is empty.
	watched int
	profile string
	// self is the path of this program, which measures rendering in processes of
	// its own.
	self string
	// plot is the file for the plot of how the cost grows; empty for none.
	plot string
	// plotMembers is the file for the plot of the memory over simulated members.
	plotMembers string
	// peers are the sizes of fleets whose members all discover each other, and plotPeers
	// the file for the plot of what that takes.
	peers     []int
	plotPeers string
	// progress hears of builds and of what is being measured.
	progress io.Writer
}

func main() {
	s := settings{progress: os.Stderr}
	flag.IntVar(&s.pairs, "pairs", 5, "how often each contender runs")
	flag.IntVar(&s.members, "members", 1000, "members of the large fleet")
	flag.IntVar(&s.changes, "changes", 1000, "changes that drift is measured by")
	flag.Uint64Var(&s.seed, "seed", 1, "of the random changes")
	flag.IntVar(&s.real, "real", 20, "real members of the part that has many")
	flag.DurationVar(&s.idle, "idle", 2*time.Minute, "how long they are left alone")
	// The Go runtime collects at least every two minutes.
	flag.DurationVar(&s.settle, "settle", 150*time.Second, "how long simulated members are left alone before memory is read")
	flag.IntVar(&s.watched, "watched", 200, "simulated members of the part without a hub")
	flag.StringVar(&s.profile, "profile", "", "write profiles of that part's heap and goroutines into this folder")
	path := flag.String("json", "", "also write the report to this file")
	render := flag.Int("render", 0, "only render so many members and print the times; the bench starts itself with it")
	more := flag.Int("more", 0, "with -render: afterwards render so many further members, one by one")
	scale := flag.Int("scale", 0, "only render so many members, and again after an edit; the bench starts itself with it")
	flag.StringVar(&s.plot, "plot", "", "draw how the cost grows with the members into this SVG file")
	flag.StringVar(&s.plotMembers, "plot-members", "", "draw the memory over the simulated members into this SVG file")
	flag.StringVar(&s.plotPeers, "plot-peers", "", "draw what credentials for peers take, by members, into this SVG file")
	peers := flag.String("peers", "10,50,100", "sizes of the simulated fleets whose members all discover each other")
	playing := flag.Bool("play", false, "only play members, as asked on the standard input; the bench starts itself with it")
	watchOnly := flag.Int("watch", 0, "only watch so many played members; the bench starts itself with it")
	only := flag.String("only", "", "run only this part: rendering, scale, delivery, flux, drift, members, watched, simulated or peers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case *render > 0:
		err = renderAlone(os.Stdout, *render, *more)
	case *playing:
		err = play(ctx, os.Stdin, os.Stdout)
	case *watchOnly > 1:
		klog.SetLogger(logr.Discard())
		if s.self, err = os.Executable(); err == nil {
			err = watchAlone(ctx, s, os.Stdout, *watchOnly)
		}
	case *scale > 0:
		err = scaleAlone(os.Stdout, *scale)
	default:
		if s.peers, err = sizesIn(*peers); err == nil {
			err = run(ctx, s, *path, *only)
		}
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is a part of the bench.
type part struct {
	name string
	run  func(context.Context, settings) ([]Table, error)
}

// parts returns the parts with the name; all, if it is empty.
func parts(name string) []part {
	all := []part{{"rendering", benchRendering}, {"scale", benchScale}, {"delivery", benchDelivery}, {"flux", benchFlux}, {"drift", benchDrift}, {"members", benchMembers}, {"watched", benchWatched}, {"simulated", benchSimulated}, {"peers", benchPeers}}
	return slices.DeleteFunc(all, func(p part) bool { return name != "" && p.name != name })
}

func run(ctx context.Context, s settings, path, only string) error {
	if len(parts(only)) == 0 {
		return fmt.Errorf("-only %q: there is no such part", only)
	}
	if s.pairs < 1 || s.members < 1 || s.changes < 1 || s.real < 1 || s.watched < 2 || s.idle < time.Second {
		return fmt.Errorf("-pairs %d, -members %d, -changes %d, -real %d, -watched %d, -idle %s: at least 1, 2 watched, or a second", s.pairs, s.members, s.changes, s.real, s.watched, s.idle)
	}
	klog.SetLogger(logr.Discard()) // what client-go logs is not part of the answer
	var err error
	if s.self, err = os.Executable(); err != nil {
		return err
	}
	report := Report{Version: 1, CPUs: runtime.NumCPU(), Go: runtime.Version(), Pairs: s.pairs, Load: []string{load()}}
	for _, part := range parts(only) {
		tables, err := part.run(ctx, s)
		if err != nil {
			return err
		}
		report.Tables, report.Load = append(report.Tables, tables...), append(report.Load, load())
	}
	if err := report.Print(os.Stdout); err != nil || path == "" {
		return err
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// load is how many processes wanted to run in the last minute: a bench among
// others measures them too.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(data), " ")
	return first
}

// alternate calls two contenders pair by pair; every other pair b begins.
func alternate(pairs int, a, b func() error) error {
	for i := range pairs {
		if i > 0 {
			a, b = b, a
		}
		if err := a(); err != nil {
			return err
		}
		if err := b(); err != nil {
			return err
		}
	}
	return nil
}
