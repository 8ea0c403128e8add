package diff

import (
	"fmt"
	"strings"
)

// marks of the risks: colours that every forge shows.
var marks = map[Risk]string{RiskNone: "⚪", RiskLow: "🟢", RiskMedium: "🟡", RiskHigh: "🔴"}

// Markdown returns the report for a comment of a pull request, in no more than
// limit bytes; 0 is without a limit. What matters comes first; what does not fit is
// counted and left to the whole report. Text of the fleet is escaped: it can neither
// end a table or a block of code, nor mention anybody.
func (r Report) Markdown(limit int) string {
	d := draft{limit: limit}
	d.must(fmt.Sprintf("### %s isthmus: %s\n\n", marks[r.Risk], md(r.headline())))
	if facts := r.facts(); len(facts) > 0 {
		var b strings.Builder
		b.WriteString("| | |\n|---|---|\n")
		for _, f := range facts {
			fmt.Fprintf(&b, "| %s | %s |\n", f.Name, md(f.Text))
		}
		d.must(b.String() + "\n")
	}
	d.all("policy", len(r.Findings), func(i int) string { return r.Findings[i].markdown() })
	d.all("member behind", len(r.Behind), func(i int) string {
		return fmt.Sprintf("- ⏳ %s does not run the base yet: %s\n", md(r.Behind[i].Member), md(r.Behind[i].Why))
	})
	d.all("effect", len(r.Effects), func(i int) string { return r.Effects[i].markdown() })
	d.all("new warning", len(r.NewProblems), func(i int) string {
		p := r.NewProblems[i]
		text := "- ⚠️ new warning: " + md(p.String())
		if p.Hint != "" {
			text += " — " + md(p.Hint)
		}
		return text + "\n"
	})
	d.all("cured warning", len(r.Cured), func(i int) string { return "- ✅ cured: " + md(r.Cured[i].String()) + "\n" })
	r.markdownObjects(&d)
	return d.String()
}

func (f Finding) markdown() string {
	mark := "⛔"
	if f.Severity != "error" {
		mark = "⚠️"
	}
	text := fmt.Sprintf("%s **policy %s**: %s", mark, md(f.Policy), md(f.Message))
	if f.Hint != "" {
		text += "  \n_" + md(f.Hint) + "_"
	}
	return text + "\n\n"
}

func (e Effect) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s **%s**: %s", marks[e.Risk], md(string(e.Area)), md(e.Title))
	if on := e.on(); on != "" {
		fmt.Fprintf(&b, "  \non %s", md(on))
	}
	b.WriteString("\n")
	for _, note := range e.Notes {
		fmt.Fprintf(&b, "- %s\n", md(note))
	}
	return b.String() + "\n"
}

// markdownObjects folds what only some readers want: which objects, and how.
func (r Report) markdownObjects(d *draft) {
	if len(r.Objects) == 0 {
		return
	}
	const begin = "<details><summary>%s, as YAML</summary>\n\n"
	const end = "</details>\n"
	if !d.fits(fmt.Sprintf(begin, "objects") + end) {
		return
	}
	d.must(fmt.Sprintf(begin, counted(len(r.Objects), "object")))
	d.reserve(len(end))
	d.all("object", len(r.Objects), func(i int) string { return r.Objects[i].markdown() })
	d.release()
	d.must(end)
}

func (c ObjectChange) markdown() string {
	head := fmt.Sprintf("**%s** %s on %s", strings.ToLower(string(c.Action)), md(c.identify()), md(listed(c.Members)))
	if tags := c.tags(); tags != "" {
		head += ", " + tags
	}
	text := c.YAML()
	if text == "" {
		return head + "\n\n"
	}
	fence := fenceOf(text)
	return head + "\n" + fence + "diff\n" + text + fence + "\n\n"
}

// fenceOf is longer than any row of backticks in the text.
func fenceOf(text string) string {
	longest, row := 0, 0
	for _, r := range text {
		if r == '`' {
			row++
			longest = max(longest, row)
			continue
		}
		row = 0
	}
	return strings.Repeat("`", max(3, longest+1))
}

// md escapes text for Markdown as GitHub, GitLab, Gitea and Azure DevOps read it. A
// comment after @, # and ! keeps it from naming a person, an issue or a request.
func md(text string) string {
	return escapeMarkdown.Replace(text)
}

var escapeMarkdown = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;",
	"\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "|", "\\|", "~", "\\~",
	"@", "@<!-- -->", "#", "#<!-- -->", "!", "!<!-- -->", "\r", " ", "\n", " ",
)

// draft is a text that stays below a limit.
type draft struct {
	strings.Builder
	limit, reserved int
}

// roomForMore is what the lines take that say what was left out.
const roomForMore = 600

func (d *draft) fits(text string) bool {
	return d.limit == 0 || d.Len()+len(text)+d.reserved+roomForMore <= d.limit
}

// must writes what is short and has to be there.
func (d *draft) must(text string) { d.WriteString(text) }

// reserve keeps room for what has to come later.
func (d *draft) reserve(n int) { d.reserved += n }

func (d *draft) release() { d.reserved = 0 }

// all writes as many of n parts as fit, and says how many do not.
func (d *draft) all(noun string, n int, part func(int) string) {
	for i := range n {
		text := part(i)
		if !d.fits(text) {
			d.must(fmt.Sprintf("\n_and %s more: see the whole report_\n\n", counted(n-i, noun)))
			return
		}
		d.must(text)
	}
}
