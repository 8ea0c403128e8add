package apply

import (
	"context"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// parse reads the objects of a text in which NETWORK and SYSTEM stand for the
// test's own names, and labels them as the renderer does.
func parse(t testing.TB, network, text string) []*unstructured.Unstructured {
	t.Helper()
	text = strings.NewReplacer("NETWORK", network, "SYSTEM", network+"-system").Replace(text)
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split(text, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			t.Fatal(err)
		}
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[LabelNetwork], labels[LabelComponent] = network, "istiod"
		o.SetLabels(labels)
		objects = append(objects, o)
	}
	return objects
}

// clone copies a set so that a test can change it.
func clone(s Set) Set {
	out := s
	out.Objects = nil
	for _, o := range s.Objects {
		o.Object = o.Object.DeepCopy()
		out.Objects = append(out.Objects, o)
	}
	return out
}

// without drops objects of a kind and name.
func without(s Set, kind, name string) Set {
	out := clone(s)
	out.Objects = nil
	for _, o := range s.Objects {
		if o.Object.GetKind() != kind || o.Object.GetName() != name {
			out.Objects = append(out.Objects, o)
		}
	}
	out.Digest += "-without-" + name
	return out
}

// object finds one in a set.
func object(t testing.TB, s Set, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range s.Objects {
		if o.Object.GetKind() == kind && o.Object.GetName() == name {
			return o.Object
		}
	}
	for _, o := range s.Secrets {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("the set has no %s %s", kind, name)
	return nil
}

func mustApply(t testing.TB, target *Target, set Set) Result {
	t.Helper()
	result, err := Apply(context.Background(), target, set, quick)
	if err != nil {
		t.Fatalf("apply: %v\nchanges: %v", err, result.Changes)
	}
	return result
}

func mustRemove(t testing.TB, target *Target, set Set) Result {
	t.Helper()
	result, err := Remove(context.Background(), target, set.Mesh, quick)
	if err != nil {
		t.Fatalf("remove: %v\nchanges: %v", err, result.Changes)
	}
	return result
}

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

func subject(apiVersion, kind, namespace, name string) Subject {
	group, _ := schema.ParseGroupVersion(apiVersion)
	return Subject{Group: group.Group, Version: group.Version, Kind: kind, Namespace: namespace, Name: name}
}

func client(t testing.TB, m *member.Member, apiVersion, kind, namespace string) dynamic.ResourceInterface {
	t.Helper()
	mapping, err := m.Mapping(subject(apiVersion, kind, "", "").kind())
	if err != nil {
		t.Fatal(err)
	}
	if namespace == "" {
		return m.Dynamic.Resource(mapping.Resource)
	}
	return m.Dynamic.Resource(mapping.Resource).Namespace(namespace)
}

func tokenRequest() *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{}
}

func jsonPatch(t testing.TB, m *member.Member, apiVersion, kind, namespace, name, body string) {
	t.Helper()
	_, err := client(t, m, apiVersion, kind, namespace).Patch(context.Background(), name, types.JSONPatchType,
		[]byte(body), metav1.PatchOptions{FieldManager: "pilot-discovery"})
	if err != nil {
		t.Fatal(err)
	}
}
