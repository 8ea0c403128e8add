package fleet

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// isWide reports whether the data speaks of isthmus in UTF-16 or UTF-32: to a
// search for bytes it says nothing, and would be passed over.
func isWide(data []byte) bool {
	if bytes.IndexByte(data, 0) < 0 || mentionsIsthmus(data) {
		return false
	}
	return mentionsIsthmus(bytes.ReplaceAll(data, []byte{0}, nil))
}

// illegible finds the first place of a text that people and programs, or two
// programs, read differently. The line is from 0.
func illegible(text []byte) (line int, message, hint string) {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		message, hint = character(r, size, text[i+size:])
		if message != "" {
			return bytes.Count(text[:i], []byte("\n")), message, hint
		}
		i += size
	}
	return 0, "", ""
}

// character returns what is wrong with a character, or nothing.
func character(r rune, size int, rest []byte) (message, hint string) {
	switch {
	case r == '\n' || r == '\t' || r >= ' ' && r < 0x7f:
	case r == utf8.RuneError && size == 1:
		return "not UTF-8", "save the file as UTF-8"
	case r == '\r' && len(rest) > 0 && rest[0] == '\n':
	case r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029':
		return fmt.Sprintf("%U ends a line for some programs and not for others", r), "end lines with a line feed"
	case r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069':
		return fmt.Sprintf("%U shows text in another order than it is read", r), "remove it"
	case unicode.IsControl(r):
		return fmt.Sprintf("the control character %U", r), `remove it, or write it as an escape such as "\x1b"`
	}
	return "", ""
}

var (
	// tabbed matches a line that a tab indents.
	tabbed = regexp.MustCompile(`^ *(?:[-?:] *)*\t`)
	// nameless matches what the YAML parser says, without a line, of an alias.
	nameless = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// explain returns a better line and message for an error of the YAML parser,
// and a hint.
func explain(line int, message string, text []byte) (_ int, better, hint string) {
	if alias := nameless.FindStringSubmatch(message); alias != nil {
		before, _, _ := bytes.Cut(text, []byte("*"+alias[1]))
		return 1 + bytes.Count(before, []byte("\n")), message, "an anchor holds within its document, after it is set"
	}
	lines := bytes.SplitN(text, []byte("\n"), line+1)
	if line <= len(lines) && tabbed.Match(lines[line-1]) && strings.Contains(message, "cannot start any token") {
		message = "not valid YAML: found a tab character that violates indentation"
	}
	if strings.Contains(message, "tab character") {
		hint = "indent with spaces"
	}
	return line, message, hint
}

// longestText bounds each text of a problem.
const longestText = 1000

// printable returns the problem with nothing in it that drives a terminal.
func (p Problem) printable() Problem {
	for _, text := range []*string{&p.File, &p.Path, &p.Message, &p.Hint} {
		*text = printable(*text)
		if utf8.RuneCountInString(*text) > longestText {
			*text = string([]rune(*text)[:longestText]) + "…"
		}
	}
	return p
}

// printable shows control, format and invalid characters in Go's notation.
func printable(text string) string {
	clean := true
	for _, r := range text {
		clean = clean && r != utf8.RuneError && unicode.IsPrint(r)
	}
	if clean {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
