package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem stops the fleet.
type Severity string

// The severities.
const (
	// SeverityError stops the whole commit.
	SeverityError Severity = "error"
	// SeverityWarning is shown and stops nothing.
	SeverityWarning Severity = "warning"
)

// Problem is one thing wrong with the fleet as written.
type Problem struct {
	// File below the fleet's path, slash-separated; empty when the problem is
	// not in one file.
	File string `json:"file,omitempty"`
	// Line in File, from 1; 0 when unknown.
	Line int `json:"line,omitempty"`
	// Path of the field, such as "spec.connectivity.network"; may be empty.
	Path string `json:"path,omitempty"`
	// Severity of the problem.
	Severity Severity `json:"severity"`
	// Reason is a stable UpperCamelCase name of the rule.
	Reason string `json:"reason"`
	// Message says what is wrong.
	Message string `json:"message"`
	// Hint says what to do; may be empty.
	Hint string `json:"hint,omitempty"`
}

// String returns "file:line: path: message" without the parts that are empty.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems are all problems of a fleet, not just the first.
type Problems []Problem

// Errors returns the problems that stop the fleet.
func (p Problems) Errors() Problems { return p.with(SeverityError) }

// Warnings returns the problems that stop nothing.
func (p Problems) Warnings() Problems { return p.with(SeverityWarning) }

func (p Problems) with(severity Severity) Problems {
	var out Problems
	for _, problem := range p {
		if problem.Severity == severity {
			out = append(out, problem)
		}
	}
	return out
}

// Sort orders problems by file, line, path, then message, so that the same
// fleet always reads the same.
func (p Problems) Sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Message, b.Message),
		)
	})
}
