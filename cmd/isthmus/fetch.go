package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/catalog/fetch"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// fetchFlags say where what the binary lacks comes from, and where it is kept.
type fetchFlags struct{ cache, moduleProxy string }

func (f *fetchFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.cache, "cache", defaultCache(), "folder for downloaded charts and CRDs; may be lost at any time")
	f.addProxy(cmd)
	_ = cmd.MarkFlagDirname("cache")
}

func (f *fetchFlags) addProxy(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.moduleProxy, "module-proxy", "", "Go module proxy that has the Gateway API (default: GOPROXY)")
}

// options are those of a person's own machine: docker's credentials count.
func (f *fetchFlags) options() fetch.Options {
	return fetch.Options{Cache: f.cache, ModuleProxy: f.proxy(), Credentials: fetch.Credentials{Docker: true}}
}

func (f *fetchFlags) proxy() string { return cmp.Or(f.moduleProxy, os.Getenv("GOPROXY")) }

// fetchTimeout is how long all downloads of one command may take.
const fetchTimeout = 5 * time.Minute

// complete returns the built-in catalog with what the fleet needs beyond it, or
// the problems of a fleet that asks for what cannot be. The error is for what is
// not the fleet's fault.
func (f *fetchFlags) complete(ctx context.Context, p *printer, loaded *fleet.Fleet) (*catalog.Catalog, fleet.Problems, error) {
	needs := plan.Needs(loaded, catalog.Builtin(), plan.Observed{})
	if needs.Empty() {
		return catalog.Builtin(), nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	tell, done := p.progress()
	options := f.options()
	options.Progress = tell
	complete, failures := fetch.New(options).Fetch(ctx, catalog.Builtin(), needs)
	done()
	if len(failures) == 0 {
		return complete, nil, nil
	}
	problems, others := failures.Problems(loaded)
	if len(others) > 0 {
		return nil, nil, withHint(fmt.Errorf("%w (%s)", others, others[0].Reason), others[0].Hint)
	}
	return nil, problems, nil
}

// slow is how long something may take before anybody is told of it.
const slow = 2 * time.Second

// progress returns a function that notes what is being done, once that takes
// long, and one that ends it.
func (p *printer) progress() (tell func(string), done func()) {
	var (
		mu      sync.Mutex
		waiting []string
		late    bool
	)
	timer := time.AfterFunc(slow, func() {
		mu.Lock()
		defer mu.Unlock()
		late = true
		for _, doing := range waiting {
			p.note("%s", doing)
		}
	})
	tell = func(doing string) {
		mu.Lock()
		defer mu.Unlock()
		if late {
			p.note("%s", doing)
			return
		}
		waiting = append(waiting, doing)
	}
	return tell, func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		late, waiting = false, nil
	}
}
