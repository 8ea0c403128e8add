package reconciler

import (
	"context"
	"sync"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/catalog/fetch"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// renderers has the renderer of what a fleet needs: of the built-in catalog, or
// of one with what was fetched for it. A renderer keeps what it has rendered, so
// the last one of each sort is kept.
type renderers struct {
	fetcher *fetch.Fetcher
	builtin *renderer.Renderer

	mu   sync.Mutex
	key  string
	last *renderer.Renderer
}

func newRenderers(o Options) *renderers {
	return &renderers{
		fetcher: fetch.New(fetch.Options{
			Cache: o.CacheDirectory, ModuleProxy: o.ModuleProxy,
			Credentials: fetch.Credentials{File: o.RegistryConfig},
		}),
		builtin: renderer.New(catalog.Builtin()),
	}
}

// of returns the renderer of a fleet, after fetching what that needs; or the
// problems of a fleet that asks for what cannot be, and why it stops.
func (r *renderers) of(ctx context.Context, f *fleet.Fleet, observed plan.Observed) (*renderer.Renderer, fleet.Problems, *status.Failure) {
	needs := plan.Needs(f, catalog.Builtin(), observed)
	if needs.Empty() {
		return r.builtin, nil, nil
	}
	if kept := r.kept(needs.Key()); kept != nil {
		return kept, nil, nil
	}
	complete, failures := r.fetcher.Fetch(ctx, catalog.Builtin(), needs)
	if len(failures) == 0 {
		return r.keep(needs.Key(), renderer.New(complete)), nil, nil
	}
	problems, others := failures.Problems(f)
	if len(others) == 0 {
		return nil, problems, invalid(problems)
	}
	first := others[0]
	message := others.Error()
	if first.Hint != "" {
		message += ": " + first.Hint
	}
	return nil, problems, &status.Failure{Reason: string(first.Reason), Message: message, Stalled: !first.Transient()}
}

func (r *renderers) kept(key string) *renderer.Renderer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key != key {
		return nil
	}
	return r.last
}

func (r *renderers) keep(key string, made *renderer.Renderer) *renderer.Renderer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key, r.last = key, made
	return made
}
