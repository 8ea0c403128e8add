package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Rules of this file, the only one that writes to stdout and stderr:
//
//   - the answer goes to stdout, everything else to stderr after "isthmus: ";
//   - lower case, no final period, one line per finding;
//   - what users or clusters wrote is escaped, line breaks included;
//   - colour only on a terminal, and never with NO_COLOR.

// The forms of an answer.
const (
	formatText = "text"
	formatJSON = "json"
)

// printer writes what a command has to say.
type printer struct {
	out, err           io.Writer
	outColour, errTint bool
	// broken is the first error of writing to stdout.
	broken error
}

func newPrinter(stdout, stderr io.Writer) *printer {
	return &printer{out: stdout, err: stderr, outColour: colourful(stdout), errTint: colourful(stderr)}
}

// colourful says whether colours may be written to w.
// Source: https://no-color.org
func colourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// answer writes one line of the answer; arguments are escaped.
func (p *printer) answer(format string, args ...any) {
	p.write(fmt.Sprintf(format, escaped(args)...) + "\n")
}

// note writes one line that is not the answer; arguments are escaped.
func (p *printer) note(format string, args ...any) {
	line := fmt.Sprintf(format, escaped(args)...)
	fmt.Fprintln(p.err, tint(p.errTint, dim, "isthmus:")+" "+line)
}

// lines writes lines of the answer, each escaped.
func (p *printer) lines(text string) {
	for line := range strings.Lines(text) {
		p.write(escape(strings.TrimSuffix(line, "\n")) + "\n")
	}
}

func (p *printer) write(text string) {
	if _, err := io.WriteString(p.out, text); err != nil && p.broken == nil {
		p.broken = err
	}
}

// json writes one document as the answer.
func (p *printer) json(document any) error {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	p.write(escapeJSON(b.String()))
	return nil
}

// escapeJSON shows, in a JSON text, the characters that could drive a terminal
// and that encoding/json leaves as they are. They can only be inside strings.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || r == utf8.RuneError || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// table writes rows in aligned columns, the first row in capitals if it is a
// heading. Cells are escaped.
func (p *printer) table(rows [][]string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = escape(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // a strings.Builder takes everything
	for line := range strings.Lines(b.String()) {
		p.write(strings.TrimRight(line, " \n") + "\n")
	}
}

// problems writes problems as the answer.
func (p *printer) problems(problems fleet.Problems) {
	for _, problem := range problems {
		p.write(problemText(problem, p.outColour) + "\n")
		if problem.Hint != "" {
			p.write("  hint: " + escape(problem.Hint) + "\n")
		}
	}
}

// noteProblems writes problems beside the answer.
func (p *printer) noteProblems(problems fleet.Problems) {
	for _, problem := range problems {
		fmt.Fprintln(p.err, tint(p.errTint, dim, "isthmus:")+" "+problemText(problem, p.errTint))
		if problem.Hint != "" {
			p.note("hint: %s", problem.Hint)
		}
	}
}

// problemText is "file:line: path: message", with "warning: " before the
// message of a problem that stops nothing.
func problemText(problem fleet.Problem, colour bool) string {
	message := escape(problem.Message)
	if problem.Severity == fleet.SeverityWarning {
		message = tint(colour, yellow, "warning:") + " " + message
	} else {
		message = tint(colour, red, message)
	}
	problem.Message = ""
	return escape(problem.String()) + message
}

// problemList is the JSON form of problems.
type problemList struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Items      fleet.Problems `json:"items"`
}

func newProblemList(problems fleet.Problems) problemList {
	if problems == nil {
		problems = fleet.Problems{}
	}
	return problemList{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ProblemList", Items: problems}
}

// The colours, as ANSI codes.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

func tint(colour bool, code, text string) string {
	if !colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// escaped escapes the arguments that are or print as text.
func escaped(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		switch arg.(type) {
		case int, int32, int64, bool:
			out[i] = arg
		default:
			out[i] = escape(fmt.Sprint(arg))
		}
	}
	return out
}

// escape shows control, format and invalid characters in Go's notation, so
// that text from a fleet or a cluster can neither move the cursor nor start a
// line of its own.
func escape(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && strings.HasPrefix(text[i:], string(utf8.RuneError)):
			b.WriteRune(r)
		case r == utf8.RuneError:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// formatFlag adds -o text|json to a command.
func formatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", formatText, "form of the answer: text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formatText, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
}

// checkFormat refuses any form of answer but text and json.
func checkFormat(format string) error {
	if format != formatText && format != formatJSON {
		return withHint(fmt.Errorf("unknown output format %q", format), "use -o text or -o json")
	}
	return nil
}
