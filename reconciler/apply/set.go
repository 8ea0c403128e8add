package apply

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Names on the members. They are part of the format of what we deliver.
const (
	// FieldManager of every write.
	FieldManager = "isthmus"
	// LabelNetwork is on every object of ours; its value is the network's name.
	LabelNetwork = "isthmus.dev/network"
	// LabelComponent is on every object of ours too.
	LabelComponent = "isthmus.dev/component"
	// AnnotationPrune with the value PruneRelease keeps an object on the member
	// when it leaves the set; only our fields go.
	AnnotationPrune = "isthmus.dev/prune"
	// PruneRelease is the value of AnnotationPrune.
	PruneRelease = "Release"
)

// Mesh names what isthmus runs on a member.
type Mesh struct {
	// Network is the name of the ApplicationNetwork.
	Network string
	// SystemNamespace is the home of the mesh's own objects and of the inventory.
	SystemNamespace string
}

// Set is everything that a member should have, and no less: what an earlier
// inventory lists and the set does not is pruned.
type Set struct {
	Mesh
	// Release, Commit and Digest are recorded in the inventory. Commit is that
	// of the last change: a new commit with the same digest writes nothing.
	Release, Commit, Digest string
	// Objects of the bundle; the system namespace has to be one of them.
	Objects []bundle.Object
	// Secrets made at apply time, never part of a bundle (cacerts). They are
	// delivered before anything else of [bundle.StageControlPlane].
	Secrets []*unstructured.Unstructured
	// MountedCA says that istiod reads its CA from elsewhere than the Secret cacerts:
	// one of ours that is left goes once istiod runs so. Any other set that lacks the
	// CA leaves what there is: somebody else keeps it now, and istiod would sign by
	// one of its own without it.
	MountedCA bool
	// Drift says what becomes of differences that others made.
	Drift Drift
	// Anew tells of objects that whoever reads them does not get by an edit: one of which
	// others have edited the content is deleted, and left to the next set to bring. Nil
	// for none.
	Anew func(Subject) bool
	// Adopt takes over objects that were there before us, in place of refusing
	// with the reason [NotOurs].
	Adopt bool
}

// Defaults of [Options].
const (
	DefaultTimeout        = 15 * time.Minute
	DefaultStageTimeout   = 5 * time.Minute
	DefaultGatewayTimeout = 90 * time.Second
	DefaultGoneTimeout    = 2 * time.Minute
)

// Options of a call. The zero value is usual.
type Options struct {
	// Timeout of the whole call. Zero: [DefaultTimeout].
	Timeout time.Duration
	// StageTimeout is how long a stage may take to become healthy before the
	// call ends with the reason [NotReady]. Zero: [DefaultStageTimeout].
	StageTimeout time.Duration
	// GatewayTimeout is how long Gateways are waited for. They depend on load
	// balancers, which may take any time, and nothing comes after them: those
	// not programmed by then are reported as waiting. Zero: [DefaultGatewayTimeout].
	GatewayTimeout time.Duration
	// GoneTimeout is how long a deleted object may take to go before it is
	// reported as waiting (Apply) or as an error (Remove). Zero: [DefaultGoneTimeout].
	GoneTimeout time.Duration
	// Meanwhile lets a [Correct] run beside the Apply of the same set: what that
	// has not come to is left to it.
	Meanwhile bool
	// Progress, where set, is told about each step; it must not block.
	Progress func(Progress)
}

// Progress of a call.
type Progress struct {
	// Stage at work, empty for what belongs to none.
	Stage bundle.Stage
	// Step that [Leave] begins with; empty for everything else.
	Step LeaveStep
	// Doing in words, such as "apply 12 objects" or "wait for health".
	Doing string
	// Waiting lists what the step waits for.
	Waiting []Waiting
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.Timeout, DefaultTimeout},
		{&o.StageTimeout, DefaultStageTimeout},
		{&o.GatewayTimeout, DefaultGatewayTimeout},
		{&o.GoneTimeout, DefaultGoneTimeout},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return o
}

func (o Options) tell(p Progress) {
	if o.Progress != nil {
		o.Progress(p)
	}
}
