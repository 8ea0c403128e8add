package test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// faultCases is how many cases docs/faults.md has.
const faultCases = 55

var (
	faultRow = regexp.MustCompile(`(?m)^\| (F\d\d) \| ([^|]+) \| ([^|]+) \| ?([^|]*)\|$`)
	anyRow   = regexp.MustCompile(`(?m)^\| F.*$`)
	named    = regexp.MustCompile("`([^`]+)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// TestFaultsAreShown: what the page promises of a fault is shown by a test that
// is there.
func TestFaultsAreShown(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range faultProblems(string(page), testsOfTheTree(t)) {
		t.Error(problem)
	}
}

// faultProblems says what is wrong with the page: numbers that are missing or
// there twice, rows that promise something and name no test, tests that are not
// there.
func faultProblems(page string, tests map[string]bool) []string {
	var problems []string
	rows := faultRow.FindAllStringSubmatch(page, -1)
	if have := len(anyRow.FindAllString(page, -1)); have != len(rows) {
		problems = append(problems, fmt.Sprintf("%d rows are not | number | fault | what happens | tests |", have-len(rows)))
	}
	times := map[string]int{}
	for _, row := range rows {
		number, happens, shown := row[1], row[3], named.FindAllStringSubmatch(row[4], -1)
		times[number]++
		if len(shown) == 0 && !strings.HasPrefix(happens, "not built") {
			problems = append(problems, number+" names no test and does not begin with: not built")
		}
		for _, test := range shown {
			if !tests[test[1]] {
				problems = append(problems, fmt.Sprintf("%s names %s, which is not there", number, test[1]))
			}
		}
	}
	for i := 1; i <= faultCases; i++ {
		if number := fmt.Sprintf("F%02d", i); times[number] != 1 {
			problems = append(problems, fmt.Sprintf("%s is there %d times", number, times[number]))
		}
	}
	if len(times) > faultCases {
		problems = append(problems, fmt.Sprintf("%d numbers, want %d", len(times), faultCases))
	}
	return problems
}

// testsOfTheTree are the names of all tests, fuzz targets and scripts.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "out" || entry.Name() == ".demo"):
			return fs.SkipDir
		case filepath.Ext(file) == ".txtar" && filepath.Base(filepath.Dir(file)) == "script":
			tests[filepath.Base(file)] = true
		case strings.HasSuffix(file, "_test.go"):
			data, err := os.ReadFile(file)
			for _, match := range testFunc.FindAllSubmatch(data, -1) {
				tests[string(match[1])] = true
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

func TestFaultProblems(t *testing.T) {
	t.Parallel()
	var whole strings.Builder
	for i := 1; i <= faultCases; i++ {
		fmt.Fprintf(&whole, "| F%02d | a | b | `TestA` |\n", i)
	}
	tests := map[string]bool{"TestA": true, "a.txtar": true}
	row := func(number, is string) string {
		return strings.Replace(whole.String(), "| "+number+" | a | b | `TestA` |\n", is, 1)
	}
	for _, tt := range []struct {
		reason, page string
		want         []string
	}{
		{"all there", whole.String(), nil},
		{"a script", row("F02", "| F02 | a | b | `a.txtar` |\n"), nil},
		{"not built", row("F02", "| F02 | a | not built: later | |\n"), nil},
		{"missing", row("F02", ""), []string{"F02 is there 0 times"}},
		{"twice", whole.String() + "| F02 | a | b | `TestA` |\n", []string{"F02 is there 2 times"}},
		{"a test that is gone", row("F02", "| F02 | a | b | `TestA` `TestB` |\n"), []string{"F02 names TestB, which is not there"}},
		{"no test", row("F02", "| F02 | a | b | |\n"), []string{"F02 names no test and does not begin with: not built"}},
		{"another form", row("F02", "| F02 | b | `TestA` |\n"), []string{"1 rows are not | number | fault | what happens | tests |", "F02 is there 0 times"}},
		{"one too many", whole.String() + "| F56 | a | b | `TestA` |\n", []string{"56 numbers, want 55"}},
	} {
		if diff := cmp.Diff(tt.want, faultProblems(tt.page, tests)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}
