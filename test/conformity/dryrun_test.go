package conformity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// A server submits objects to an API server as the reconciler does.
type server struct {
	client dynamic.Interface
	mapper meta.ResettableRESTMapper
}

func newServer(t *testing.T, cluster *controlplane.Cluster) *server {
	t.Helper()
	config := cluster.RESTConfig()
	config.QPS = -1
	config.WarningHandlerWithContext = heard{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &server{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))}
}

// heard hands each warning to the request that it is an answer to.
type heard struct{}

type warningsKey struct{}

var _ rest.WarningHandlerWithContext = heard{}

// HandleWarningHeaderWithContext implements [rest.WarningHandlerWithContext].
func (heard) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if warnings, ok := ctx.Value(warningsKey{}).(*[]string); ok {
		*warnings = append(*warnings, text)
	}
}

// dryRun and forReal are what the API server is asked for.
var (
	dryRun  = []string{metav1.DryRunAll}
	forReal []string
)

// submit applies an object, by default as a dry run, and returns what is wrong
// with it: the API server's refusal and every warning.
func (s *server) submit(ctx context.Context, object *unstructured.Unstructured, mode []string) []string {
	kind := object.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return []string{err.Error()}
	}
	namespaced := mapping.Scope.Name() == meta.RESTScopeNameNamespace
	if namespaced != (object.GetNamespace() != "") {
		return []string{fmt.Sprintf("namespace %q, and the kind has namespaces: %t", object.GetNamespace(), namespaced)}
	}
	data, err := object.MarshalJSON()
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	ctx = context.WithValue(ctx, warningsKey{}, &problems)
	force := true
	_, err = s.client.Resource(mapping.Resource).Namespace(object.GetNamespace()).Patch(ctx, object.GetName(), types.ApplyPatchType, data,
		metav1.PatchOptions{DryRun: mode, FieldManager: "isthmus", FieldValidation: metav1.FieldValidationStrict, Force: &force})
	if err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// serve applies what other objects need for a dry run: CRDs, and namespaces by
// name. It returns when the CRDs' kinds are served, with a line for each problem:
// the API server says less to who applies a CRD again.
func (s *server) serve(t *testing.T, objects []sample) []string {
	t.Helper()
	var lines []string
	namespaces := map[string]bool{}
	var kinds []schema.GroupKind
	for _, o := range objects {
		switch kind := o.object.GetKind(); {
		case kind == "CustomResourceDefinition":
			group, _, _ := unstructured.NestedString(o.object.Object, "spec", "group")
			name, _, _ := unstructured.NestedString(o.object.Object, "spec", "names", "kind")
			kinds = append(kinds, schema.GroupKind{Group: group, Kind: name})
		case kind == "Namespace" && !namespaces[o.object.GetName()]:
			namespaces[o.object.GetName()] = true
		default:
			continue
		}
		for _, problem := range s.submit(t.Context(), o.object, forReal) {
			lines = append(lines, o.String()+": "+problem)
		}
	}
	err := rig.Eventually(t.Context(), 30*time.Second, func() error {
		for _, kind := range kinds {
			if _, err := s.mapper.RESTMapping(kind); err != nil {
				s.mapper.Reset()
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(errors.Join(err, errors.New(strings.Join(lines, "\n"))))
	}
	return lines
}

// A sample is an object and the first combination that renders it.
type sample struct {
	object *unstructured.Unstructured
	from   string
}

// String names the object for people.
func (s sample) String() string {
	return fmt.Sprintf("%s %s/%s of %s", s.object.GetKind(), s.object.GetNamespace(), s.object.GetName(), s.from)
}

// check dry-runs all objects at once and returns a line for each problem, sorted.
func (s *server) check(ctx context.Context, objects []sample) []string {
	var (
		mu    sync.Mutex
		lines []string
		group errgroup.Group
	)
	group.SetLimit(16)
	for _, o := range objects {
		group.Go(func() error {
			problems := s.submit(ctx, o.object, dryRun)
			mu.Lock()
			defer mu.Unlock()
			for _, problem := range problems {
				lines = append(lines, o.String()+": "+problem)
			}
			return nil
		})
	}
	_ = group.Wait()
	slices.Sort(lines)
	return lines
}
