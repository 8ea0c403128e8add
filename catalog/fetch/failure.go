package fetch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// Reason is why something could not be fetched. Values are frozen once released.
type Reason string

// The reasons.
const (
	// RegistryUnreachable: the registry does not answer, or not in time.
	RegistryUnreachable Reason = "RegistryUnreachable"
	// RegistryCredentialsRejected: the registry wants credentials, or others.
	RegistryCredentialsRejected Reason = "RegistryCredentialsRejected"
	// ChartNotFound: the registry has nothing of that digest.
	ChartNotFound Reason = "ChartNotFound"
	// ChartDigestMismatch: what the registry sends is not what was asked for.
	ChartDigestMismatch Reason = "ChartDigestMismatch"
	// ChartInvalid: it is no chart, too large, or not safe to unpack.
	ChartInvalid Reason = "ChartInvalid"
	// ChartVersionMismatch: it is another chart, or that of another release.
	ChartVersionMismatch Reason = "ChartVersionMismatch"
	// ModuleProxyMissing: no Go module proxy is known.
	ModuleProxyMissing Reason = "ModuleProxyMissing"
	// ModuleProxyUnreachable: the proxy does not answer, or not in time.
	ModuleProxyUnreachable Reason = "ModuleProxyUnreachable"
	// ModuleNotFound: the proxy does not have the module's version.
	ModuleNotFound Reason = "ModuleNotFound"
	// ModuleChecksumMismatch: what the proxy sends is not what the catalog knows.
	ModuleChecksumMismatch Reason = "ModuleChecksumMismatch"
	// CacheFailed: the cache cannot be written.
	CacheFailed Reason = "CacheFailed"
)

// transient tells whether waiting may help.
func (r Reason) transient() bool {
	switch r {
	case RegistryUnreachable, ModuleProxyUnreachable, CacheFailed:
		return true
	}
	return false
}

// Failure is one thing that could not be fetched.
type Failure struct {
	Reason Reason
	// Release and Chart that were asked for, "1.31.2" and "istiod"; empty for the
	// Gateway API.
	Release, Chart string
	// Message says what was wanted and what happened.
	Message string
	// Hint says what to do; may be empty.
	Hint string
}

func (f Failure) Error() string { return f.Message }

// Transient tells whether waiting may help, without anybody acting.
func (f Failure) Transient() bool { return f.Reason.transient() }

// inFleet tells whether the fleet asks for what cannot be: another registry or
// another day does not help, another digest does.
func (f Failure) inFleet() bool {
	switch f.Reason {
	case ChartNotFound, ChartInvalid, ChartVersionMismatch:
		return true
	}
	return false
}

// Failures are everything that could not be fetched, those first that waiting
// does not mend.
type Failures []Failure

func (f Failures) Error() string {
	const shown = 3
	var lines []string
	for _, one := range f[:min(shown, len(f))] {
		lines = append(lines, one.Message)
	}
	if more := len(f) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

func (f Failures) sort() {
	rank := func(one Failure) int {
		if one.Transient() {
			return 1
		}
		return 0
	}
	slices.SortFunc(f, func(a, b Failure) int {
		return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Release, b.Release), cmp.Compare(a.Chart, b.Chart), cmp.Compare(a.Message, b.Message))
	})
}

// Problems returns the failures that are the fleet's to mend, as errors at the
// lines that ask for what cannot be, and those that are not.
func (f Failures) Problems(asked *fleet.Fleet) (fleet.Problems, Failures) {
	var (
		problems fleet.Problems
		others   Failures
	)
	for _, failure := range f {
		if !failure.inFleet() {
			others = append(others, failure)
			continue
		}
		problems = append(problems, asked.ReleaseProblemAt(failure.Release, failure.Chart, fleet.Problem{
			Severity: fleet.SeverityError, Reason: string(failure.Reason), Message: failure.Message, Hint: failure.Hint,
		}))
	}
	return problems, others
}
