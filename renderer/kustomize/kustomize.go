package kustomize

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

// ErrRefused is wrapped by the error for a kustomization that reaches for
// something outside the files.
var ErrRefused = errors.New("refused")

// one build or patch at a time: Kustomize's schemas are global.
var one sync.Mutex

// stale says that a build has left schemas behind, which a patch must not see.
var stale bool

// Build builds the folder dir of the files, keyed by slash-separated path, and
// returns the objects in the order in which Kustomize emits them.
func Build(files map[string][]byte, dir string) ([]*unstructured.Unstructured, error) {
	if err := check(files); err != nil {
		return nil, err
	}
	memory := filesys.MakeFsInMemory()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := memory.WriteFile(path.Join("/", name), files[name]); err != nil {
			return nil, fmt.Errorf("write %q: %w", name, err)
		}
	}
	return run(memory, path.Join("/", dir))
}

func run(memory filesys.FileSystem, dir string) (objects []*unstructured.Unstructured, err error) {
	one.Lock()
	defer one.Unlock()
	defer func() {
		if cause := recover(); cause != nil {
			objects, err = nil, fmt.Errorf("build %q: kustomize panicked: %v", dir, cause)
		}
	}()
	// The built-in schemas are read again when the build first needs one.
	openapi.ResetOpenAPI()
	stale = true
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, dir)
	if err != nil {
		return nil, fmt.Errorf("build %q: %w", dir, err)
	}
	for _, resource := range resources.Resources() {
		data, err := resource.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("build %q: encode %s: %w", dir, resource.CurId(), err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(data); err != nil {
			return nil, fmt.Errorf("build %q: decode %s: %w", dir, resource.CurId(), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// kustomizationNames are the names by which Kustomize finds its file.
var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// allowedFields of a kustomization. Every other is refused: some run code, some
// change schemas for every later build, and wherever a field names a file,
// Kustomize takes an address, too, and fetches it.
var allowedFields = []string{"apiVersion", "kind", "metadata", "resources", "components", "labels", "namespace"}

// pathFields name files and folders that have to be among the files.
var pathFields = []string{"resources", "components"}

func check(files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := checkAliases(name, files[name]); err != nil {
			return err
		}
		if !slices.Contains(kustomizationNames, path.Base(name)) {
			continue
		}
		var fields map[string]any
		if err := yaml.UnmarshalStrict(files[name], &fields); err != nil {
			return fmt.Errorf("read %q: %w", name, err)
		}
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			if !slices.Contains(allowedFields, field) {
				return fmt.Errorf("%q: field %q: %w: only plain Kustomize is run", name, field, ErrRefused)
			}
		}
		for _, field := range pathFields {
			entries, _ := fields[field].([]any)
			for _, entry := range entries {
				if !within(files, path.Dir(name), entry) {
					return fmt.Errorf("%q: %s: %v: %w: not among the files", name, field, entry, ErrRefused)
				}
			}
		}
	}
	return nil
}

// checkAliases refuses aliases: Kustomize follows aliases of aliases for as long
// as it takes.
func checkAliases(name string, content []byte) error {
	if extension := path.Ext(name); extension != ".yaml" && extension != ".yml" && extension != "" {
		return nil
	}
	decoder := kyaml.NewDecoder(bytes.NewReader(content))
	for {
		var node kyaml.Node
		err := decoder.Decode(&node)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read %q: %w", name, err)
		case aliased(&node):
			return fmt.Errorf("%q: %w: anchors and aliases are not read", name, ErrRefused)
		}
	}
}

func aliased(node *kyaml.Node) bool {
	return node.Kind == kyaml.AliasNode || node.Anchor != "" || slices.ContainsFunc(node.Content, aliased)
}

// within tells whether a file or a folder with files is at the path that the
// entry names, seen from dir.
func within(files map[string][]byte, dir string, entry any) bool {
	relative, ok := entry.(string)
	if !ok {
		return false
	}
	target := path.Join(dir, relative)
	if _, ok := files[target]; ok {
		return true
	}
	for name := range files {
		if strings.HasPrefix(name, target+"/") {
			return true
		}
	}
	return false
}
