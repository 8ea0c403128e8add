package status

import (
	"cmp"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rollout is what is known of the way of one commit to the members.
type Rollout struct {
	// Commit in question.
	Commit string
	// Failure says why it was not accepted; nil if it was.
	Failure *Failure
	// Rings in the order of the rollout; members of none are in one without a name.
	Rings []RingRollout
}

// RingRollout is one ring.
type RingRollout struct {
	Name    string
	Members []MemberSummary
}

// CommitState is how far a commit is.
type CommitState string

// The states of a commit.
const (
	CommitPending CommitState = "Pending"
	CommitDone    CommitState = "Done"
	CommitFailed  CommitState = "Failed"
)

// CommitStatus is what is told of a commit where it was reviewed: of all of it, or of
// one ring.
type CommitStatus struct {
	// Ring that it is of; empty for the whole.
	Ring  string
	State CommitState
	// Description is one line.
	Description string
}

// Statuses returns what is told of the commit: of the whole first, then of each ring
// with members. A commit that was not accepted has the whole only.
func (r Rollout) Statuses() []CommitStatus {
	if r.Failure != nil {
		return []CommitStatus{{State: CommitFailed, Description: "not accepted: " + r.Failure.Message}}
	}
	var all []MemberSummary
	var rings []CommitStatus
	for _, ring := range r.Rings {
		all = append(all, ring.Members...)
		if ring.Name != "" && len(ring.Members) > 0 {
			rings = append(rings, r.of(ring.Name, ring.Members))
		}
	}
	return append([]CommitStatus{r.of("", all)}, rings...)
}

// of says how far some members are. One that is not ready is named, whatever commit
// it has: nobody should take a commit for done beside it.
func (r Rollout) of(ring string, members []MemberSummary) CommitStatus {
	done, failed := 0, 0
	var first MemberSummary
	for _, m := range members {
		switch {
		case m.Ready == metav1.ConditionFalse:
			if failed++; failed == 1 {
				first = m
			}
		case m.Ready == metav1.ConditionTrue && m.Applied == r.Commit:
			done++
		}
	}
	out := CommitStatus{Ring: ring, State: CommitPending, Description: fmt.Sprintf("%d of %d members have it", done, len(members))}
	switch {
	case failed > 0:
		out.State = CommitFailed
		out.Description = fmt.Sprintf("%d of %d members not ready: %s: %s", failed, len(members), first.Name, cmp.Or(first.Message, "no message"))
	case done == len(members):
		out.State = CommitDone
	}
	return out
}
