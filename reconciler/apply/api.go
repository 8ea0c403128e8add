package apply

import (
	"context"
	"errors"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// Target is one member with what this process knows about it. It is made once
// and lives as long as the member; safe for concurrent use.
type Target struct {
	member *member.Member
}

// NewTarget of a member, with nothing known yet: the first call compares all.
func NewTarget(m *member.Member) *Target { return &Target{member: m} }

// Forget drops what is known, so that the next call compares everything.
func (t *Target) Forget() {}

var errUnbuilt = errors.New("not built")

// Apply brings a member to a set. It blocks until every stage is healthy or the
// options' times are over.
func Apply(ctx context.Context, t *Target, set Set, o Options) (Result, error) {
	return Result{}, errUnbuilt
}

// Correct puts single objects of a set back, those that [Watch] named, without
// waiting for health. Subjects that are not in the set are ignored.
func Correct(ctx context.Context, t *Target, set Set, subjects []Subject, o Options) (Result, error) {
	return Result{}, errUnbuilt
}

// Watch reports objects of ours that somebody else changed or deleted, until
// ctx is done. Kinds follow the inventory of t by themselves. Changes within
// 50 ms are reported together; our own writes are not reported.
func Watch(ctx context.Context, t *Target, mesh Mesh, changed func([]Subject)) error {
	return errUnbuilt
}

// Remove takes everything of isthmus off a member, in reverse order, and
// verifies that nothing is left. It can be called again at any point.
func Remove(ctx context.Context, t *Target, mesh Mesh, o Options) (Result, error) {
	return Result{}, errUnbuilt
}
