package source

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// Reference is what to follow in a repository: the head of a branch, unless one
// of the others is set.
type Reference struct {
	// Branch, whose default is main.
	Branch string
	// Tag to follow.
	Tag string
	// SemVer is a range of versions: the highest tag in it is followed.
	SemVer string
	// Commit to stay at, which has to be in the branch.
	Commit string
}

// Head is what a reference leads to.
type Head struct {
	// Commit is the full hash, 40 hex digits.
	Commit string
	// Name of the branch or tag that leads there.
	Name string
	// Tag says that the name is that of a tag.
	Tag bool
	// Ancestry of the commit as to the one that Fetch was given.
	Ancestry Ancestry
	// tag is the annotated tag, zero for none.
	tag plumbing.Hash
}

// Revision returns the head in Flux's form, "main@sha1:…".
func (h Head) Revision() string { return Revision(h.Name, h.Commit) }

// Words says what leads to the commit, such as `branch "main"`.
func (h Head) Words() string {
	if h.Tag {
		return fmt.Sprintf("tag %q", h.Name)
	}
	return fmt.Sprintf("branch %q", h.Name)
}

// advertised is what the server says of one name: the object it points to and,
// for an annotated tag, the commit behind.
type advertised struct {
	name   string
	tag    bool
	object plumbing.Hash
	commit plumbing.Hash
}

// choose returns what the reference leads to among those that a server has. The
// server's names are compared and parsed, never used as paths.
func (r Reference) choose(all *packp.AdvRefs) (advertised, error) {
	switch {
	case r.Tag != "":
		if found, ok := tagged(all, r.Tag); ok {
			return found, nil
		}
		return advertised{}, &Error{Reason: ReasonTagNotFound, Message: fmt.Sprintf("the repository has no tag %q", r.Tag), Hint: "check spec.tag"}
	case r.SemVer != "":
		return r.highest(all)
	}
	name := "refs/heads/" + r.branch()
	if hash, ok := all.References[name]; ok {
		return advertised{name: r.branch(), object: hash, commit: hash}, nil
	}
	return advertised{}, &Error{Reason: ReasonBranchNotFound, Message: fmt.Sprintf("the repository has no branch %q", r.branch()),
		Hint: "check spec.branch: it may have been deleted or renamed"}
}

// highest returns the tag of the highest version in the range. Of two tags of
// one version, such as 1.2.0 and v1.2.0, the later by name is taken, so that
// every look takes the same.
func (r Reference) highest(all *packp.AdvRefs) (advertised, error) {
	within, err := semver.NewConstraint(r.SemVer)
	if err != nil {
		return advertised{}, &Error{Reason: ReasonInvalidReference, Message: fmt.Sprintf("spec.semver %q is not a range of versions", r.SemVer),
			Hint: `such as ">=1.2.0 <2.0.0"`}
	}
	var name string
	var top *semver.Version
	for ref := range all.References {
		tag, ok := strings.CutPrefix(ref, "refs/tags/")
		if !ok {
			continue
		}
		version, err := semver.NewVersion(tag)
		if err != nil || !within.Check(version) {
			continue
		}
		if top == nil || version.GreaterThan(top) || (version.Equal(top) && tag > name) {
			name, top = tag, version
		}
	}
	if top == nil {
		return advertised{}, &Error{Reason: ReasonTagNotFound, Message: fmt.Sprintf("the repository has no tag in the range %q", r.SemVer),
			Hint: "check spec.semver; versions like v1.2.0-rc.1 are only in ranges that name one"}
	}
	found, _ := tagged(all, name)
	return found, nil
}

func tagged(all *packp.AdvRefs, name string) (advertised, bool) {
	hash, ok := all.References["refs/tags/"+name]
	if !ok {
		return advertised{}, false
	}
	found := advertised{name: name, tag: true, object: hash, commit: hash}
	if peeled, ok := all.Peeled["refs/tags/"+name]; ok {
		found.commit = peeled
	}
	return found, true
}
