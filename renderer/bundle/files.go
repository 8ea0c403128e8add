package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	yamlv2 "go.yaml.in/yaml/v2"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/yaml"
)

// The folders of a member, by what is in them.
var folders = map[Component]string{
	ComponentNamespaces: "namespaces",
	ComponentTrust:      "trust",
	ComponentPeers:      "control-plane",
	ComponentIstiod:     "control-plane",
	ComponentCNI:        "data-plane",
	ComponentZtunnel:    "data-plane",
	ComponentGateway:    "gateway",
	ComponentPolicy:     "gateway",
	ComponentTelemetry:  "telemetry",
	ComponentResources:  "resources",
}

// InventoryFile is the name of a member's inventory in its folder.
const InventoryFile = "inventory.json"

const kustomizationFile = "kustomization.yaml"

// MemberDir is the folder of the member's bundle, for Kustomize to build.
func MemberDir(member string) string { return path.Join("members", member) }

// Files returns the bundles as files, keyed by slash-separated path:
//
//	releases/<release>/crds/…     what all members on the release share, once
//	releases/gateway-api/<version>-<channel>/…
//	                              the CRDs of the Gateway API, for members that get them
//	members/<member>/             kustomization.yaml, inventory.json, and the folders
//	                              namespaces, trust, control-plane, data-plane, gateway, telemetry,
//	                              resources (people's own manifests)
//
// Folders that would be empty are left out. There are no keys and no
// certificates in any of them. Files of equal objects share their bytes, which
// must not be changed.
func Files(bundles []Bundle) (map[string][]byte, error) { return new(Layout).Files(bundles) }

// Layout lays bundles out as files, again and again: the files of what has not
// changed since the last time are not made anew. The zero value is ready. It must
// not be used by several goroutines at once.
type Layout struct {
	// parts by the digest of a bundle, or by the release's name for its folder.
	parts map[string]part
	// encoded objects by digest.
	encoded *documents
}

// part is the files of one folder.
type part struct {
	files map[string][]byte
	// digests of the objects in the files.
	digests []string
}

// Files is [Files] and keeps what it has made until the next time.
func (l *Layout) Files(bundles []Bundle) (map[string][]byte, error) {
	last := l.parts
	encoded := &documents{last: l.encoded}
	jobs := folderJobs(bundles)
	parts := make([]part, len(jobs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, job := range jobs {
		if known, ok := last[job.key]; ok {
			parts[i] = known
			continue
		}
		group.Go(func() error {
			w := writer{part: part{files: map[string][]byte{}}, encoded: encoded}
			err := job.write(&w, job.bundle)
			parts[i] = w.part
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	l.parts, l.encoded = make(map[string]part, len(parts)), encoded
	files := map[string][]byte{}
	for i, part := range parts {
		l.parts[jobs[i].key] = part
		maps.Copy(files, part.files)
		encoded.keep(part.digests)
	}
	encoded.last = nil
	return files, nil
}

// folderJob makes the files of one folder.
type folderJob struct {
	key    string
	bundle Bundle
	write  func(*writer, Bundle) error
}

// folderJobs are the folders of the bundles, and those that bundles share with the
// first bundle that has one. They never share a path.
func folderJobs(bundles []Bundle) []folderJob {
	jobs := make([]folderJob, 0, len(bundles)+1)
	written := map[string]bool{}
	for _, b := range bundles {
		jobs = append(jobs, folderJob{b.Digest, b, (*writer).addMember})
		for _, dir := range b.SharedDirs() {
			if !written[dir] {
				written[dir] = true
				jobs = append(jobs, folderJob{dir + " " + b.definitions(dir), b, func(w *writer, b Bundle) error { return w.addShared(b, dir) }})
			}
		}
	}
	return jobs
}

// definitions names the bundle's CRDs in a shared folder by their content.
func (b Bundle) definitions(dir string) string {
	var out strings.Builder
	for _, object := range b.Objects {
		if b.sharedDir(component(object)) == dir {
			out.WriteString(object.Digest)
		}
	}
	return out.String()
}

// documents are objects as YAML ([]byte) by digest: most objects are the same for
// many members. It may be used by several goroutines at once.
type documents struct {
	now sync.Map
	// last is what was made the last time; nil when there is none.
	last *documents
}

func (d *documents) load(digest string) ([]byte, bool) {
	if document, ok := d.now.Load(digest); ok {
		return document.([]byte), true
	}
	if d.last == nil {
		return nil, false
	}
	document, ok := d.last.load(digest)
	if ok {
		d.now.Store(digest, document)
	}
	return document, ok
}

// keep takes over what was encoded the last time and is still in some file.
func (d *documents) keep(digests []string) {
	for _, digest := range digests {
		d.load(digest)
	}
}

// writer collects the files of one folder.
type writer struct {
	part
	encoded *documents
}

// SharedDirs are the folders that the bundle has in common with others.
func (b Bundle) SharedDirs() []string {
	dirs := []string{b.sharedDir(ComponentCRDs)}
	if b.GatewayAPI != "" {
		dirs = append(dirs, b.sharedDir(ComponentGatewayAPI))
	}
	return dirs
}

// sharedDir is the folder of a component that bundles share, empty for others.
func (b Bundle) sharedDir(c Component) string {
	switch c {
	case ComponentCRDs:
		return path.Join("releases", b.Release, "crds")
	case ComponentGatewayAPI:
		return path.Join("releases", "gateway-api", b.GatewayAPI)
	}
	return ""
}

func (w *writer) addShared(b Bundle, dir string) error {
	if err := w.addDefinitions(b, dir); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

func (w *writer) addDefinitions(b Bundle, dir string) error {
	var resources []string
	for _, object := range b.Objects {
		if b.sharedDir(component(object)) != dir {
			continue
		}
		shared, err := withoutNetwork(object)
		if err != nil {
			return err
		}
		name := object.Object.GetName() + ".yaml"
		if kind := object.Object.GetKind(); kind != "CustomResourceDefinition" {
			name = strings.ToLower(kind) + "-" + name
		}
		if err := w.addObject(path.Join(dir, name), shared); err != nil {
			return err
		}
		resources = append(resources, name)
	}
	if len(resources) == 0 {
		return nil
	}
	return w.addKustomization(dir, kustomization{Resources: resources})
}

// withoutNetwork is an object as all networks share it; the folder of a member
// puts its network's label on.
func withoutNetwork(object Object) (Object, error) {
	copied := object.Object.DeepCopy()
	labels := copied.GetLabels()
	delete(labels, NetworkLabel)
	copied.SetLabels(labels)
	return NewObject(object.Stage, copied)
}

func (w *writer) addMember(b Bundle) error {
	if err := w.addObjects(b); err != nil {
		return fmt.Errorf("bundle of member %q: %w", b.Member, err)
	}
	return nil
}

func (w *writer) addObjects(b Bundle) error {
	dir := MemberDir(b.Member)
	resources := map[string]bool{}
	for _, object := range b.Objects {
		folder, ok := folders[component(object)]
		shared := b.sharedDir(component(object))
		switch {
		case shared != "":
			resources[path.Join("..", "..", shared)] = true
			continue
		case !ok:
			return fmt.Errorf("%s: unknown component %q", IdentityOf(object.Object), component(object))
		}
		name := path.Join(folder, b.fileName(object))
		if err := w.addObject(path.Join(dir, name), object); err != nil {
			return err
		}
		resources[name] = true
	}
	inventory, err := json.MarshalIndent(b.Inventory(), "", "  ")
	if err != nil {
		return fmt.Errorf("encode inventory: %w", err)
	}
	w.files[path.Join(dir, InventoryFile)] = append(inventory, '\n')
	return w.addKustomization(dir, kustomization{
		Resources: slices.Sorted(maps.Keys(resources)),
		Labels:    []kustomizationLabels{{Pairs: map[string]string{NetworkLabel: b.Network}}},
	})
}

// fileName is the kind and name of an object, below a folder of its namespace
// if that is a namespace of the member's workloads.
func (b Bundle) fileName(object Object) string {
	name := strings.ToLower(object.Object.GetKind()) + "-" + strings.ReplaceAll(object.Object.GetName(), ":", "-") + ".yaml"
	if namespace := object.Object.GetNamespace(); namespace != "" && namespace != b.SystemNamespace {
		return path.Join(namespace, name)
	}
	return name
}

// addObject writes the object; one that shares its file with an earlier one,
// because they differ in their API group only, becomes the file's next document.
func (w *writer) addObject(name string, object Object) error {
	document, err := w.encode(object)
	if err != nil {
		return err
	}
	if before, ok := w.files[name]; ok {
		document = bytes.Join([][]byte{before, document}, []byte("---\n"))
	}
	w.files[name] = document
	return nil
}

// encode returns the object as YAML. Two writers may encode one object at the same
// time, to the same bytes.
func (w *writer) encode(object Object) ([]byte, error) {
	w.digests = append(w.digests, object.Digest)
	if document, ok := w.encoded.load(object.Digest); ok {
		return document, nil
	}
	// Straight from the map: going by JSON and back costs as much again.
	document, err := yamlv2.Marshal(object.Object.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", IdentityOf(object.Object), err)
	}
	document = bytes.Clone(document) // without the room that was left to grow
	w.encoded.now.Store(object.Digest, document)
	return document, nil
}

// kustomization is the part of a kustomization file that bundles need.
type kustomization struct {
	APIVersion string                `json:"apiVersion"`
	Kind       string                `json:"kind"`
	Resources  []string              `json:"resources"`
	Labels     []kustomizationLabels `json:"labels,omitempty"`
}

// kustomizationLabels are put on the metadata of every resource, and nowhere
// else: selectors and templates stay as they are.
type kustomizationLabels struct {
	Pairs map[string]string `json:"pairs"`
}

func (w *writer) addKustomization(dir string, k kustomization) error {
	k.APIVersion, k.Kind = "kustomize.config.k8s.io/v1beta1", "Kustomization"
	content, err := yaml.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode kustomization of %q: %w", dir, err)
	}
	w.files[path.Join(dir, kustomizationFile)] = content
	return nil
}
