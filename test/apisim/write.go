package apisim

import (
	"fmt"
	"net/http"
	"strconv"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func (m *member) write(w http.ResponseWriter, r request, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Method == http.MethodDelete {
		return m.delete(w, r, body)
	}
	if r.Method == http.MethodPost {
		var o metav1.PartialObjectMetadata
		if err := readJSON(body, &o); err != nil {
			return err
		}
		r.identity.Name = o.Name
	}
	live := m.find(r.kind, r.identity)
	if err := m.home(r); err != nil {
		return err
	}
	after, err := m.written(r, live, body)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if live == nil {
		code = http.StatusCreated
	}
	write(w, code, after.json(nil, r.form))
	return nil
}

// home says whether the namespace of the object is there.
func (m *member) home(r request) error {
	namespaces := m.objects[builtinNamespaces]
	if r.kind.namespaced && namespaces[types.NamespacedName{Name: r.identity.Namespace}] == nil {
		return apierrors.NewNotFound(builtinNamespaces, r.identity.Namespace)
	}
	return nil
}

// written makes what the call asks for, unless it is a dry run.
func (m *member) written(r request, live *object, body []byte) (*object, error) {
	after := &unstructured.Unstructured{}
	switch {
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == string(types.ApplyYAMLPatchType):
		if err := yaml.Unmarshal(body, &after.Object); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
		}
		return m.apply(r, live, after)
	case r.Method == http.MethodPost && live != nil:
		return nil, apierrors.NewAlreadyExists(r.kind.groupResource(), r.identity.Name)
	case r.Method != http.MethodPost && live == nil:
		return nil, apierrors.NewNotFound(r.kind.groupResource(), r.identity.Name)
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == string(types.MergePatchType):
		merged, err := jsonpatch.MergePatch(live.json(nil, whole), body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		body = merged
	case r.Method == http.MethodPatch:
		return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", r.kind.groupResource(), r.identity.Name,
			"only apply and merge patches are played", 0, true)
	}
	if err := after.UnmarshalJSON(body); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := precondition(r, live, after.GetUID(), after.GetResourceVersion()); err != nil {
		return nil, err
	}
	after.SetNamespace(r.identity.Namespace)
	query := r.URL.Query()
	try := query.Get("dryRun") != ""
	// What nothing keeps any more goes, and is not written before.
	goes := live != nil && live.deleted != 0 && len(after.GetFinalizers()) == 0
	made, err := m.change(r.kind, r.identity, live, after, query.Get("fieldManager"), try || goes)
	if err == nil && goes && !try {
		m.remove(live)
	}
	return made, err
}

func (m *member) apply(r request, live *object, patch *unstructured.Unstructured) (*object, error) {
	query := r.URL.Query()
	manager := query.Get("fieldManager")
	if manager == "" {
		return nil, apierrors.NewBadRequest("fieldManager is required for apply patch")
	}
	if patch.GetName() != r.identity.Name {
		return nil, apierrors.NewBadRequest("the name of the object does not match the name on the URL")
	}
	if err := precondition(r, live, patch.GetUID(), patch.GetResourceVersion()); err != nil {
		return nil, err
	}
	patch.SetUID("")
	patch.SetResourceVersion("")
	patch.SetNamespace(r.identity.Namespace)
	if r.kind.generation {
		delete(patch.Object, "status") // written by its own subresource only
	}
	var before *content
	if live != nil {
		before = live.content
	}
	result := m.simulator.merger.apply(before, r.kind, patch, manager, query.Get("force") == "true")
	switch {
	case result.err != nil:
		return nil, result.err
	case result.same:
		return live, nil
	case query.Get("dryRun") != "":
		return m.made(r.kind, r.identity, live, result.content, m.timesOf(live, result.times)), nil
	}
	return m.put(r.kind, r.identity, live, result.content, m.timesOf(live, result.times)), nil
}

// precondition compares uid and version that a call names with what is there.
func precondition(r request, live *object, uid types.UID, version string) error {
	conflict := func(format string, args ...any) error {
		return apierrors.NewConflict(r.kind.groupResource(), r.identity.Name, fmt.Errorf(format, args...))
	}
	switch {
	case live == nil && uid != "":
		return conflict("uid mismatch: the provided object specified uid %s, and no existing object was found", uid)
	case live != nil && uid != "" && uid != live.uid && r.Method == http.MethodPatch:
		return apierrors.NewInvalid(r.kind.GroupVersionKind.GroupKind(), r.identity.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable"),
		})
	case live != nil && uid != "" && uid != live.uid:
		return conflict("Precondition failed: UID in precondition: %s, UID in object meta: %s", uid, live.uid)
	case live != nil && version != "" && version != strconv.FormatUint(live.version, 10):
		return conflict("the object has been modified; please apply your changes to the latest version and try again")
	}
	return nil
}

func (m *member) delete(w http.ResponseWriter, r request, body []byte) error {
	live := m.find(r.kind, r.identity)
	if live == nil {
		return apierrors.NewNotFound(r.kind.groupResource(), r.identity.Name)
	}
	var options metav1.DeleteOptions
	if len(body) > 0 {
		if err := readJSON(body, &options); err != nil {
			return err
		}
	}
	if p := options.Preconditions; p != nil {
		var uid types.UID
		var version string
		if p.UID != nil {
			uid = *p.UID
		}
		if p.ResourceVersion != nil {
			version = *p.ResourceVersion
		}
		if err := precondition(r, live, uid, version); err != nil {
			return err
		}
	}
	if r.URL.Query().Get("dryRun") == "" {
		kept, err := m.end(r, live)
		if err != nil {
			return err
		}
		if kept != nil {
			write(w, http.StatusOK, kept.json(nil, r.form))
			return nil
		}
	}
	write(w, http.StatusOK, encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: r.identity.Name, Group: r.kind.Group, Kind: r.kind.resource, UID: live.uid},
	}))
	return nil
}

// end removes an object, or marks it if finalizers keep it, and returns what stays.
func (m *member) end(r request, live *object) (*object, error) {
	o, err := live.content.decode()
	if err != nil {
		return nil, err
	}
	if len(o.GetFinalizers()) == 0 {
		m.remove(live)
		return nil, nil
	}
	if live.deleted != 0 {
		return live, nil
	}
	deleted := standIn(slotDeleted)
	o.SetDeletionTimestamp(&deleted)
	o.SetDeletionGracePeriodSeconds(new(int64))
	if r.kind.generation {
		o.SetGeneration(o.GetGeneration() + 1)
	}
	c, err := abstract(o)
	if err != nil {
		return nil, err
	}
	marked := *live
	marked.deleted = now()
	return m.put(r.kind, r.identity, &marked, c, live.times), nil
}
