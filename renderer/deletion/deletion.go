package deletion

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

const (
	// fewObjects may go whatever their share: one of four objects is 25 % and no
	// mass deletion. A mesh is about fifty objects, so of a whole one a share of
	// 20 % is more than this.
	fewObjects = 5
	// named are as many as a message names.
	named = 5
)

// object that a commit deletes from one member.
type object struct {
	bundle.Identity
	member string
}

// protected kinds take along what is not ours: a namespace all that is in it, a
// CRD all objects of its kind, the CA every workload's identity.
func (o object) protected() bool {
	switch o.Kind {
	case "Namespace":
		return o.Group == ""
	case "CustomResourceDefinition":
		return true
	case "Secret":
		return o.Group == "" && o.Name == "cacerts"
	}
	return false
}

func (o object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return o.Kind + " " + name + " on " + o.member
}

// Deletions are the objects that a commit deletes from the members of one network.
type Deletions struct {
	objects []object
	// had is how many objects each member that stays had.
	had map[string]int
}

// Of returns the deletions between the bundles of two commits, by member, in one
// network. A member that goes leaves by a plan of its own, and one that is new has
// nothing to lose. What is released when it leaves the set is not deleted.
func Of(network string, before, after map[string]bundle.Bundle) Deletions {
	d := Deletions{had: map[string]int{}}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		was, is := before[name], after[name]
		if was.Network != network || is.Network != network {
			continue
		}
		d.had[name] = len(was.Objects)
		if was.Digest != "" && was.Digest == is.Digest {
			continue
		}
		stays := map[bundle.Identity]bool{}
		for _, o := range is.Objects {
			stays[bundle.IdentityOf(o.Object)] = true
		}
		for _, o := range was.Objects {
			if id := bundle.IdentityOf(o.Object); !stays[id] && !Released(o.Object) {
				d.objects = append(d.objects, object{id, name})
			}
		}
	}
	slices.SortFunc(d.objects, func(a, b object) int {
		// Protected ones first: they are what a person has to see.
		return cmp.Or(first(a.protected(), b.protected()), cmp.Compare(a.member, b.member), cmp.Compare(a.String(), b.String()), cmp.Compare(a.Group, b.Group))
	})
	return d
}

// first sorts what is so before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// Released tells of objects that stay on a member that stays, when they leave its set:
// those that say so, and the CRDs of the Gateway API.
func Released(o *unstructured.Unstructured) bool {
	return o.GetAnnotations()[bundle.PruneAnnotation] == bundle.PruneRelease ||
		o.GetLabels()[bundle.ComponentLabel] == string(bundle.ComponentGatewayAPI)
}

// Count of the objects.
func (d Deletions) Count() int { return len(d.objects) }

// Excess says why deletions are too many, by the percentage that the guard lets pass;
// empty where they are not. The network is judged like one large member, so that many
// small losses are seen too.
func (d Deletions) Excess(percent int) string {
	if len(d.objects) == 0 {
		return ""
	}
	if d.objects[0].protected() {
		return fmt.Sprintf("%s would go with what is in it or of it", d.objects[0])
	}
	lost := map[string]int{}
	total := 0
	for _, o := range d.objects {
		lost[o.member]++
	}
	for _, name := range slices.Sorted(maps.Keys(d.had)) {
		total += d.had[name]
		if TooMany(lost[name], d.had[name], percent) {
			return fmt.Sprintf("on %s %d of %d, the guard lets %d %% pass", name, lost[name], d.had[name], percent)
		}
	}
	if TooMany(len(d.objects), total, percent) {
		return fmt.Sprintf("on all its members %d of %d, the guard lets %d %% pass", len(d.objects), total, percent)
	}
	return ""
}

// TooMany compares what is lost by count and by share. A guard of 0 % lets nothing pass.
func TooMany(lost, had, percent int) bool {
	if percent == 0 {
		return lost > 0
	}
	return lost > fewObjects && lost*100 > had*percent
}

// Token names deletions, to be said as meant in spec.deletionGuard.allow: the same ones
// have the same, others another. One that is left in the file does no harm.
func (d Deletions) Token() string {
	sum := sha256.New()
	for _, o := range d.objects {
		_, _ = fmt.Fprintf(sum, "%q %q %q %q %q\n", o.member, o.Group, o.Kind, o.Namespace, o.Name)
	}
	return "objects-" + hex.EncodeToString(sum.Sum(nil))[:12]
}

// String names the first few.
func (d Deletions) String() string {
	var names []string
	for _, o := range d.objects[:min(named, len(d.objects))] {
		names = append(names, o.String())
	}
	if more := len(d.objects) - named; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
