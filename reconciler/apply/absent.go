package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// mapping is the resource of a kind, nil for one that the API server does not
// serve. Discovery leaves groups out that do not answer just then, as if they
// were not there; what is taken for gone by that would be forgotten. So the
// group itself is asked, past all caches.
func (t *Target) mapping(ctx context.Context, kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	mapping, err := t.member.AnyMapping(kind)
	if member.ReasonOf(err) != member.KindMissing {
		return mapping, err
	}
	return nil, t.confirmAbsent(ctx, kind)
}

// confirmAbsent fails where the API server serves a kind after all, or cannot say.
func (t *Target) confirmAbsent(ctx context.Context, kind schema.GroupVersionKind) error {
	root, versions := "/api", []string{kind.Version}
	if kind.Group != "" {
		root = path.Join("/apis", kind.Group)
		group := metav1.APIGroup{}
		if _, err := t.ask(ctx, root, &group); err != nil {
			return err
		}
		for _, v := range group.Versions {
			if v.Version != kind.Version {
				versions = append(versions, v.Version)
			}
		}
	}
	for _, version := range versions {
		list := metav1.APIResourceList{}
		there, err := t.ask(ctx, path.Join(root, version), &list)
		if err != nil {
			return err
		}
		if there && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool {
			return r.Kind == kind.Kind && !strings.Contains(r.Name, "/")
		}) {
			return &member.Error{Reason: member.ServerFailing, Doing: fmt.Sprintf(
				"find the kind %s: discovery leaves it out, though the API server serves it", kind.GroupKind())}
		}
	}
	return nil
}

// ask reads one discovery document; false if there is none.
func (t *Target) ask(ctx context.Context, at string, into any) (bool, error) {
	raw, err := t.wire.read(ctx, at)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, member.Wrap("ask for the kinds of "+at, err)
	}
	return true, json.Unmarshal(raw, into)
}

// storesNothing are groups of aggregated APIs that hold no objects: one that
// does not answer hides nothing of ours.
func storesNothing(group string) bool {
	return group == "metrics.k8s.io" || strings.HasSuffix(group, ".metrics.k8s.io")
}

// incomplete is the error of a search that cannot see a group.
func incomplete(silent []schema.GroupVersion) error {
	var names []string
	for _, g := range silent {
		if !storesNothing(g.Group) {
			names = append(names, g.String())
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return &member.Error{Reason: member.ServerFailing, Doing: fmt.Sprintf(
		"look for objects of isthmus: these API groups do not answer, and what they hold cannot be seen: %s (see the APIServices of the cluster)",
		strings.Join(names, ", "))}
}
