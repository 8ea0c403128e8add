package main

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/renderer/upgrade"
)

// foundUpgrade is a proposal with what it does.
type foundUpgrade struct {
	upgrade.Proposal
	// files that change, and what that does; nothing where it is held.
	files  map[string][]byte
	report diff.Report
	known  *catalog.Catalog
}

// find decides what to propose for a fleet, and tries each on its own: what would bring
// errors is held.
func (o proposeOptions) find(ctx context.Context, p *printer, files fs.FS, name string) ([]foundUpgrade, error) {
	r := sideRenderer{p: p, from: o.fetch}
	loaded, problems := fleet.Load(files)
	before, err := r.render(ctx, loadedSide{name: name, fleet: loaded, problems: problems}, plan.Observed{})
	switch {
	case err != nil && invalid(before):
		p.note("%s has %s: nothing proposed", name, counted(len(before.Problems.Errors()), "problem"))
		return nil, errProblems
	case err != nil:
		return nil, err
	}
	if o.network != "" && loaded.Network(o.network) == nil {
		return nil, withHint(fmt.Errorf("no network %q in the fleet", o.network), "is --network right?")
	}
	known, _, err := o.fetch.complete(ctx, p, loaded)
	if err != nil {
		return nil, err
	}
	proposals, notes := upgrade.Propose(loaded, before.Decisions, known, upgrade.Options{Now: time.Now(), Days: o.days, Network: o.network})
	for _, note := range notes {
		p.note("%s", note)
	}
	var out []foundUpgrade
	for _, proposal := range proposals {
		f := foundUpgrade{Proposal: proposal, known: known}
		if f.Held == "" {
			if err := f.try(ctx, &r, before, files); err != nil {
				return nil, err
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// try edits the fleet and renders it again. What is wrong then holds the proposal; an
// error is what could not be looked at.
func (f *foundUpgrade) try(ctx context.Context, r *sideRenderer, before diff.Side, files fs.FS) error {
	edited, err := before.Fleet.Replace(files, f.Replacements()...)
	if err != nil {
		f.Held = err.Error()
		return nil
	}
	loaded, problems := fleet.Load(fleet.Edited{Under: files, Files: edited})
	if loaded == nil {
		f.Held = brought(problems)
		return nil
	}
	if err := f.Verify(before.Fleet, loaded); err != nil {
		f.Held = err.Error()
		return nil
	}
	after, err := r.render(ctx, loadedSide{name: f.Title(), fleet: loaded, problems: problems}, runs(before))
	switch {
	case err != nil && invalid(after):
		f.Held = brought(after.Problems)
		return nil
	case err != nil:
		return err
	}
	f.files, f.report = edited, judged(before, after)
	return nil
}

// brought says which errors an edit brings.
func brought(problems fleet.Problems) string {
	all := problems.Errors()
	text := all[0].String()
	if all[0].Hint != "" {
		text += ": " + all[0].Hint
	}
	if more := len(all) - 1; more > 0 {
		text += fmt.Sprintf(" (and %s more)", counted(more, "problem"))
	}
	return text
}

// describe is its JSON form, as far as no forge is asked.
func (f foundUpgrade) describe(withBody bool) proposalReport {
	out := proposalReport{Proposal: f.Proposal}
	if f.Held != "" {
		return out
	}
	out.Risk = string(f.report.Risk)
	if withBody {
		out.Body = f.text("", "").body(dryRunLimit, false)
	}
	return out
}

// proposalText is what a pull request says.
type proposalText struct {
	why, foot string
	report    func(limit int) string
}

// text says why, then what it does. base and commit are what it was made from.
func (f foundUpgrade) text(base, commit string) proposalText {
	var b strings.Builder
	for _, why := range f.Why {
		b.WriteString(why + "\n")
	}
	b.WriteString("\n")
	for _, d := range f.Documents {
		fmt.Fprintf(&b, "- `%s`, line %d: %s → %s\n", strings.ReplaceAll(d.File, "`", "'"), d.Line, f.From, f.To)
	}
	fmt.Fprintf(&b, "- [release notes of Istio %s](%s)\n", f.ToRelease, releaseNotes(f.ToRelease))
	for _, each := range []struct {
		verb string
		ids  []string
	}{{"cures", f.Cured}, {"brings", f.New}} {
		for _, id := range each.ids {
			fmt.Fprintf(&b, "- %s the known fault %s: %s\n", each.verb, id, f.summary(id))
		}
	}
	for _, expect := range f.Expect {
		fmt.Fprintf(&b, "- to know before: %s\n", expect)
	}
	b.WriteString("\n")
	foot := "\n<sub>Made by `isthmus upgrade propose`"
	if commit != "" {
		foot += fmt.Sprintf(" from `%s` at %s", strings.ReplaceAll(base, "`", "'"), shortRevision(commit))
	}
	foot += ", which keeps it up to date until somebody else commits to its branch. Close it, and this version is not proposed again.</sub>\n"
	return proposalText{why: b.String(), foot: foot, report: f.report.Markdown}
}

func (f foundUpgrade) summary(id string) string {
	for _, h := range f.known.Hazards() {
		if h.ID == id {
			return h.Summary
		}
	}
	return "see isthmus catalog show " + f.ToRelease
}

// releaseNotes is the page that announces a release.
func releaseNotes(version string) string {
	return fmt.Sprintf("https://istio.io/latest/news/releases/%s.x/announcing-%s/", catalog.Minor(version), strings.TrimSuffix(version, ".0"))
}

// body is all of it, or without the report where that is apart.
func (t proposalText) body(limit int, apart bool) string {
	if apart {
		return forge.Fit(t.why+"What it does to each member is in a comment below.\n", limit-len(t.foot), "") + t.foot
	}
	limit -= len(t.why) + len(t.foot)
	return t.why + forge.Fit(t.report(limit), limit, "") + t.foot
}

// fitted is the report alone.
func (t proposalText) fitted(limit int) string { return forge.Fit(t.report(limit), limit, "") }
