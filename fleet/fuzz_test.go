package fleet_test

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// FuzzLoad: whatever a file holds, Load returns, says the same twice, never
// returns a fleet beside an error, and says where each problem is in words that
// are safe to show. The file is a manifest of people's own, too, if it is
// delivered.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(minimal), false)
	f.Add([]byte("\ufeff"+strings.ReplaceAll(minimal, "\n", "\r\n")), false)
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata: {a: &a x, b: *a}\n"), true)
	for _, file := range cases(f) {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, member := range archive.Files {
			if path.Ext(member.Name) == ".yaml" {
				f.Add(member.Data, false)
				f.Add(member.Data, true)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, delivered bool) {
		files := fstest.MapFS{"a.yaml": {Data: data}, "fleet.yaml": {Data: []byte(minimal)}}
		if delivered {
			files["fleet.yaml"].Data = []byte(strings.Replace(minimal, "spec: {}", "spec: {resources: [{path: a.yaml}], namespaces: [{name: shop}]}", 1))
		}
		loaded, problems := fleet.Load(files)
		if (loaded == nil) != (len(problems.Errors()) > 0) {
			t.Errorf("fleet is nil: %t, with problems %v", loaded == nil, problems)
		}
		again, problemsAgain := fleet.Load(shuffled{files})
		if !cmp.Equal(problems, problemsAgain) {
			t.Errorf("other problems the second time: %s", cmp.Diff(problems, problemsAgain))
		}
		if loaded != nil && !(cmp.Equal(loaded.Networks, again.Networks) && cmp.Equal(loaded.Members, again.Members)) {
			t.Error("another fleet the second time")
		}
		sorted := slices.Clone(problems)
		sorted.Sort()
		if !cmp.Equal(sorted, problems) {
			t.Errorf("not sorted: %v", problems)
		}
		for _, p := range problems {
			sayable(t, p, bytes.Count(data, []byte("\n"))+1)
		}
	})
}

// sayable checks a problem of one of the two files.
func sayable(t *testing.T, p fleet.Problem, lines int) {
	t.Helper()
	if p.File == "fleet.yaml" {
		lines = strings.Count(minimal, "\n")
	}
	if p.File == "" || p.Line > lines || p.Line < 1 && p.Reason != fleet.ReasonLimitExceeded {
		t.Errorf("%s:%d of %d lines: %v", p.File, p.Line, lines, p)
	}
	if p.Message == "" || p.Reason == "" || p.Severity == "" {
		t.Errorf("says nothing: %+v", p)
	}
	for _, text := range []string{p.File, p.Path, p.Message, p.Hint} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("not safe to show: %q", text)
		}
		if utf8.RuneCountInString(text) > 1001 {
			t.Errorf("%d characters long: %.100q…", utf8.RuneCountInString(text), text)
		}
	}
}
