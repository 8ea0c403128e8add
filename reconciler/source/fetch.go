package source

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// fetcher is one look at a server.
type fetcher struct {
	*Repository
	copy    *git.Repository
	meter   meter
	session session
	refs    *packp.AdvRefs
	head    Head
	// received is what all requests of this look brought, in bytes.
	received int64
}

// advertised asks the server for its references and chooses one.
func (f *fetcher) advertised(ctx context.Context) (advertised, error) {
	f.close()
	f.meter.allow(f.limits.references)
	var err error
	if f.session, err = connect(ctx, f.options, f.url, &f.meter); err == nil {
		f.refs, err = f.session.AdvertisedReferencesContext(ctx)
	}
	if f.meter.over.Load() {
		return advertised{}, tooManyReferences(f.limits)
	}
	if err != nil {
		return advertised{}, err
	}
	return f.options.Reference.choose(f.refs)
}

func (f *fetcher) close() {
	if f.session != nil {
		_ = f.session.Close()
		f.session = nil
	}
}

// maxRounds of requests in one look: deepening takes seven, and a reference that
// moves meanwhile some more.
const maxRounds = 20

// bring fetches until the copy has the commit whole and can tell how it relates
// to the accepted one: the newest commits first, then four times as far back at
// each step, up to the limit.
func (f *fetcher) bring(ctx context.Context, tip advertised, accepted string) error {
	depth := 1
	if accepted != "" || f.options.Reference.Commit != "" {
		depth = 2
	}
	bounded := marked(f.copy, refTooFar) == tip.object
	for round := range maxRounds {
		settled, err := f.settle(tip, accepted, bounded)
		if err != nil {
			return err
		}
		if settled {
			return f.remember(ctx, tip, accepted, round > 0, bounded)
		}
		if round > 0 {
			// A session is good for one request, and the reference may have moved.
			if tip, err = f.advertised(ctx); err != nil {
				return err
			}
		}
		if err := f.transfer(ctx, tip, depth); err != nil {
			return err
		}
		bounded = depth >= f.limits.history
		depth = min(depth*4, f.limits.history)
	}
	return malformed(errors.New("the objects asked for did not come, or the reference moved all the time"))
}

// settle reports whether the copy has what the tip leads to and can tell how
// that relates to the accepted commit; if so, it sets head. bounded says that
// the history reaches back as far as it ever will.
func (f *fetcher) settle(tip advertised, accepted string, bounded bool) (bool, error) {
	commit, err := commitBehind(f.copy, tip.object)
	if err != nil {
		return false, err
	}
	if !complete(f.copy, commit) {
		return false, nil
	}
	f.head = Head{Commit: commit.String(), Name: tip.name, Tag: tip.tag, Ancestry: Descends}
	if commit != tip.object {
		f.head.tag = tip.object
	}
	if pinned := f.options.Reference.Commit; pinned != "" {
		related, err := f.related(commit, pinned, bounded)
		switch {
		case err != nil || related == unknown:
			return false, err
		case related != Descends:
			return false, notInBranch(pinned, tip.name, related, f.limits)
		}
		f.head.Commit = pinned
	}
	if accepted == "" {
		return true, nil
	}
	f.head.Ancestry, err = f.related(plumbing.NewHash(f.head.Commit), accepted, bounded)
	return err == nil && f.head.Ancestry != unknown, err
}

func (f *fetcher) related(commit plumbing.Hash, older string, bounded bool) (Ancestry, error) {
	related, err := ancestry(f.copy.Storer, commit, plumbing.NewHash(older))
	if err != nil {
		return unknown, fmt.Errorf("%w: %w", errBrokenCopy, err)
	}
	if related == unknown && bounded {
		related = TooFar
	}
	return related, nil
}

func notInBranch(commit, branch string, related Ancestry, l limits) error {
	where := fmt.Sprintf("not in branch %q", branch)
	if related == TooFar {
		where = fmt.Sprintf("not among the last %d commits of branch %q", l.history, branch)
	}
	return &Error{Reason: ReasonCommitNotInBranch, Message: fmt.Sprintf("commit %q is %s", commit, where),
		Hint: "check spec.commit and spec.branch"}
}

// remember marks what the look led to, so that the next one need not ask for it,
// and makes the copy smaller when it has grown.
func (f *fetcher) remember(ctx context.Context, tip advertised, accepted string, changed, bounded bool) error {
	marks := map[plumbing.ReferenceName]plumbing.Hash{refTip: tip.object, refHead: plumbing.NewHash(f.head.Commit)}
	if old := plumbing.NewHash(accepted); accepted != "" && complete(f.copy, old) {
		marks[refAccepted] = old
	}
	if bounded {
		marks[refTooFar] = tip.object
	}
	for name, hash := range marks {
		if marked(f.copy, name) == hash {
			continue
		}
		if err := mark(f.copy, name, hash); err != nil {
			return fmt.Errorf("write copy of %q: %w", f.options.URL, err)
		}
	}
	if !changed {
		return nil
	}
	return f.tidy(ctx, f.copy)
}

func (f *fetcher) transfer(ctx context.Context, tip advertised, depth int) error {
	request, err := f.request(tip, depth)
	if err != nil {
		return err
	}
	f.meter.allow(f.limits.transfer - f.received)
	response, err := f.session.UploadPack(ctx, request)
	if err == nil {
		var from io.Reader = response
		switch {
		case request.Capabilities.Supports(capability.Sideband64k):
			from = sideband.NewDemuxer(sideband.Sideband64k, response)
		case request.Capabilities.Supports(capability.Sideband):
			from = sideband.NewDemuxer(sideband.Sideband, response)
		}
		if f.url.Scheme == "file" {
			from = f.meter.reader(from)
		}
		err = storePack(ctx, f.directory, from, f.limits)
		if err != nil && f.url.Scheme == "file" {
			// Closing waits for git, which waits for somebody to read the rest.
			_, _ = io.Copy(io.Discard, response)
		}
		err = errors.Join(err, response.Close())
	}
	if f.meter.over.Load() {
		return transferTooLarge(f.limits)
	}
	if err != nil {
		return err
	}
	f.received = f.limits.transfer - f.meter.left.Load()
	f.copy, err = openAt(f.directory)
	return err
}

// request asks for the tip and its history to a depth. Servers are told of the
// commits that the copy has whole, and that their histories end there.
func (f *fetcher) request(tip advertised, depth int) (*packp.UploadPackRequest, error) {
	request := packp.NewUploadPackRequest()
	server := f.refs.Capabilities
	for _, c := range []capability.Capability{capability.MultiACK, capability.OFSDelta, capability.Shallow, capability.NoProgress} {
		if server.Supports(c) {
			if err := request.Capabilities.Set(c); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range []capability.Capability{capability.Sideband64k, capability.Sideband} {
		if server.Supports(c) {
			if err := request.Capabilities.Set(c); err != nil {
				return nil, err
			}
			break
		}
	}
	if server.Supports(capability.Agent) {
		if err := request.Capabilities.Set(capability.Agent, capability.DefaultAgent()); err != nil {
			return nil, err
		}
	}
	request.Wants = []plumbing.Hash{tip.object}
	// A server without shallow copies sends everything.
	if server.Supports(capability.Shallow) {
		request.Depth = packp.DepthCommits(depth)
		request.Haves = whole(f.copy)
		request.Shallows = request.Haves
	}
	return request, nil
}
