package forge_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

func characters(s string) int { return len(utf16.Encode([]rune(s))) }

// TestFit: whole sections, and where the rest is.
func TestFit(t *testing.T) {
	section := func(n int) string {
		return fmt.Sprintf("## Member %d\n\n%s\n\n<details><summary>objects</summary>\n\n```yaml\n# no heading\n---\na: %d\n```\n\n</details>\n\n", n, strings.Repeat("words ", 20), n)
	}
	var body strings.Builder
	body.WriteString("# Review\n\nsummary\n\n")
	for n := range 100 {
		body.WriteString(section(n))
	}
	link := "https://ci.invalid/run(1) 2"
	got := forge.Fit(body.String(), 2000, link)
	for _, want := range []string{"# Review\n", "## Member 0\n", "(https://ci.invalid/run%281%29%202)", "longer than a comment may be"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	last := strings.LastIndex(got, "## Member ")
	rest, _, _ := strings.Cut(got[last:], "\n\n---\n\n**This")
	var n int
	if _, err := fmt.Sscanf(rest, "## Member %d", &n); err != nil || rest+"\n\n" != section(n) {
		t.Errorf("the last section is not whole:\n%s", rest)
	}
	if again := forge.Fit(got, 2000, link); again != got {
		t.Error("what fits is changed")
	}
	if without := forge.Fit(body.String(), 2000, ""); !strings.Contains(without, "in the output of the job") {
		t.Errorf("without a link nothing says where the rest is:\n%s", without)
	}
}

// TestFitOneSection: a fold that is larger than all that fits is cut and closed.
func TestFitOneSection(t *testing.T) {
	body := "# Review\n\n<details>\n<summary>all</summary>\n\n````yaml\n" + strings.Repeat("key: value\n```\n", 1000) + "````\n\n</details>\n"
	got := forge.Fit(body, 3000, "https://ci.invalid")
	kept, _, found := strings.Cut(got, "\n\n---\n\n**This")
	if !found || !strings.HasSuffix(kept, "\n````\n\n</details>") || characters(got) > 3000 || characters(got) < 2000 {
		t.Errorf("%d characters:\n…%s", characters(got), got[max(0, len(got)-300):])
	}
}

// FuzzFit: never over the limit, never changed when it fits, and never broken UTF-8.
func FuzzFit(f *testing.F) {
	for _, body := range []string{
		"# a\ntext\n## b\n" + strings.Repeat("line\n", 200), strings.Repeat("😀", 300), "```\n# x\n" + strings.Repeat("~~~\n", 300),
		"<details>\n" + strings.Repeat("<details>x\n", 100), strings.Repeat("# a\n", 300), strings.Repeat("---\n\n", 100), "\n\n\n",
	} {
		for _, limit := range []int{0, 1, 200, 350, 1000} {
			f.Add(body, limit, "https://ci.invalid/1")
		}
	}
	f.Fuzz(func(t *testing.T, body string, limit int, link string) {
		got := forge.Fit(body, limit, link)
		switch {
		case characters(body) <= limit:
			if got != body {
				t.Errorf("changed though it fits")
			}
		case characters(got) > max(0, limit):
			t.Errorf("%d characters, limit %d", characters(got), limit)
		}
		if utf8.ValidString(body) && utf8.ValidString(link) && !utf8.ValidString(got) {
			t.Errorf("no UTF-8: %q", got)
		}
	})
}
