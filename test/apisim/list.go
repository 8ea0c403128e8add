package apisim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// phase of played pods, whatever their status says.
const phase = "Running"

// selector says which objects a list or watch is about.
type selector struct {
	labels    labels.Selector
	fields    fields.Selector
	namespace string
}

func selectorOf(r request) (selector, error) {
	s, query := selector{namespace: r.identity.Namespace}, r.URL.Query()
	var err error
	if s.labels, err = labels.Parse(query.Get("labelSelector")); err != nil {
		return s, apierrors.NewBadRequest(err.Error())
	}
	if s.fields, err = fields.ParseSelector(query.Get("fieldSelector")); err != nil {
		return s, apierrors.NewBadRequest(err.Error())
	}
	for _, one := range s.fields.Requirements() {
		ofPods := one.Field == "status.phase" && r.kind.groupResource() == builtinPods
		if one.Field != "metadata.name" && one.Field != "metadata.namespace" && !ofPods {
			return s, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", one.Field))
		}
	}
	return s, nil
}

func (s selector) takes(o *object) bool {
	return o != nil && (s.namespace == "" || s.namespace == o.identity.Namespace) && s.labels.Matches(labels.Set(o.labels)) &&
		(s.fields.Empty() || s.fields.Matches(fields.Set{"metadata.name": o.identity.Name, "metadata.namespace": o.identity.Namespace, "status.phase": phase}))
}

// position is where a list goes on.
type position struct {
	Version uint64
	After   types.NamespacedName
}

func (m *member) list(w http.ResponseWriter, r request) error {
	selected, err := selectorOf(r)
	if err != nil {
		return err
	}
	var from position
	if text := r.URL.Query().Get("continue"); text != "" {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || json.Unmarshal(raw, &from) != nil {
			return apierrors.NewBadRequest("continue key is not valid")
		}
	}
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	m.mu.Lock()
	all := m.sorted(r.kind, r.identity.Namespace)
	meta := metav1.ListMeta{ResourceVersion: strconv.FormatUint(m.version, 10)}
	m.mu.Unlock()
	var body []byte
	taken, last := 0, types.NamespacedName{}
	for _, o := range all {
		if !selected.takes(o) || from.Version != 0 && compare(o.identity, from.After) <= 0 {
			continue
		}
		if limit > 0 && taken == limit {
			meta.Continue = base64.RawURLEncoding.EncodeToString(encode(position{m.version, last}))
			break
		}
		if taken++; taken > 1 {
			body = append(body, ',')
		}
		body, last = o.json(body, r.form), o.identity
	}
	apiVersion, name := r.kind.GroupVersion().String(), r.kind.Kind+"List"
	if r.form == metadataOnly {
		apiVersion, name = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	write(w, http.StatusOK, fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[%s]}`, name, apiVersion, encode(meta), body))
	return nil
}
