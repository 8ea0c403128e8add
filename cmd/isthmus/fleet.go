package main

import (
	"fmt"
	"os"

	"github.com/isthmus-mesh/isthmus/catalog"
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

// renderFolder loads and renders the fleet in a folder.
func renderFolder(path string) (*rendered, error) {
	root, err := openFleet(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	var out rendered
	out.fleet, out.problems = fleet.Load(root.FS())
	if out.fleet != nil {
		result, err := renderer.Render(out.fleet, catalog.Builtin())
		if err != nil {
			return nil, fmt.Errorf("render the fleet: %w", err)
		}
		out.bundles = result.Bundles
		out.problems = append(out.problems, result.Problems...)
	}
	out.problems.Sort()
	return &out, nil
}
