package apply

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// wave orders the objects of one stage.
type wave int

const (
	// waveSecrets: what istiod reads once, at its start.
	waveSecrets wave = iota
	// waveBase: accounts, roles, configuration, services, and everything else.
	waveBase
	// waveBindings: they need the roles that they name.
	waveBindings
	// waveWorkloads: they need all of the above.
	waveWorkloads
	// waveWebhooks: the API server asks them about other people's objects, so
	// they come when the stage is healthy, and go before it goes. What comes with
	// a policy is judged by the one that was there before.
	waveWebhooks
)

var waves = []wave{waveSecrets, waveBase, waveBindings, waveWorkloads, waveWebhooks}

func waveOf(s Subject) wave {
	switch s.Kind {
	case "RoleBinding", "ClusterRoleBinding":
		return waveBindings
	case "Deployment", "DaemonSet", "StatefulSet", "Job", "CronJob", "HorizontalPodAutoscaler", "PodDisruptionBudget":
		return waveWorkloads
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding":
		return waveWebhooks
	}
	return waveBase
}

// isInert reports whether an object does nothing of itself: others read it or are
// allowed by it. Where there was none it may come before its stage.
func (s Subject) isInert() bool {
	switch s.groupKind() {
	case schema.GroupKind{Kind: "ServiceAccount"}, schema.GroupKind{Kind: "ConfigMap"},
		schema.GroupKind{Kind: "Secret"}, schema.GroupKind{Kind: "Service"}:
		return true
	}
	return s.Group == "rbac.authorization.k8s.io"
}

// wanted is one object of a set, ready to be sent.
type wanted struct {
	Subject
	stage bundle.Stage
	wave  wave
	// hash of the body for the inventory; empty for Secrets.
	hash string
	// secretHash is keyed and never leaves the process; set for every object.
	secretHash [16]byte
	object     *unstructured.Unstructured
	// trust: it is a Secret of the set, what workloads' identities hang on.
	trust bool
	// report: what others change is reported and left.
	report bool
	// anew: when others have edited it, it is deleted, and comes with another set.
	anew bool
	// others are the rules about fields that others may take.
	others []OthersField
}

// body of the apply. An object that was there before us says so itself, so
// that it is kept even if the inventory is lost.
func (w wanted) body(keep bool) ([]byte, error) {
	if !keep || w.object.GetAnnotations()[AnnotationPrune] != "" {
		return json.Marshal(w.object)
	}
	marked := w.object.DeepCopy()
	annotations := marked.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationPrune] = PruneRelease
	marked.SetAnnotations(annotations)
	return json.Marshal(marked)
}

// prepare checks a set and makes its objects ready. It refuses what would be
// dangerous to believe: an empty set would prune everything.
func prepare(set Set, key []byte) ([]wanted, error) {
	if set.Network == "" || set.SystemNamespace == "" {
		return nil, invalidSet("it names no network or no system namespace")
	}
	all := make([]wanted, 0, len(set.Objects)+len(set.Secrets))
	for _, o := range set.Objects {
		s := SubjectOf(o.Object)
		if !slices.Contains(bundle.Stages, o.Stage) {
			return nil, invalidSet("%s is in no known stage", s)
		}
		if o.Object.GetLabels()[LabelNetwork] != set.Network {
			return nil, invalidSet("%s does not carry the label %s=%s", s, LabelNetwork, set.Network)
		}
		all = append(all, wanted{
			Subject: s, stage: o.Stage, wave: waveOf(s), object: o.Object,
			report: set.Drift.reports(o.Object), others: set.Drift.othersFields(s),
		})
	}
	for _, o := range set.Secrets {
		all = append(all, wanted{
			Subject: SubjectOf(o), stage: bundle.StageControlPlane, wave: waveSecrets, object: labelled(o, set.Network), trust: true,
			anew: set.Anew != nil && set.Anew(SubjectOf(o)),
		})
	}
	if err := checkSubjects(all, set.SystemNamespace); err != nil {
		return nil, err
	}
	for i := range all {
		if err := all[i].sum(key); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func checkSubjects(all []wanted, systemNamespace string) error {
	seen := map[Subject]bool{}
	for _, w := range all {
		if seen[w.key()] {
			return invalidSet("%s is there twice", w.Subject)
		}
		if w.Name == "" || w.Kind == "" || w.Version == "" {
			return invalidSet("an object of kind %q has no name or version", w.Kind)
		}
		seen[w.key()] = true
	}
	if !seen[namespaceSubject(systemNamespace).key()] {
		return invalidSet("it lacks the system namespace %q", systemNamespace)
	}
	return nil
}

func invalidSet(format string, args ...any) error {
	return &member.Error{Reason: InvalidSet, Doing: "check the set: " + fmt.Sprintf(format, args...)}
}

func labelled(o *unstructured.Unstructured, network string) *unstructured.Unstructured {
	out := o.DeepCopy()
	labels := out.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelNetwork] = network
	if labels[LabelComponent] == "" {
		labels[LabelComponent] = "trust"
	}
	out.SetLabels(labels)
	return out
}

func (w *wanted) sum(key []byte) error {
	body, err := w.body(false)
	if err != nil {
		return invalidSet("%s cannot be encoded", w.Subject)
	}
	keyed := hmac.New(sha256.New, key)
	keyed.Write(body)
	w.secretHash = [16]byte(keyed.Sum(nil)[:16])
	if !w.isSecret() {
		sum := sha256.Sum256(body)
		w.hash = hex.EncodeToString(sum[:16])
	}
	return nil
}

func (s Subject) isSecret() bool    { return s.Group == "" && s.Kind == "Secret" }
func (s Subject) isNamespace() bool { return s.Group == "" && s.Kind == "Namespace" }
func (s Subject) isCRD() bool {
	return s.Group == "apiextensions.k8s.io" && s.Kind == "CustomResourceDefinition"
}

func namespaceSubject(name string) Subject {
	return Subject{Version: "v1", Kind: "Namespace", Name: name}
}
