package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// The reasons of pushes.
const (
	// ReasonPushRejected: the server does not take the branch.
	ReasonPushRejected Reason = "PushRejected"
	// ReasonBranchMoved: the branch is not where it was looked at.
	ReasonBranchMoved Reason = "BranchMoved"
)

// Branches are those of a repository.
type Branches struct {
	// Default is the one that a clone gets; empty if the server does not say.
	Default string
	// Heads of all, by name.
	Heads map[string]string
}

// Branches asks the server for its branches.
func (r *Repository) Branches(ctx context.Context) (Branches, error) {
	f := &fetcher{Repository: r}
	defer f.close()
	f.meter.allow(r.limits.references)
	var err error
	if f.session, err = connect(ctx, r.options, r.url, &f.meter); err == nil {
		f.refs, err = f.session.AdvertisedReferencesContext(ctx)
	}
	switch {
	case f.meter.over.Load():
		return Branches{}, tooManyReferences(r.limits)
	case err != nil:
		return Branches{}, classify(ctx, err, r.options)
	}
	out := Branches{Heads: map[string]string{}}
	for name, hash := range f.refs.References {
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			out.Heads[branch] = hash.String()
		}
	}
	for _, symbolic := range f.refs.Capabilities.Get(capability.SymRef) {
		if target, ok := strings.CutPrefix(symbolic, "HEAD:refs/heads/"); ok {
			out.Default = target
		}
	}
	return out, nil
}

// Person is who wrote or committed something.
type Person struct {
	Name, Email string
	When        time.Time
}

// Commit is what a commit says of itself.
type Commit struct {
	Hash, Tree        string
	Parents           []string
	Author, Committer Person
	Message           string
}

// Commit returns a commit that was fetched.
func (r *Repository) Commit(hash string) (Commit, error) {
	repository, err := r.open()
	if err != nil {
		return Commit{}, fmt.Errorf("open local copy of %q: %w", r.options.URL, err)
	}
	found, err := repository.CommitObject(plumbing.NewHash(hash))
	if err != nil {
		return Commit{}, fmt.Errorf("read commit %q: %w", hash, err)
	}
	return commitOf(found), nil
}

func commitOf(c *object.Commit) Commit {
	person := func(s object.Signature) Person { return Person{s.Name, s.Email, s.When} }
	out := Commit{Hash: c.Hash.String(), Tree: c.TreeHash.String(), Author: person(c.Author), Committer: person(c.Committer), Message: c.Message}
	for _, parent := range c.ParentHashes {
		out.Parents = append(out.Parents, parent.String())
	}
	return out
}

// Change is what a commit is to change.
type Change struct {
	// Parent is the commit that it is on top of, which was fetched.
	Parent string
	// Files have other content, by names below the fleet's path; each is there, and
	// keeps its mode.
	Files map[string][]byte
	// By is who writes and commits it.
	By Person
	// Message of the commit, which may tell its tree.
	Message func(tree string) string
}

// Draft is a commit that no server has yet.
type Draft struct {
	Commit
	// objects that come with it.
	objects []plumbing.Hash
}

// Draft makes a commit in the local copy.
func (r *Repository) Draft(change Change) (Draft, error) {
	repository, err := r.open()
	if err != nil {
		return Draft{}, fmt.Errorf("open local copy of %q: %w", r.options.URL, err)
	}
	d := drafter{repository: repository}
	parent, err := repository.CommitObject(plumbing.NewHash(change.Parent))
	if err != nil {
		return Draft{}, fmt.Errorf("read commit %q: %w", change.Parent, err)
	}
	files := map[string][]byte{}
	for name, data := range change.Files {
		files[path.Join(path.Clean("/" + r.options.Path)[1:], name)] = data
	}
	tree, err := d.folder(parent.TreeHash, files)
	if err != nil {
		return Draft{}, fmt.Errorf("change commit %q: %w", change.Parent, err)
	}
	by := object.Signature{Name: change.By.Name, Email: change.By.Email, When: change.By.When}
	commit := &object.Commit{Author: by, Committer: by, Message: change.Message(tree.String()), TreeHash: tree, ParentHashes: []plumbing.Hash{parent.Hash}}
	hash, err := d.store(commit.Encode)
	if err != nil {
		return Draft{}, fmt.Errorf("write a commit: %w", err)
	}
	made, err := repository.CommitObject(hash)
	if err != nil {
		return Draft{}, fmt.Errorf("read the commit again: %w", err)
	}
	return Draft{Commit: commitOf(made), objects: d.objects}, nil
}

// drafter writes objects, and knows which are new.
type drafter struct {
	repository *git.Repository
	objects    []plumbing.Hash
}

func (d *drafter) store(encode func(plumbing.EncodedObject) error) (plumbing.Hash, error) {
	encoded := d.repository.Storer.NewEncodedObject()
	if err := encode(encoded); err != nil {
		return plumbing.ZeroHash, err
	}
	hash, err := d.repository.Storer.SetEncodedObject(encoded)
	d.objects = append(d.objects, hash)
	return hash, err
}

// folder writes a folder with other content for files below it.
func (d *drafter) folder(hash plumbing.Hash, files map[string][]byte) (plumbing.Hash, error) {
	tree, err := object.GetTree(d.repository.Storer, hash)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	below := map[string]map[string][]byte{}
	for name, data := range files {
		first, rest, _ := strings.Cut(name, "/")
		if below[first] == nil {
			below[first] = map[string][]byte{}
		}
		below[first][rest] = data
	}
	entries := slices.Clone(tree.Entries)
	for i, entry := range entries {
		inside, concerned := below[entry.Name]
		if !concerned {
			continue
		}
		delete(below, entry.Name)
		data, isFile := inside[""]
		switch {
		case isFile && (entry.Mode == filemode.Regular || entry.Mode == filemode.Executable || entry.Mode == filemode.Deprecated):
			entries[i].Hash, err = d.file(data)
		case !isFile && entry.Mode == filemode.Dir:
			entries[i].Hash, err = d.folder(entry.Hash, inside)
		default:
			err = fmt.Errorf("%q is no file", entry.Name)
		}
		if err != nil {
			return plumbing.ZeroHash, err
		}
	}
	for name := range below {
		return plumbing.ZeroHash, fmt.Errorf("there is no %q", name)
	}
	return d.store((&object.Tree{Entries: entries}).Encode)
}

func (d *drafter) file(data []byte) (plumbing.Hash, error) {
	return d.store(func(o plumbing.EncodedObject) error {
		o.SetType(plumbing.BlobObject)
		w, err := o.Writer()
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return errors.Join(err, w.Close())
	})
}

// Push makes a branch of the server lead to a draft, whose parent the server has. old
// is where the branch was looked at, empty for a branch that is new; if it is elsewhere
// by now, the error has the reason BranchMoved and nothing changes.
func (r *Repository) Push(ctx context.Context, branch, old string, draft Draft) error {
	repository, err := r.open()
	if err != nil {
		return fmt.Errorf("open local copy of %q: %w", r.options.URL, err)
	}
	var pack bytes.Buffer
	if _, err := packfile.NewEncoder(&pack, repository.Storer, false).Encode(draft.objects, 0); err != nil {
		return fmt.Errorf("pack commit %q: %w", draft.Hash, err)
	}
	return r.update(ctx, branch, old, draft.Hash, &pack)
}

// Delete removes a branch from the server that leads to old.
func (r *Repository) Delete(ctx context.Context, branch, old string) error {
	return r.update(ctx, branch, old, "", nil)
}

// update changes where a branch of the server leads to.
func (r *Repository) update(ctx context.Context, branch, old, to string, pack io.Reader) error {
	name := plumbing.NewBranchReferenceName(branch)
	if err := name.Validate(); err != nil {
		return fmt.Errorf("%q is no name of a branch", branch)
	}
	if r.url.Scheme != "https" && r.url.Scheme != "http" {
		return &Error{Reason: ReasonInvalidURL, Message: fmt.Sprintf("branches are pushed over https, and %q is another URL", r.options.URL)}
	}
	inner, err := httpTransport(r.options)
	if err != nil {
		return err
	}
	defer inner.CloseIdleConnections()
	var m meter
	m.allow(r.limits.references)
	endpoint, err := transport.NewEndpoint(r.options.URL)
	if err != nil {
		return &Error{Reason: ReasonInvalidURL, Message: "the repository's URL does not parse"}
	}
	session, err := githttp.NewClient(&http.Client{Transport: meteredTransport{inner, &m}}).NewReceivePackSession(endpoint, r.options.Credentials.method())
	if err != nil {
		return classifyPush(ctx, err, branch, r.options)
	}
	defer session.Close()
	have, err := session.AdvertisedReferencesContext(ctx)
	switch {
	case m.over.Load():
		return tooManyReferences(r.limits)
	case err != nil:
		return classifyPush(ctx, err, branch, r.options)
	case have.References[name.String()] != plumbing.NewHash(old):
		return branchMoved(branch)
	case !have.Capabilities.Supports(capability.ReportStatus), to == "" && !have.Capabilities.Supports(capability.DeleteRefs):
		return &Error{Reason: ReasonPushRejected, Message: fmt.Sprintf("the server of %q does not say what becomes of a push", r.options.URL)}
	}
	request := packp.NewReferenceUpdateRequestFromCapabilities(have.Capabilities)
	// The server compares, too: nobody can move the branch in between.
	request.Commands = []*packp.Command{{Name: name, Old: plumbing.NewHash(old), New: plumbing.NewHash(to)}}
	if pack != nil {
		request.Packfile = io.NopCloser(pack)
	} else if err := request.Capabilities.Set(capability.DeleteRefs); err != nil {
		return err
	}
	report, err := session.ReceivePack(ctx, request)
	if report != nil && report.Error() != nil {
		return rejected(branch, report, r.options.Credentials)
	}
	if err != nil {
		return classifyPush(ctx, err, branch, r.options)
	}
	return nil
}

func branchMoved(branch string) error {
	return &Error{Reason: ReasonBranchMoved, Message: fmt.Sprintf("branch %q has moved meanwhile", branch), Hint: "run this again"}
}

// rejected says why a server did not take a push, in its words.
func rejected(branch string, report *packp.ReportStatus, c Credentials) error {
	text := report.Error().Error()
	for _, word := range []string{"stale info", "failed to lock", "cannot lock ref", "failed to update ref", "fetch first", "reference already exists"} {
		if strings.Contains(text, word) {
			return branchMoved(branch)
		}
	}
	return &Error{Reason: ReasonPushRejected, Message: fmt.Sprintf("branch %q was not taken", branch), Err: plain(errors.New(text), c),
		Hint: "does a rule of the repository protect it, or ask for signed commits or another author?"}
}

// classifyPush turns an error of a push into one that says what to do.
func classifyPush(ctx context.Context, err error, branch string, options Options) error {
	message := fmt.Sprintf("push branch %q to %q", branch, options.URL)
	var answered *githttp.Err
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed), errors.Is(err, transport.ErrInvalidAuthMethod):
		return &Error{Reason: ReasonCredentialsRejected, Message: message + ": the token may not do this"}
	case errors.As(err, &answered):
		return &Error{Reason: ReasonPushRejected, Message: fmt.Sprintf("%s: %d %s", message, answered.StatusCode(), strings.ToLower(http.StatusText(answered.StatusCode())))}
	}
	var known *Error
	if err = classify(ctx, err, options); errors.As(err, &known) && known.Reason == ReasonUnreachable {
		known.Message = message
	}
	return err
}
