package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// metadataOnly asks for an object's metadata instead of the object: smaller,
// and what a Secret holds never arrives.
const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// metadataList is metadataOnly for lists.
const metadataList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

// wire makes the few kinds of calls that the engine needs. It is used instead
// of the typed clients because server-side apply tells only by its status code
// whether it created the object.
type wire struct {
	rest rest.Interface
}

func pathOf(m *meta.RESTMapping, s Subject) string {
	return path.Join(collectionPath(m.Resource, namespaceOf(m, s)), s.Name)
}

func namespaceOf(m *meta.RESTMapping, s Subject) string {
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		return s.Namespace
	}
	return ""
}

func collectionPath(r schema.GroupVersionResource, namespace string) string {
	root := path.Join("/apis", r.Group, r.Version)
	if r.Group == "" {
		root = path.Join("/api", r.Version)
	}
	if namespace != "" {
		root = path.Join(root, "namespaces", namespace)
	}
	return path.Join(root, r.Resource)
}

// dryRun says whether a write is only tried.
type dryRun bool

// rivalry says what becomes of fields that somebody else owns and we want to be
// otherwise.
type rivalry string

const (
	// takeOver: what the set says about a field of ours holds, whoever wrote it.
	takeOver rivalry = "true"
	// yield: it is theirs, and the apply is refused.
	yield rivalry = "false"
)

// apply makes a server-side apply and says whether the object is new.
func (w wire) apply(ctx context.Context, at string, body []byte, try dryRun, fields rivalry) (*metav1.PartialObjectMetadata, bool, error) {
	request := w.rest.Patch(types.ApplyYAMLPatchType).AbsPath(at).
		Param("fieldManager", FieldManager).
		Param("force", string(fields)).
		SetHeader("Accept", metadataOnly).Body(body)
	if try {
		request = request.Param("dryRun", metav1.DryRunAll)
	}
	result := request.Do(ctx)
	status := 0
	result.StatusCode(&status)
	applied, err := decode[metav1.PartialObjectMetadata](result)
	return applied, status == http.StatusCreated, err
}

func (w wire) get(ctx context.Context, at string) (*metav1.PartialObjectMetadata, error) {
	return again(ctx, func() (*metav1.PartialObjectMetadata, error) {
		return decode[metav1.PartialObjectMetadata](w.rest.Get().AbsPath(at).SetHeader("Accept", metadataOnly).Do(ctx))
	})
}

// again repeats a read whose answer broke off, or was an error of the API server's
// own, twice: one such answer among hundreds must not undo the others.
func again[T any](ctx context.Context, read func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		out, err := read()
		if err == nil || try == 2 || !passes(err) || pause(ctx, 100*time.Millisecond<<try) != nil {
			return out, err
		}
	}
}

// passes reports whether another try may well end otherwise, and soon: not what
// took its whole time, and not what our own side has refused.
func passes(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.As(err, new(*member.Error)) {
		return false
	}
	reason := member.ReasonOf(err)
	return reason == member.Unreachable || reason == member.ServerFailing
}

// selection says which objects of a kind are meant; the zero value means all.
type selection struct {
	namespace      string
	labels, fields string
}

// list reads the metadata of all objects of a kind that are selected, or none:
// where the pages expire under it, it reads all at once.
func (w wire) list(ctx context.Context, r schema.GroupVersionResource, of selection) ([]metav1.PartialObjectMetadata, error) {
	items, _, err := w.listAt(ctx, r, of)
	return items, err
}

// listAt is list, with the version from which a watch goes on.
func (w wire) listAt(ctx context.Context, r schema.GroupVersionResource, of selection) (items []metav1.PartialObjectMetadata, version string, err error) {
	const page = "500"
	for next, limit := "", page; ; {
		request := w.collection(r, of).SetHeader("Accept", metadataList)
		for name, value := range map[string]string{"limit": limit, "continue": next} {
			if value != "" {
				request = request.Param(name, value)
			}
		}
		list, err := again(ctx, func() (*metav1.PartialObjectMetadataList, error) {
			return decode[metav1.PartialObjectMetadataList](request.Do(ctx))
		})
		if apierrors.IsResourceExpired(err) && next != "" {
			items, next, limit = nil, "", ""
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if next == "" {
			version = list.ResourceVersion // all pages are of the first one's
		}
		items = append(items, list.Items...)
		if next = list.Continue; next == "" {
			return items, version, nil
		}
	}
}

// watch follows what is selected from a version on, until the time is over. The
// answer is a line of JSON for each event; it is not compressed, because what
// unpacks it would be held as long as the watch.
func (w wire) watch(ctx context.Context, r schema.GroupVersionResource, of selection, version string, timeout time.Duration) (io.ReadCloser, error) {
	return w.collection(r, of).SetHeader("Accept", metadataOnly).SetHeader("Accept-Encoding", "identity").
		Param("watch", "true").Param("allowWatchBookmarks", "true").Param("resourceVersion", version).
		Param("timeoutSeconds", strconv.Itoa(int(timeout.Seconds()))).Stream(ctx)
}

// collection is a request for what is selected of a kind.
func (w wire) collection(r schema.GroupVersionResource, of selection) *rest.Request {
	request := w.rest.Get().AbsPath(collectionPath(r, of.namespace))
	for name, value := range map[string]string{"labelSelector": of.labels, "fieldSelector": of.fields} {
		if value != "" {
			request = request.Param(name, value)
		}
	}
	return request
}

// delete deletes exactly the object that was looked at.
func (w wire) delete(ctx context.Context, at string, uid types.UID) error {
	background := metav1.DeletePropagationBackground
	body, err := json.Marshal(metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions:     &metav1.Preconditions{UID: &uid},
		PropagationPolicy: &background,
	})
	if err != nil {
		return err
	}
	return w.rest.Delete().AbsPath(at).SetHeader("Accept", metadataOnly).
		SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
}

// merge makes a JSON merge patch.
func (w wire) merge(ctx context.Context, at string, body []byte) error {
	return w.rest.Patch(types.MergePatchType).AbsPath(at).Param("fieldManager", FieldManager).
		SetHeader("Accept", metadataOnly).Body(body).Do(ctx).Error()
}

// put creates (without a resourceVersion) or replaces an object of ours that
// is not applied but owned whole.
func (w wire) put(ctx context.Context, collection, name string, body []byte, fresh bool) (*metav1.PartialObjectMetadata, error) {
	request := w.rest.Put().AbsPath(path.Join(collection, name))
	if fresh {
		request = w.rest.Post().AbsPath(collection)
	}
	return decode[metav1.PartialObjectMetadata](request.Param("fieldManager", FieldManager).
		SetHeader("Accept", metadataOnly).SetHeader("Content-Type", "application/json").Body(body).Do(ctx))
}

// read returns a whole object, as the API server has it.
func (w wire) read(ctx context.Context, at string) ([]byte, error) {
	return again(ctx, func() ([]byte, error) {
		return w.rest.Get().AbsPath(at).SetHeader("Accept", "application/json").Do(ctx).Raw()
	})
}

func decode[T any](result rest.Result) (*T, error) {
	if err := result.Error(); err != nil {
		return nil, err
	}
	raw, err := result.Raw()
	if err != nil {
		return nil, err
	}
	into := new(T)
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("read the answer of the API server: %w", err)
	}
	return into, nil
}
