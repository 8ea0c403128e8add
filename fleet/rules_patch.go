package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp/syntax"
	"slices"

	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// What one patch may cost.
const (
	maxPatchBytes  = 64 << 10
	maxPatchDepth  = 40
	maxPatches     = 200
	maxTargetBytes = 1 << 10
	maxTargetSteps = 1000
)

// patches returns the patches of the document's object.
func (d *document) patches() []v1alpha1.Patch {
	if d.network != nil {
		return d.network.Spec.Patches
	}
	return d.member.Spec.Patches
}

func eachPatch(check func(patch v1alpha1.Patch, path string, report field)) func(*documents, reporter) {
	return func(d *documents, report reporter) {
		for _, at := range slices.Concat(d.networks, d.members) {
			patches := at.patches()
			for i, patch := range patches[:min(len(patches), maxPatches)] {
				check(patch, fmt.Sprintf("spec.patches[%d]", i), func(path, message, hint string) { report(at, path, message, hint) })
			}
		}
	}
}

// tooManyPatches: each is tried on every object of every member.
func tooManyPatches(d *documents, report reporter) {
	for _, at := range slices.Concat(d.networks, d.members) {
		if n := len(at.patches()); n > maxPatches {
			report(at, "spec.patches", fmt.Sprintf("has %d patches, at most %d are allowed", n, maxPatches), "one patch can select several objects")
		}
	}
}

// invalidPatch finds patches that cannot be read or cannot be applied to
// anything.
func invalidPatch(patch v1alpha1.Patch, path string, report field) {
	if patch.Target != nil {
		invalidTarget(patch.Target, path+".target", report)
	}
	content, err := parsePatch(patch.Patch)
	path += ".patch"
	switch {
	case err != nil:
		line, message := syntaxError(err)
		line, message, hint := explain(line, message, []byte(patch.Patch))
		report(path, fmt.Sprintf("%s, on line %d of the patch", message, line), hint)
	case content == nil:
		report(path, "more than one document", "write one entry per patch")
	case content.Kind == yaml.SequenceNode:
		if patch.Target == nil {
			report(path, "a JSON 6902 patch names no object itself", "set target")
		}
		invalidOperations(content, path, report)
	case content.Kind != yaml.MappingNode:
		report(path, "neither a strategic merge patch nor a list of JSON 6902 operations", "write the patch itself: no file or address is read")
	case patch.Target == nil && !namesItsObject(content):
		report(path, "without a target it has to name its object", "set target, or apiVersion, kind and metadata.name in the patch")
	}
}

// parsePatch returns the root of a patch, nil when there are several documents.
func parsePatch(text string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	var document, next yaml.Node
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch err := decoder.Decode(&next); {
	case err == nil:
		return nil, nil
	case !errors.Is(err, io.EOF):
		return nil, err
	case len(document.Content) == 0:
		return &yaml.Node{}, nil
	}
	return document.Content[0], nil
}

// namesItsObject reports whether the patch says which object it is for.
func namesItsObject(patch *yaml.Node) bool {
	metadata := lookup(patch, "metadata")
	return lookup(patch, "apiVersion") != nil && lookup(patch, "kind") != nil && metadata != nil && lookup(metadata, "name") != nil
}

// lookup returns the value of a key of a mapping, or nil.
func lookup(mapping *yaml.Node, key string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func invalidTarget(target *v1alpha1.PatchTarget, path string, report field) {
	if *target == (v1alpha1.PatchTarget{}) {
		report(path, "empty: it would select every object", "name a kind")
	}
	for _, expression := range []struct{ name, text string }{
		{"group", target.Group}, {"version", target.Version}, {"kind", target.Kind}, {"name", target.Name}, {"namespace", target.Namespace},
	} {
		if message := invalidExpression(expression.text); message != "" {
			report(path+"."+expression.name, message, "")
		}
	}
	for _, selector := range []struct{ name, text string }{
		{"labelSelector", target.LabelSelector}, {"annotationSelector", target.AnnotationSelector},
	} {
		if len(selector.text) > maxTargetBytes {
			report(path+"."+selector.name, tooLong, "")
		} else if _, err := labels.Parse(selector.text); err != nil {
			report(path+"."+selector.name, fmt.Sprintf("not a selector: %v", err), "")
		}
	}
}

var tooLong = fmt.Sprintf("longer than %d bytes", maxTargetBytes)

// invalidExpression says what is wrong with a regular expression. Matching
// takes time in proportion to its steps, on every object of every member.
func invalidExpression(text string) string {
	if len(text) > maxTargetBytes {
		return tooLong
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return "not a regular expression"
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > maxTargetSteps {
		return fmt.Sprintf("a regular expression of more than %d steps", maxTargetSteps)
	}
	return ""
}

// forbiddenPatch finds patches that are never applied, whatever they would
// match: those that remove objects and those made to cost time and memory. What
// a patch does to an object's identity only shows when it is rendered.
func forbiddenPatch(patch v1alpha1.Patch, path string, report field) {
	path += ".patch"
	if len(patch.Patch) > maxPatchBytes {
		report(path, fmt.Sprintf("larger than %d KiB", maxPatchBytes>>10), "")
		return
	}
	content, err := parsePatch(patch.Patch)
	if err != nil || content == nil {
		return // invalidPatch says so
	}
	if message, hint := unclear(content, 0); message != "" {
		report(path, message, hint)
		return
	}
	for _, holder := range []*yaml.Node{content, lookup(content, "metadata")} {
		if holder != nil && lookup(holder, "$patch") != nil {
			report(path, "a patch must not remove or replace an object", "")
			return
		}
	}
	if content.Kind == yaml.SequenceNode {
		forbiddenOperations(content, path, report)
	}
}
