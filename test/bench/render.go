package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	// example is the member of fleet-example that everything is measured with;
	// its network, region, namespace and trust domain are what the fleet says.
	example                         = "eastus-1"
	network, region, system, domain = "prod", "eastus", "applink-system", "cluster.local"

	// delivered is the release of fleet-example, compared that of istioctl.
	delivered, compared = "1.30.4", "1.31.0"
)

// exampleFleet is fleet-example's network on a release, with members that are
// like the example but for their names.
func exampleFleet(release string, names ...string) (fstest.MapFS, error) {
	folder := filepath.Join(rig.Root(), "fleet-example", "networks", network)
	settings, err := os.ReadFile(filepath.Join(folder, "network.yaml"))
	if err != nil {
		return nil, err
	}
	member, err := os.ReadFile(filepath.Join(folder, "members", example+".yaml"))
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(settings, []byte(delivered)) {
		return nil, fmt.Errorf("fleet-example does not run %s", delivered)
	}
	files := fstest.MapFS{"network.yaml": {Data: bytes.ReplaceAll(settings, []byte(delivered), []byte(release))}}
	for _, name := range names {
		files[name+".yaml"] = &fstest.MapFile{Data: bytes.ReplaceAll(member, []byte(example), []byte(name))}
	}
	return files, nil
}

// render loads and renders a fleet; all its members must come out.
func render(r *renderer.Renderer, files fstest.MapFS) (bundles []bundle.Bundle, load, render time.Duration, err error) {
	start := time.Now()
	f, problems := fleet.Load(files)
	if f == nil {
		return nil, 0, 0, fmt.Errorf("load the fleet: %v", problems)
	}
	load = time.Since(start)
	result, err := r.Render(f, plan.Observed{})
	if err != nil {
		return nil, 0, 0, err
	}
	if len(result.Bundles) != len(f.Members) {
		return nil, 0, 0, fmt.Errorf("render the fleet: %v", result.Problems)
	}
	return result.Bundles, load, time.Since(start) - load, nil
}

// rendering is what a process of its own says about itself.
type rendering struct {
	// Load, Render and Files: from YAML to bundles to the YAML of their files.
	Load, Render, Files time.Duration
	// More are the times of further members, each rendered alone.
	More []time.Duration
	// Objects of all members.
	Objects int
}

// renderAlone renders so many members from nothing, then more that the renderer
// has not seen, of a network that it has, and writes how long it took.
func renderAlone(w io.Writer, members, more int) error {
	names := []string{example}
	for i := range members - 1 {
		names = append(names, fmt.Sprintf("member-%04d", i))
	}
	files, err := exampleFleet(compared, names...)
	if err != nil {
		return err
	}
	r := renderer.New(catalog.Builtin())
	var took rendering
	var bundles []bundle.Bundle
	if bundles, took.Load, took.Render, err = render(r, files); err != nil {
		return err
	}
	start := time.Now()
	if _, err := bundle.Files(bundles); err != nil {
		return err
	}
	took.Files = time.Since(start)
	for _, b := range bundles {
		took.Objects += len(b.Objects)
	}
	for i := range more {
		files, err := exampleFleet(compared, fmt.Sprintf("further-%04d", i))
		if err != nil {
			return err
		}
		_, _, one, err := render(r, files)
		if err != nil {
			return err
		}
		took.More = append(took.More, one)
	}
	return json.NewEncoder(w).Encode(took)
}
