package apisim

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// merger merges writes into objects and keeps account of who owns which field.
// What it merged once it knows, for all members.
type merger struct {
	builtin managedfields.TypeConverter

	mu sync.Mutex
	// defined are the types of CustomResourceDefinitions, by content.
	defined map[*content]managedfields.TypeConverter
	known   map[application]merged
}

func newMerger() *merger {
	return &merger{
		builtin: applyconfigurations.NewTypeConverter(scheme.Scheme),
		defined: map[*content]managedfields.TypeConverter{}, known: map[application]merged{},
	}
}

// application is a server-side apply, by all that decides about its result.
type application struct {
	live    *content // nil to create
	kind    schema.GroupVersionKind
	defined *content
	patch   [sha256.Size]byte
	manager string
	force   bool
}

// merged is the result of an application.
type merged struct {
	content *content
	// times says where the time of each managed fields entry comes from: the index
	// of an entry before, or -1 for now.
	times []int
	// same says that the application changes nothing.
	same bool
	err  error
}

// apply merges a patch, whose metadata has no uid and no version, into live.
func (m *merger) apply(live *content, k kind, patch *unstructured.Unstructured, manager string, force bool) merged {
	raw, err := patch.MarshalJSON()
	if err != nil {
		return merged{err: err}
	}
	key := application{live, k.GroupVersionKind, k.definition, sha256.Sum256(raw), manager, force}
	m.mu.Lock()
	known, ok := m.known[key]
	m.mu.Unlock()
	if ok {
		return known
	}
	result := m.merge(live, k, patch, manager, force)
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.known[key]; ok {
		return known // so that equal contents are one
	}
	m.known[key] = result
	return result
}

func (m *merger) merge(live *content, k kind, patch *unstructured.Unstructured, manager string, force bool) merged {
	fields, err := m.fields(k)
	if err != nil {
		return merged{err: err}
	}
	before := empty(k)
	if live != nil {
		if before, err = live.decode(); err != nil {
			return merged{err: err}
		}
	}
	result, err := fields.Apply(before.DeepCopy(), patch, manager, force)
	if err != nil {
		return merged{err: err}
	}
	after := result.(*unstructured.Unstructured)
	out := merged{times: sources(after, before)}
	if live == nil {
		identify(after)
	} else if out.same = equal(before, after); out.same {
		out.content = live
		return out
	}
	settle(k, before, after)
	out.content, out.err = abstract(after)
	return out
}

// update keeps account of a write that is not an apply. After is changed: its
// managed fields get stand-ins for times, whose sources are returned.
func (m *merger) update(k kind, before, after *unstructured.Unstructured, manager string) (*unstructured.Unstructured, []int, error) {
	fields, err := m.fields(k)
	if err != nil {
		return nil, nil, err
	}
	result, err := fields.Update(before.DeepCopy(), after, manager)
	if err != nil {
		return nil, nil, err
	}
	out := result.(*unstructured.Unstructured)
	return out, sources(out, before), nil
}

func (m *merger) fields(k kind) (*managedfields.FieldManager, error) {
	types, err := m.types(k)
	if err != nil {
		return nil, err
	}
	return managedfields.NewDefaultFieldManager(types, noConversion{}, noDefaults{}, creator{}, k.GroupVersionKind, k.GroupVersion(), "", nil)
}

func (m *merger) types(k kind) (managedfields.TypeConverter, error) {
	if k.definition == nil && k.Group != "apiextensions.k8s.io" {
		return m.builtin, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if types := m.defined[k.definition]; types != nil {
		return types, nil
	}
	schemas, err := schemasOf(k.definition)
	if err != nil {
		return nil, err
	}
	types, err := managedfields.NewTypeConverter(schemas, false)
	m.defined[k.definition] = types
	return types, err
}

// schemasOf a definition's kinds and of what all kinds consist of, by name. The
// kind CustomResourceDefinition itself has none, and is among the latter.
func schemasOf(definition *content) (map[string]*spec.Schema, error) {
	reference := func(name string) spec.Ref { return spec.MustCreateRef("#/definitions/" + name) }
	all := map[string]*spec.Schema{}
	for name, one := range openapi.GetOpenAPIDefinitions(reference) {
		schema := one.Schema
		all[name] = &schema
	}
	const crd = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
	if definition == nil {
		if all[crd] == nil {
			return nil, fmt.Errorf("there is no schema %q", crd)
		}
		of(all[crd], schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		return all, nil
	}
	o, err := definition.decode()
	if err != nil {
		return nil, err
	}
	schemas := map[string]any{}
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	for _, version := range versions {
		fields, _ := version.(map[string]any)
		name, _ := fields["name"].(string)
		schemas[name], _, _ = unstructured.NestedMap(fields, "schema", "openAPIV3Schema")
	}
	for _, k := range definedKinds(o, definition) {
		one := &spec.Schema{}
		raw, err := json.Marshal(schemas[k.Version])
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, one); err != nil {
			return nil, fmt.Errorf("read the schema of %s: %w", k.GroupVersionKind, err)
		}
		one.SetProperty("apiVersion", *spec.StringProperty())
		one.SetProperty("kind", *spec.StringProperty())
		one.SetProperty("metadata", spec.Schema{SchemaProps: spec.SchemaProps{Ref: reference(metav1.ObjectMeta{}.OpenAPIModelName())}})
		of(one, k.GroupVersionKind)
		all[k.GroupVersionKind.String()] = one
	}
	return all, nil
}

func of(s *spec.Schema, k schema.GroupVersionKind) {
	s.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind}})
}

func empty(k kind) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(k.GroupVersionKind)
	return o
}

// identify gives a new object stand-ins for what will be its own.
func identify(o *unstructured.Unstructured) {
	o.SetUID(standInUID)
	o.SetResourceVersion(standInVersion)
	o.SetCreationTimestamp(standIn(slotCreated))
}

// sources gives each managed fields entry the stand-in of its index, and tells
// whose time it had: that of an entry before, or -1 for a new one.
func sources(after, before *unstructured.Unstructured) []int {
	entries := after.GetManagedFields()
	times := make([]int, len(entries))
	for i := range entries {
		times[i] = -1
		if entries[i].Time == nil {
			continue
		}
		for j, had := range before.GetManagedFields() {
			if had.Time.Equal(entries[i].Time) {
				times[i] = j
			}
		}
		stand := standIn(slot(i))
		entries[i].Time = &stand
	}
	after.SetManagedFields(entries)
	return times
}

// equal reports whether two objects are the same but for the times of managed
// fields: then a write leaves no trace.
func equal(a, b *unstructured.Unstructured) bool {
	timeless := func(o *unstructured.Unstructured) []metav1.ManagedFieldsEntry {
		entries := o.GetManagedFields()
		for i := range entries {
			entries[i].Time = nil
		}
		return entries
	}
	return reflect.DeepEqual(timeless(a), timeless(b)) && reflect.DeepEqual(without(a), without(b))
}

func without(o *unstructured.Unstructured) map[string]any {
	out := maps.Clone(o.Object)
	metadata, _ := out["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	delete(metadata, "managedFields")
	out["metadata"] = metadata
	return out
}

// noConversion converts between versions of custom resources by name alone.
type noConversion struct{}

func (noConversion) Convert(any, any, any) error {
	return fmt.Errorf("conversion into a given object is not played")
}

func (noConversion) ConvertToVersion(in runtime.Object, to runtime.GroupVersioner) (runtime.Object, error) {
	k, ok := to.KindForGroupVersionKinds([]schema.GroupVersionKind{in.GetObjectKind().GroupVersionKind()})
	if ok {
		in.GetObjectKind().SetGroupVersionKind(k)
	}
	return in, nil
}

func (noConversion) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

type creator struct{}

func (creator) New(k schema.GroupVersionKind) (runtime.Object, error) {
	return empty(kind{GroupVersionKind: k}), nil
}

// now in seconds, as objects have it.
func now() int64 { return time.Now().Unix() }
