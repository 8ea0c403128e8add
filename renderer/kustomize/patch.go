package kustomize

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/builtins" //nolint:staticcheck // SA1019: the transformer that krusty itself uses is exported nowhere else.
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// ErrRemoved is wrapped by the error for a patch that removes its object.
var ErrRemoved = errors.New("the patch removes the object")

// Patch is one patch, ready to be applied to any number of objects. It may be
// used by several goroutines at once.
type Patch struct {
	// merge is a strategic merge patch; nil when it is a list of operations.
	merge map[string]any
	// operations as JSON: Kustomize takes a list in YAML's flow style for JSON.
	operations string

	selector            types.Selector
	regex               *types.SelectorRegex
	labels, annotations labels.Selector
	// exact is the object that a patch without a target names, else nil.
	exact *resid.ResId
	// texts are all strings and numbers in the patch, as text.
	texts map[string]bool
}

// NewPatch reads a patch as it is written in a fleet. It accepts less than
// Kustomize: one document, inline.
func NewPatch(written v1alpha1.Patch) (*Patch, error) {
	p := &Patch{texts: map[string]bool{}}
	var content any
	if err := yaml.UnmarshalStrict([]byte(written.Patch), &content); err != nil {
		return nil, fmt.Errorf("read patch: %w", err)
	}
	p.collect(content)
	switch content := content.(type) {
	case map[string]any:
		p.merge = content
	case []any:
		encoded, err := json.Marshal(content)
		if err != nil {
			return nil, fmt.Errorf("read patch: %w", err)
		}
		p.operations = string(encoded)
	default:
		return nil, fmt.Errorf("read patch: %w: neither a mapping nor a list", ErrRefused)
	}
	if written.Target == nil {
		return p, p.nameItself()
	}
	return p, p.selectBy(*written.Target)
}

// collect fills texts.
func (p *Patch) collect(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, element := range value {
			p.texts[key] = true
			p.collect(element)
		}
	case []any:
		for _, element := range value {
			p.collect(element)
		}
	case nil:
	default:
		p.texts[fmt.Sprint(value)] = true
	}
}

// Mentions reports whether a string or a number in the patch is the text. What a
// patch does to an object depends on the object's strings only by comparing them
// with those of the patch, and, in lists, with each other.
func (p *Patch) Mentions(text string) bool { return p.texts[text] }

// MentionsPart reports whether the text is part of a string in the patch.
func (p *Patch) MentionsPart(text string) bool {
	for known := range p.texts {
		if strings.Contains(known, text) {
			return true
		}
	}
	return false
}

// nameItself takes the target from the patch.
func (p *Patch) nameItself() error {
	object := unstructured.Unstructured{Object: p.merge}
	if object.GetKind() == "" || object.GetName() == "" {
		return fmt.Errorf("read patch: %w: names no object and has no target", ErrRefused)
	}
	id := identify(&object)
	p.exact = &id
	return nil
}

func (p *Patch) selectBy(target v1alpha1.PatchTarget) (err error) {
	p.selector = types.Selector{
		ResId: resid.ResId{
			Gvk:  resid.Gvk{Group: target.Group, Version: target.Version, Kind: target.Kind},
			Name: target.Name, Namespace: target.Namespace,
		},
		LabelSelector: target.LabelSelector, AnnotationSelector: target.AnnotationSelector,
	}
	if p.regex, err = types.NewSelectorRegex(&p.selector); err != nil {
		return fmt.Errorf("read target of patch: %w", err)
	}
	if p.labels, err = labels.Parse(target.LabelSelector); err != nil {
		return fmt.Errorf("read label selector of patch: %w", err)
	}
	if p.annotations, err = labels.Parse(target.AnnotationSelector); err != nil {
		return fmt.Errorf("read annotation selector of patch: %w", err)
	}
	return nil
}

// Matches reports whether the patch is for the object, as Kustomize decides it.
func (p *Patch) Matches(object *unstructured.Unstructured) bool {
	id := identify(object)
	if p.exact != nil {
		return p.exact.Equals(id)
	}
	return p.regex.MatchGvk(id.Gvk) && p.regex.MatchName(id.Name) && p.regex.MatchNamespace(id.EffectiveNamespace()) &&
		p.labels.Matches(labels.Set(object.GetLabels())) && p.annotations.Matches(labels.Set(object.GetAnnotations()))
}

// kinds are Kustomize's own names of kinds ([resid.Gvk]), by ours: the built-in
// schemas, in which they are looked up, are always the same.
var kinds sync.Map

// identify names an object as Kustomize does, which looks its kind up in the
// schemas that a build may be replacing at the same time.
func identify(object *unstructured.Unstructured) resid.ResId {
	gvk := object.GroupVersionKind()
	kind, ok := kinds.Load(gvk)
	if !ok {
		one.Lock()
		kind = resid.NewGvk(gvk.Group, gvk.Version, gvk.Kind)
		one.Unlock()
		kinds.Store(gvk, kind)
	}
	return resid.NewResIdWithNamespace(kind.(resid.Gvk), object.GetName(), object.GetNamespace())
}

// Apply returns the object with the patch applied; the object itself does not
// change. The object must be one that the patch matches.
func (p *Patch) Apply(object *unstructured.Unstructured) (out *unstructured.Unstructured, err error) {
	one.Lock()
	defer one.Unlock()
	if stale {
		openapi.ResetOpenAPI()
		stale = false
	}
	defer func() {
		if cause := recover(); cause != nil {
			out, err = nil, fmt.Errorf("kustomize panicked: %v", cause)
		}
	}()
	return p.transform(object)
}

func (p *Patch) transform(object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	resources := resmap.NewFactory(provider.NewDefaultDepProvider().GetResourceFactory())
	content, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	objects, err := resources.NewResMapFromBytes(content)
	if err != nil {
		return nil, err
	}
	config, err := p.config(object)
	if err != nil {
		return nil, err
	}
	transformer := builtins.NewPatchTransformerPlugin()
	if err := transformer.Config(resmap.NewPluginHelpers(nil, nil, resources, nil), config); err != nil {
		return nil, brief(err)
	}
	if err := transformer.Transform(objects); err != nil {
		return nil, brief(err)
	}
	return only(objects)
}

// config is the patch as Kustomize's own transformer takes it, aimed at one
// object by name: which objects it is for is decided already.
func (p *Patch) config(object *unstructured.Unstructured) ([]byte, error) {
	text := p.operations
	if p.merge != nil {
		aimed := unstructured.Unstructured{Object: p.merge}
		aimed = *aimed.DeepCopy()
		aimed.SetAPIVersion(object.GetAPIVersion())
		aimed.SetKind(object.GetKind())
		aimed.SetName(object.GetName())
		aimed.SetNamespace(object.GetNamespace())
		encoded, err := aimed.MarshalJSON()
		if err != nil {
			return nil, err
		}
		text = string(encoded)
	}
	return json.Marshal(map[string]any{"patch": text, "target": map[string]any{"kind": object.GetKind()}})
}

// patchText is how Kustomize repeats a patch in its errors.
var patchText = regexp.MustCompile(`(?s)\s*(from|for)? *\[patch: ".*"\]`)

// brief is an error of Kustomize's without the patch, which may hold what is
// nobody else's business, and without whole objects.
func brief(err error) error {
	const longest = 200
	first, _, _ := strings.Cut(patchText.ReplaceAllString(err.Error(), ""), "\n")
	if len(first) > longest {
		first = strings.ToValidUTF8(first[:longest], "") + "…"
	}
	return errors.New(first)
}

// only returns the one object that is left.
func only(objects resmap.ResMap) (*unstructured.Unstructured, error) {
	objects.RemoveBuildAnnotations()
	if objects.Size() != 1 {
		return nil, ErrRemoved
	}
	content, err := objects.Resources()[0].MarshalJSON()
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(content); err != nil {
		return nil, fmt.Errorf("decode what the patch made: %w", err)
	}
	return out, nil
}
