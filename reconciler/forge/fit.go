package forge

import (
	"strings"
	"unicode/utf8"
)

// length counts characters as the strictest forge does, which is in UTF-16: those
// outside of the basic plane, such as most emoji, are two.
func length(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x10000 {
			n++
		}
	}
	return n
}

// cut shortens a text to a number of characters, and shows that it did.
func cut(s string, limit int) string {
	if length(s) <= limit {
		return s
	}
	return head(s, limit-1) + "…"
}

// head is as much of the beginning as fits.
func head(s string, limit int) string {
	n := 0
	for i, r := range s {
		if n += utf16Length(r); n > limit {
			return s[:i]
		}
	}
	return s
}

func utf16Length(r rune) int {
	if r >= 0x10000 {
		return 2
	}
	return 1
}

// Fit returns a report in Markdown that is no longer than limit, see
// [Client.Limit]. One that is too long is cut before a section, that is before a
// heading, a rule or a fold, and says so, with a link to the whole report; without
// one, that it is in the job's output. If the sections that fit are less than a
// quarter of what does, it is cut between lines. Folds and code that are open at the cut are closed.
func Fit(body string, limit int, link string) string {
	if length(body) <= limit {
		return body
	}
	lines := strings.SplitAfter(body, "\n")
	room := limit - length(note(link))
	var (
		at             outline
		used           int
		section, kept  int // lines before the last section that fits, and their length
		line, keptLine int // the same for the last line that fits
		closing        string
	)
	for i, text := range lines {
		if i > 0 && used <= room && at.begins(text) {
			section, kept = i, used
		}
		at.read(text)
		used += length(text)
		if open := at.closing(); used+length(open) <= room {
			line, keptLine, closing = i+1, used, open
		}
	}
	switch {
	case section > 0 && kept >= keptLine/4:
		return trimmed(lines[:section]) + note(link)
	case line > 0:
		return trimmed(lines[:line]) + closing + note(link)
	}
	return head(head(body, room)+note(link), limit)
}

func trimmed(lines []string) string { return strings.TrimRight(strings.Join(lines, ""), "\n") }

// note is put below what is left of a report.
func note(link string) string {
	where := "in the output of the job that wrote this"
	if link != "" {
		where = "in [the whole report](" + strings.NewReplacer("(", "%28", ")", "%29", " ", "%20", "\n", "", "<", "%3C", ">", "%3E").Replace(link) + ")"
	}
	return "\n\n---\n\n**This report is longer than a comment may be.** The rest is " + where + ".\n"
}

// outline knows what is open in a Markdown text after the lines that it has read.
type outline struct {
	fence string // what closes a block of code
	folds int
}

// begins says whether a section begins with a line.
func (o outline) begins(line string) bool {
	if o.fence != "" || o.folds > 0 {
		return false
	}
	text := strings.TrimRight(line, "\r\n")
	hashes := len(text) - len(strings.TrimLeft(text, "#"))
	return hashes >= 1 && hashes <= 6 && strings.HasPrefix(text[hashes:], " ") ||
		strings.TrimSpace(text) == "---" || strings.HasPrefix(text, "<details")
}

func (o *outline) read(line string) {
	text := strings.TrimSpace(line)
	if o.fence != "" {
		if strings.HasPrefix(text, o.fence) && strings.Trim(text, o.fence[:1]) == "" {
			o.fence = ""
		}
		return
	}
	if first, _ := utf8.DecodeRuneInString(text); first == '`' || first == '~' {
		run := len(text) - len(strings.TrimLeft(text, string(first)))
		if run >= 3 {
			o.fence = text[:run]
			return
		}
	}
	if !strings.HasPrefix(text, "<") {
		return
	}
	o.folds = max(0, o.folds+strings.Count(text, "<details")-strings.Count(text, "</details>"))
}

// closing closes what is open.
func (o outline) closing() string {
	text := ""
	if o.fence != "" {
		text = "\n" + o.fence
	}
	return text + strings.Repeat("\n\n</details>", o.folds)
}
