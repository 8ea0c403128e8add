package reconciler

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// StateVersion is the version of what isthmus keeps on the hub. It grows when an
// older isthmus would misread or destroy what a newer one wrote.
const StateVersion = 1

// StateName is the name of the ConfigMap with the version of the hub's state.
const StateName = "isthmus-state"

const (
	stateVersionKey = "version"
	stateByKey      = "isthmus"
	// stateLook is how often a running isthmus looks whether a newer one has come.
	stateLook = 10 * time.Second
	// hubRetry is how soon the hub is tried again at a start.
	hubRetry = 2 * time.Second
)

// ErrStateTooNew says that a newer isthmus has worked on this hub.
var ErrStateTooNew = errors.New("the hub's state is of a newer isthmus")

// stateStep is what becomes of the hub's state at a start.
type stateStep int

const (
	stateKeep stateStep = iota
	stateWrite
)

// decideState compares the version of this isthmus with the hub's, nil for none.
func decideState(hub *corev1.ConfigMap, ours int) (stateStep, error) {
	if hub == nil {
		return stateWrite, nil
	}
	found, err := strconv.Atoi(hub.Data[stateVersionKey])
	switch {
	case err != nil:
		return stateKeep, fmt.Errorf("ConfigMap %q has no readable %s (%q): restore it, or delete it if no newer isthmus ever ran here", StateName, stateVersionKey, hub.Data[stateVersionKey])
	case found > ours:
		return stateKeep, fmt.Errorf("%w: it has version %d, this isthmus knows %d: use isthmus %s or newer", ErrStateTooNew, found, ours, hub.Data[stateByKey])
	case found < ours:
		return stateWrite, nil
	}
	return stateKeep, nil
}

// hubState is the version of the hub's state, as one binary sees it.
type hubState struct {
	hub       client.Client
	live      client.Reader
	namespace string
	// version that this binary knows, and its name.
	version int
	binary  string
}

// claim writes our version to the hub, or refuses a hub that has a newer one.
func (s *hubState) claim(ctx context.Context) error {
	found, err := s.read(ctx)
	if err != nil {
		return err
	}
	step, err := decideState(found, s.version)
	if err != nil || step == stateKeep {
		return err
	}
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: StateName}}
	if found != nil {
		want = found.DeepCopy()
	}
	want.Data = map[string]string{stateVersionKey: strconv.Itoa(s.version), stateByKey: s.binary}
	if found == nil {
		err = s.hub.Create(ctx, want, client.FieldOwner(fieldManager))
	} else {
		err = s.hub.Update(ctx, want, client.FieldOwner(fieldManager))
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %q: %w", StateName, err)
	}
	return nil
}

func (s *hubState) read(ctx context.Context) (*corev1.ConfigMap, error) {
	var found corev1.ConfigMap
	err := s.live.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: StateName}, &found)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %q: %w", StateName, err)
	}
	return &found, nil
}

// settle claims the hub, and waits for one that is away.
func (s *hubState) settle(ctx context.Context, log logr.Logger) error {
	for {
		err := s.claim(ctx)
		if err == nil || errors.Is(err, ErrStateTooNew) || ctx.Err() != nil {
			return err
		}
		log.Info("wait for the hub", "error", err.Error())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(hubRetry):
		}
	}
}

// watch ends with an error when a newer isthmus has taken the hub over.
func (s *hubState) watch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(stateLook):
		}
		found, err := s.read(ctx)
		if err != nil || found == nil {
			continue // a hub that is away, or a person's mistake, ends nothing
		}
		if _, err := decideState(found, s.version); errors.Is(err, ErrStateTooNew) {
			return err
		}
	}
}
