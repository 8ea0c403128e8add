package validation

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// Definitions are the kinds that a member has by CRD. They keep what they have
// compiled.
type Definitions struct {
	byKind map[schema.GroupKind]*definition
}

// definition is one CRD, compiled when it is first needed.
type definition struct {
	object *unstructured.Unstructured
	once   sync.Once
	// versions that are served, by name.
	versions map[string]*version
	err      error
}

// version is one version of a kind.
type version struct {
	structural *structural.Structural
	schema     schemavalidation.SchemaValidator
	rules      *cel.Validator
}

// NewDefinitions returns the kinds of the CRDs, which must not change. Objects
// that are no CRDs are left out.
func NewDefinitions(crds []*unstructured.Unstructured) *Definitions {
	d := &Definitions{byKind: map[schema.GroupKind]*definition{}}
	for _, crd := range crds {
		group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		if crd.GetKind() == "CustomResourceDefinition" && group != "" && kind != "" {
			d.byKind[schema.GroupKind{Group: group, Kind: kind}] = &definition{object: crd}
		}
	}
	return d
}

// Check returns what is wrong with an object, sorted by path. The error is for a
// CRD that does not compile.
func (d *Definitions) Check(object *unstructured.Unstructured) ([]Finding, error) {
	findings, err := d.shape(object)
	if err != nil || failed(findings) {
		return sorted(findings), err
	}
	return sorted(append(findings, semantics(object)...)), nil
}

// shape checks the object by the schema of its kind.
func (d *Definitions) shape(object *unstructured.Unstructured) ([]Finding, error) {
	gvk := object.GroupVersionKind()
	crd := d.byKind[gvk.GroupKind()]
	if crd == nil {
		return d.undefined(object), nil
	}
	versions, err := crd.compiled()
	if err != nil {
		return nil, fmt.Errorf("compile CRD %q: %w", crd.object.GetName(), err)
	}
	found := versions[gvk.Version]
	if found == nil {
		return []Finding{{Path: "apiVersion", Message: fmt.Sprintf("%s has no version %q", gvk.Kind, gvk.Version),
			Hint: "one of " + strings.Join(slices.Sorted(maps.Keys(versions)), ", ")}}, nil
	}
	return found.check(object), nil
}

// undefined checks an object without a CRD: by its Go type, where there is one.
func (d *Definitions) undefined(object *unstructured.Unstructured) []Finding {
	gvk := object.GroupVersionKind()
	if sample := builtin(gvk); sample != nil {
		return decode(object, sample)
	}
	var kinds []string
	for known := range d.byKind {
		if known.Group == gvk.Group {
			kinds = append(kinds, known.Kind)
		}
	}
	if versions := builtinVersions(gvk.GroupKind()); len(versions) > 0 {
		return []Finding{{Path: "apiVersion", Message: fmt.Sprintf("%s has no version %q", gvk.Kind, gvk.Version),
			Hint: "one of " + strings.Join(versions, ", ")}}
	}
	kinds = append(kinds, builtinKinds(gvk.Group)...)
	slices.Sort(kinds)
	return []Finding{{Path: "kind", Message: fmt.Sprintf("%s has no kind %q", gvk.Group, gvk.Kind),
		Hint: fleet.DidYouMean(gvk.Kind, slices.Compact(kinds))}}
}

func (d *definition) compiled() (map[string]*version, error) {
	d.once.Do(func() { d.versions, d.err = compile(d.object) })
	return d.versions, d.err
}

// compile returns the served versions of a CRD.
func compile(object *unstructured.Unstructured) (map[string]*version, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &crd); err != nil {
		return nil, err
	}
	out := map[string]*version{}
	for _, v := range crd.Spec.Versions {
		if !v.Served || v.Schema == nil {
			continue
		}
		var internal apiextensions.CustomResourceValidation
		if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema, &internal, nil); err != nil {
			return nil, err
		}
		s, err := structural.NewStructural(internal.OpenAPIV3Schema)
		if err != nil {
			return nil, err
		}
		validator, _, err := schemavalidation.NewSchemaValidator(internal.OpenAPIV3Schema)
		if err != nil {
			return nil, err
		}
		out[v.Name] = &version{structural: s, schema: validator, rules: cel.NewValidator(s, true, celconfig.PerCallLimit)}
	}
	return out, nil
}

// check does what an API server does with a new object: find unknown fields, fill
// in defaults, check the schema, then the rules.
func (v *version) check(object *unstructured.Unstructured) []Finding {
	content := object.DeepCopy().Object
	var findings []Finding
	unknown := pruning.PruneWithOptions(content, v.structural, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		findings = append(findings, Finding{Path: path, Message: "unknown field", Hint: v.meant(path)})
	}
	if len(findings) > 0 {
		return findings
	}
	defaulting.Default(content, v.structural)
	errs := schemavalidation.ValidateCustomResource(nil, content, v.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.structural, content)...)
	if len(errs) == 0 && v.rules != nil {
		errs, _ = v.rules.Validate(context.Background(), nil, v.structural, content, nil, celconfig.RuntimeCELCostBudget)
	}
	for _, err := range errs {
		findings = append(findings, fromField(err))
	}
	return findings
}

var index = regexp.MustCompile(`\[[0-9]+\]`)

// meant returns the field of the schema that an unknown one probably is.
func (v *version) meant(path string) string {
	names := strings.Split(index.ReplaceAllString(path, ""), ".")
	at := v.structural
	for _, name := range names[:len(names)-1] {
		for at != nil && at.Items != nil {
			at = at.Items
		}
		if at == nil {
			return ""
		}
		next, ok := at.Properties[name]
		if !ok {
			return ""
		}
		at = &next
	}
	for at != nil && at.Items != nil {
		at = at.Items
	}
	if at == nil {
		return ""
	}
	return fleet.DidYouMean(names[len(names)-1], slices.Sorted(maps.Keys(at.Properties)))
}

// fromField returns an error of the API server's as a finding. Values of a wrong
// type are not repeated: what was pasted in the wrong place may be secret.
func fromField(err *field.Error) Finding {
	message := err.ErrorBody()
	switch err.Type {
	case field.ErrorTypeTypeInvalid:
		message = err.Detail
	case field.ErrorTypeRequired:
		message = "not set"
	case field.ErrorTypeInvalid:
		if message == "Invalid value: "+err.Detail { // of an object or a list
			message = err.Detail
		}
	}
	if _, rest, ok := strings.Cut(message, " in body "); ok && strings.HasPrefix(message, err.Field) {
		message = rest
	}
	if message != "" {
		message = strings.ToLower(message[:1]) + message[1:]
	}
	return Finding{Path: err.Field, Message: message}
}
