package source

import (
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// Ancestry is how a commit relates to an older one.
type Ancestry int

// The relations.
const (
	// Unrelated: the whole history is known, and the older commit is not in it.
	Unrelated Ancestry = iota
	// Descends: the commit is the older one or has it in its history.
	Descends
	// TooFar: the older commit is not among the last MaxHistory commits, and more
	// is not looked at.
	TooFar
	// unknown: the copy does not reach far enough yet.
	unknown
)

// ancestry looks for older in the history of a commit as far as the copy has it.
// A parent that the copy has is one that the commit really has, since its hash
// says so; where a parent is missing, history goes on elsewhere.
func ancestry(objects storer.EncodedObjectStorer, commit, older plumbing.Hash) (Ancestry, error) {
	answer := Unrelated
	seen := map[plumbing.Hash]bool{commit: true}
	for queue := []plumbing.Hash{commit}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == older {
			return Descends, nil
		}
		c, err := object.GetCommit(objects, queue[0])
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			answer = unknown
			continue
		}
		if err != nil {
			return unknown, fmt.Errorf("read commit %q: %w", queue[0], err)
		}
		for _, parent := range c.ParentHashes {
			if !seen[parent] {
				seen[parent] = true
				queue = append(queue, parent)
			}
		}
	}
	return answer, nil
}
