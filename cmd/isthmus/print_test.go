package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/fleet"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ reason, text, want string }{
		{"plain text is left alone", `weu "1": a/b`, `weu "1": a/b`},
		{"letters of any script are text", "größe 東京", "größe 東京"},
		{"an escape sequence must not move the cursor", "a\x1b[2Jb", `a\x1b[2Jb`},
		{"the eight-bit form of it neither", "a\u009b2Jb", `a\u009b2Jb`},
		{"a line break must not start a finding of its own", "a\nisthmus: fine", `a\nisthmus: fine`},
		{"a carriage return must not hide what is before it", "a\rb", `a\rb`},
		{"text must not run backwards", "a\u202eb", `a\u202eb`},
		{"invalid UTF-8 is shown as bytes", "a\xffb", `a\xffb`},
		{"a replacement character is text", "a\ufffdb", "a\ufffdb"},
	} {
		if got := escape(tt.text); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}

func TestAnswerEscapesArguments(t *testing.T) {
	t.Parallel()
	var out, err bytes.Buffer
	p := newPrinter(&out, &err)
	p.answer("%s has %d", "a\x1b[31m", 3)
	p.note("%s", "b\nc")
	p.table([][]string{{"NAME", "STATUS"}, {"a\tb", "c\nd"}})
	if got, want := out.String(), "a\\x1b[31m has 3\nNAME  STATUS\na\\tb  c\\nd\n"; got != want {
		t.Errorf("stdout: %q, want %q", got, want)
	}
	if got, want := err.String(), "isthmus: b\\nc\n"; got != want {
		t.Errorf("stderr: %q, want %q", got, want)
	}
}

func TestJSONIsSafeOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newPrinter(&out, &out)
	const message = "a\x1b\u009b\u202e\U000e0001\u00ff<b>"
	if err := p.json(newProblemList(fleet.Problems{{Message: message}})); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u009b\u202e\U000e0001") {
		t.Errorf("control characters in %q", out.String())
	}
	var back problemList
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Items[0].Message != message {
		t.Errorf("message %q, want %q", back.Items[0].Message, message)
	}
}

func TestProblemText(t *testing.T) {
	t.Parallel()
	problem := fleet.Problem{
		File: "a.yaml", Line: 3, Path: "spec.x", Message: "not set", Severity: fleet.SeverityError,
	}
	if got, want := problemText(problem, false), "a.yaml:3: spec.x: not set"; got != want {
		t.Errorf("error: %q, want %q", got, want)
	}
	problem.Severity = fleet.SeverityWarning
	if got, want := problemText(problem, false), "a.yaml:3: spec.x: warning: not set"; got != want {
		t.Errorf("warning: %q, want %q", got, want)
	}
	if got := problemText(problem, true); !strings.Contains(got, "\x1b[33mwarning:\x1b[0m") {
		t.Errorf("no colour in %q", got)
	}
	if got, want := problemText(fleet.Problem{Message: "no member"}, false), "no member"; got != want {
		t.Errorf("without a place: %q, want %q", got, want)
	}
}
