package main

import (
	"context"
	"fmt"
	"os"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// openFleet opens the folder of a fleet. Links that lead out of the folder
// cannot be followed. The caller closes it.
func openFleet(path string) (*os.Root, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("open the fleet: %w", err)
	case !info.IsDir():
		return nil, withHint(fmt.Errorf("open the fleet: %q is not a folder", path), "name the folder that the fleet is in")
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the fleet: %w", err)
	}
	return root, nil
}

// rendered is a fleet, as loaded and rendered in memory.
type rendered struct {
	// fleet is nil if it does not load.
	fleet *fleet.Fleet
	// bundles sorted by member; none if there is an error among the problems.
	bundles []bundle.Bundle
	// problems of loading and rendering, sorted.
	problems fleet.Problems
}

// loadFolder loads the fleet in a folder; it is nil if it does not load.
func loadFolder(path string) (*fleet.Fleet, fleet.Problems, error) {
	root, err := openFleet(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = root.Close() }()
	loaded, problems := fleet.Load(root.FS())
	return loaded, problems, nil
}

// renderFolder loads and renders the fleet in a folder.
func renderFolder(ctx context.Context, p *printer, path string, from fetchFlags) (*rendered, error) {
	var out rendered
	var err error
	if out.fleet, out.problems, err = loadFolder(path); err != nil {
		return nil, err
	}
	if out.fleet != nil {
		if err := out.render(ctx, p, from); err != nil {
			return nil, err
		}
	}
	out.problems.Sort()
	return &out, nil
}

// render fetches what the fleet needs beyond the binary, and renders it.
func (r *rendered) render(ctx context.Context, p *printer, from fetchFlags) error {
	complete, problems, err := from.complete(ctx, p, r.fleet)
	if err != nil {
		return err
	}
	r.problems = append(r.problems, problems...)
	if complete == nil {
		return nil
	}
	result, err := renderer.Render(r.fleet, complete)
	if err != nil {
		return fmt.Errorf("render the fleet: %w", err)
	}
	r.bundles = result.Bundles
	r.problems = append(r.problems, result.Problems...)
	return nil
}
