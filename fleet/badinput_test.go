package fleet_test

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// networkHead are the first three lines of a network.
const networkHead = "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\n"

// lines returns the problems as text, a line each, hints left out.
func lines(problems fleet.Problems) string {
	var out []string
	for _, p := range problems {
		out = append(out, fmt.Sprintf("%s %s", p.Reason, p))
	}
	return strings.Join(out, "\n")
}

func utf16Text(text string, order func([]byte, uint16) []byte) string {
	var out []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		out = order(out, unit)
	}
	return string(out)
}

func littleEndian(out []byte, unit uint16) []byte { return append(out, byte(unit), byte(unit>>8)) }
func bigEndian(out []byte, unit uint16) []byte    { return append(out, byte(unit>>8), byte(unit)) }

// TestBadText: what a text editor, another program or somebody with bad
// intentions leaves in a file is either read right or refused at its line. The
// unknown field "zzz" in many cases shows that lines are counted right.
func TestBadText(t *testing.T) {
	unknown := networkHead + "spec: {zzz: 1}\n"
	crlf := func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
	for _, tt := range []struct{ reason, text, want string }{
		{"Windows editors begin a file with a byte order mark", "\ufeff" + unknown,
			"UnknownField a.yaml:4: spec.zzz: unknown field"},
		{"and may have comments after it", "\ufeff# café\n\n---\n" + unknown,
			"UnknownField a.yaml:7: spec.zzz: unknown field"},
		{"and end lines with two characters", crlf("# c\n---\n" + unknown + "---\n# c\n" + strings.Replace(unknown, "prod", "test", 1)),
			"UnknownField a.yaml:6: spec.zzz: unknown field\nUnknownField a.yaml:12: spec.zzz: unknown field"},
		{"a syntax error between such lines", crlf(networkHead + "spec:\n  a: [\n"),
			"SyntaxError a.yaml:5: not valid YAML: did not find expected node content"},
		{"or save as UTF-16, in which a search for bytes finds nothing", utf16Text(unknown, littleEndian),
			"UnclearText a.yaml:1: UTF-16 or UTF-32, and not UTF-8"},
		{"in either order", utf16Text(unknown, bigEndian),
			"UnclearText a.yaml:1: UTF-16 or UTF-32, and not UTF-8"},
		{"a file of others in UTF-16 is not ours to judge", utf16Text("kind: ConfigMap", bigEndian),
			"EmptyFleet no ApplicationNetwork or Member in 1 YAML files below the fleet's path"},
		{"Latin-1 in a value", networkHead + "spec: {zzz: \"caf\xe9\"}\n", "UnclearText a.yaml:4: not UTF-8"},
		{"Latin-1 in a comment before it all", "# caf\xe9\n" + unknown, "UnclearText a.yaml:1: not UTF-8"},
		{"a surrogate half is no character", networkHead + "spec: {zzz: \"\xed\xa0\x80\"}\n", "UnclearText a.yaml:4: not UTF-8"},
		{"a zero byte ends the text for some programs", networkHead + "spec: {}\n\x00zzz: 1\n",
			"UnclearText a.yaml:5: the control character U+0000"},
		{"a terminal escape hides text from who reads the diff", networkHead + "spec: {}\n# \x1b[2K\n",
			"UnclearText a.yaml:5: the control character U+001B"},
		{"and so does its eight-bit form", networkHead + "spec: {}\n# \u009b2K\n",
			"UnclearText a.yaml:5: the control character U+009B"},
		{"a lone carriage return ends a line for YAML and not for Git", networkHead + "spec: {}\n# harmless\rzzz: 1\n",
			"UnclearText a.yaml:5: U+000D ends a line for some programs and not for others"},
		{"U+2028 ends a comment for YAML 1.1 only", networkHead + "spec: {}\n# harmless\u2028zzz: 1\n",
			"UnclearText a.yaml:5: U+2028 ends a line for some programs and not for others"},
		{"right-to-left override", networkHead + "spec: {}\n# \u202e}{\n",
			"UnclearText a.yaml:5: U+202E shows text in another order than it is read"},
		{"a tab indents", networkHead + "spec:\n\tzzz: 1\n",
			"SyntaxError a.yaml:5: not valid YAML: found a tab character that violates indentation"},
		{"a tab after spaces", networkHead + "spec:\n  \tzzz: 1\n",
			"SyntaxError a.yaml:5: not valid YAML: found a tab character that violates indentation"},
		{"a tab after a dash", networkHead + "spec:\n  namespaces:\n  -\tname: shop\n",
			"SyntaxError a.yaml:6: not valid YAML: found a tab character that violates indentation"},
		{"a tab that indents nothing is fine", networkHead + "spec:\n  zzz:\t1\n",
			"UnknownField a.yaml:5: spec.zzz: unknown field"},
		{"escapes in quotes are read, and shown as escapes", networkHead + "spec: {\"\\e[31m\": 1}\n",
			`UnknownField a.yaml:4: spec."\x1b[31m": unknown field`},
		{"a label's name too", "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod, labels: {\"\\e[31m\\n\": x}}\nspec: {}\n",
			`InvalidLabel a.yaml:3: metadata.labels["\x1b[31m\n"]: not a label's name`},
		{"a tag can hold escapes as well", networkHead + "spec: {trust: {domain: !<%1b[31m> x}}\n",
			`WrongType a.yaml:4: spec.trust.domain: want a string, found a value with the tag \x1b[31m`},
		{"a number that is none", networkHead + "spec: {trust: {domain: !!int \"\\e[31m\"}}\n",
			`WrongType a.yaml:4: spec.trust.domain: want a string, found the number \x1b[31m`},
		{"JSON is YAML", strings.ReplaceAll(`{"apiVersion": "isthmus.dev/v1alpha1", "kind": "ApplicationNetwork",
"metadata": {"name": "prod"}, "spec": {"zzz": 1}}`, "\t", ""), "UnknownField a.yaml:2: spec.zzz: unknown field"},
	} {
		_, problems := fleet.Load(fstest.MapFS{"a.yaml": {Data: []byte(tt.text)}})
		if diff := gocmp.Diff(tt.want, lines(problems)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

// TestBadFiles: an entry that is no plain file is neither followed nor opened.
func TestBadFiles(t *testing.T) {
	link := &fstest.MapFile{Data: []byte("../../etc/passwd"), Mode: fs.ModeSymlink | 0o777}
	member := &fstest.MapFile{Data: []byte(strings.SplitAfter(minimal, "---\n")[1])}
	for _, tt := range []struct {
		reason, name string
		file         *fstest.MapFile
		want         string
	}{
		{"a link may lead out of the repository", "x.yaml", link, "SymlinkIgnored x.yaml: a symbolic link, not followed"},
		{"a link to a folder, as far as its name tells", "members", link, "SymlinkIgnored members: a symbolic link, not followed"},
		{"a link to a picture is nobody's business", "x.png", link, ""},
		{"opening a pipe would wait for ever", "x.yaml", &fstest.MapFile{Mode: fs.ModeNamedPipe}, "SpecialFileIgnored x.yaml: not a regular file, not read"},
		{"a socket", "x.yaml", &fstest.MapFile{Mode: fs.ModeSocket}, "SpecialFileIgnored x.yaml: not a regular file, not read"},
		{"a device never ends", "x.yml", &fstest.MapFile{Mode: fs.ModeDevice | fs.ModeCharDevice}, "SpecialFileIgnored x.yml: not a regular file, not read"},
		{"a submodule in a snapshot of a commit", "shared", &fstest.MapFile{Mode: fs.ModeIrregular}, "RepositoryIgnored shared: another repository, not read"},
		{"a submodule in a work tree says the same", "shared/.git", &fstest.MapFile{}, "RepositoryIgnored shared: another repository, not read"},
		{"a file that is elsewhere", "x.yaml", &fstest.MapFile{Data: []byte("version https://git-lfs.github.com/spec/v1\noid sha256:12\n")},
			"SpecialFileIgnored x.yaml:1: a pointer of Git LFS and not the file itself, not read"},
		{"a folder named like a file is a folder", "x.yaml/readme", &fstest.MapFile{}, ""},
		{"what Git keeps is not read", ".git/x.yaml", &fstest.MapFile{Data: []byte("isthmus.dev: [")}, ""},
		{"a name that starts a line of its own", "a\n\x1b[31mb.yaml", &fstest.MapFile{Data: []byte("isthmus.dev: [")},
			`SyntaxError a\n\x1b[31mb.yaml:1: not valid YAML: did not find expected node content`},
		{"a name that is not UTF-8 is none for Go's file systems", "\xff.yaml", member, `Unreadable \xff.yaml: cannot be read: file does not exist`},
	} {
		_, problems := fleet.Load(fstest.MapFS{"fleet.yaml": {Data: []byte(minimal)}, tt.name: tt.file})
		if diff := gocmp.Diff(tt.want, lines(problems)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

// TestNestedRepositoryIsNotRead: the commit that the hub reads has no files of
// a submodule, so neither may a work tree.
func TestNestedRepositoryIsNotRead(t *testing.T) {
	_, problems := fleet.Load(fstest.MapFS{
		"fleet.yaml":         {Data: []byte(minimal)},
		"shared/-first.yaml": {Data: []byte(minimal)},
		"shared/.git":        {Data: []byte("gitdir: ../.git/modules/shared\n")},
		"shared/last.yaml":   {Data: []byte(minimal)},
	})
	if got, want := lines(problems), "RepositoryIgnored shared: another repository, not read"; got != want {
		t.Errorf("problems %q, want %q", got, want)
	}
}

// TestElsewhereIsRefused: a member whose file went to a submodule or to Git LFS
// is not one that was removed.
func TestElsewhereIsRefused(t *testing.T) {
	for name, file := range map[string]*fstest.MapFile{
		"members":   {Mode: fs.ModeIrregular},
		"east.yaml": {Data: []byte("version https://git-lfs.github.com/spec/v1\noid sha256:12\n")},
	} {
		_, problems := fleet.Load(fstest.MapFS{"fleet.yaml": {Data: []byte(minimal)}, name: file})
		if len(problems.Errors()) != 1 {
			t.Errorf("%s: problems %q, want one error", name, problems)
		}
	}
}

// secretive is a folder with a file that must not be read.
type secretive struct{ fstest.MapFS }

func (s secretive) Open(name string) (fs.File, error) {
	if name == "locked.yaml" {
		return nil, &fs.PathError{Op: "open", Path: "/home/me/locked.yaml", Err: fs.ErrPermission}
	}
	return s.MapFS.Open(name)
}

// TestUnreadableFileHidesNothing: a member may be in there, so nothing is said
// to be missing, and the fleet is not taken for whole.
func TestUnreadableFileHidesNothing(t *testing.T) {
	files := secretive{fstest.MapFS{
		"locked.yaml": {Data: []byte(minimal)},
		"member.yaml": {Data: []byte(strings.SplitAfter(minimal, "---\n")[1])},
	}}
	f, problems := fleet.Load(files)
	if got, want := lines(problems), "Unreadable locked.yaml: cannot be read: permission denied"; f != nil || got != want {
		t.Errorf("problems %q, want %q and no fleet", got, want)
	}
}

// TestLimits: what is written to hurt is refused before it costs much. Memory is
// measured and not time, which is in proportion and not the same everywhere.
func TestLimits(t *testing.T) {
	many := func(n int, text string) string { return strings.Repeat(text+", ", n) }
	bomb := networkHead + "spec:\n  deletionGuard: {allow: &words [" + many(1000, "lol") + "]}\n" +
		"  rollout:\n    rings:\n" +
		"    - {name: a, selector: &s {matchExpressions: [&e {key: k, operator: In, values: *words}, " + many(1000, "*e") + "]}}\n" +
		strings.Repeat("    - {name: b, selector: *s}\n", 1000)
	for _, tt := range []struct{ reason, text, want string }{
		{"aliases that stand for 10⁹ values", bomb, "LimitExceeded a.yaml:8: spec.rollout.rings[0].selector.matchExpressions[98].values: the document has more than 100000 values"},
		{"aliases in fields of any form", networkHead + "spec:\n  meshConfig:\n    a: &a [" + many(100, "lol") + "]\n    b: &b [" + many(100, "*a") + "]\n    c: &c [" + many(100, "*b") + "]\n    d: [" + many(100, "*c") + "]\n",
			"LimitExceeded a.yaml:6: spec.meshConfig.c[8][79][11]: the document has more than 100000 values"},
		{"a list in itself", networkHead + "spec: {meshConfig: {a: &a [*a]}}\n",
			"LimitExceeded a.yaml:4: spec.meshConfig.a" + strings.Repeat("[0]", 25) + ": nested more than 50 deep"},
		{"fields in themselves", networkHead + "spec: {meshConfig: &a {b: *a}}\n",
			"LimitExceeded a.yaml:4: spec.meshConfig" + strings.Repeat(".b", 25) + ": nested more than 50 deep"},
		{"brackets", networkHead + "spec: " + strings.Repeat("[", 1<<19), "SyntaxError a.yaml:4: not valid YAML: exceeded max depth of 10000"},
		{"dashes", networkHead + "spec:\n" + strings.Repeat("- ", 1<<18), "SyntaxError a.yaml:4: not valid YAML: exceeded max depth of 10000"},
		{"brackets that close", networkHead + "spec: {meshConfig: {a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}}\n",
			"LimitExceeded a.yaml:4: spec.meshConfig.a" + strings.Repeat("[0]", 49) + ": nested more than 50 deep"},
		{"a key of half a MiB", networkHead + "spec: {? " + strings.Repeat("k", 1<<19) + " : 1}\n",
			"UnknownField a.yaml:4: spec.\"" + strings.Repeat("k", 64) + "…\": unknown field"},
		{"a value of half a MiB", networkHead + "spec: {trust: {domain: " + strings.Repeat("k", 1<<19) + "}}\n",
			"InvalidValue a.yaml:4: spec.trust.domain: has 524288 characters, at most 253 are allowed"},
		{"a large file of ours", minimal + "#" + strings.Repeat("x", 1<<20), "LimitExceeded a.yaml: larger than 1024 KiB, not read"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, problems := fleet.Load(fstest.MapFS{"a.yaml": {Data: []byte(tt.text)}})
		runtime.ReadMemStats(&after)
		if first, _, _ := strings.Cut(lines(problems.Errors()), "\n"); f != nil || first != tt.want {
			t.Errorf("%s: problems %.300q, want %q", tt.reason, lines(problems), tt.want)
		}
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 256 {
			t.Errorf("%s: allocated %d MiB", tt.reason, used)
		}
	}
}

// endless is a folder of which every file never ends. It counts what is read.
type endless struct {
	fstest.MapFS
	read *int64
}

func (e endless) Open(name string) (fs.File, error) {
	file, err := e.MapFS.Open(name)
	if name != "endless.yaml" || err != nil {
		return file, err
	}
	return endlessFile{file, e.read}, nil
}

type endlessFile struct {
	fs.File
	read *int64
}

func (f endlessFile) Read(p []byte) (int, error) {
	if *f.read += int64(len(p)); *f.read > 1<<30 {
		return 0, errors.New("read on and on")
	}
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

func TestEndlessFileIsReadUpToTheLimit(t *testing.T) {
	read := int64(0)
	f, problems := fleet.Load(endless{fstest.MapFS{"endless.yaml": {}, "fleet.yaml": {Data: []byte(minimal)}}, &read})
	if got, want := lines(problems), "LimitExceeded endless.yaml: larger than 1024 KiB, not read"; f == nil || got != want {
		t.Errorf("problems %q, want the warning %q and a fleet", got, want)
	}
	if read > 2<<20 {
		t.Errorf("%d bytes were read of a file that may have %d", read, 1<<20)
	}
}

// TestTooMuch: no single file is large, and yet there is too much of it all.
// One problem says so, and what was found before it is still told.
func TestTooMuch(t *testing.T) {
	bomb := networkHead + "spec:\n  deletionGuard: {allow: &words [" + strings.Repeat("a,", 1000) + "]}\n  rollout: {rings: [{name: a, selector: {matchExpressions: [" +
		strings.Repeat("{key: k, operator: In, values: *words},", 90) + "]}}]}\n"
	file := func(n int, text string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Repeat(text, n))}
	}
	for _, tt := range []struct {
		reason, text string
		perFile      int
		files        int
		want         string
	}{
		{"values, by aliases in many documents", bomb + "---\n", 5, 4, "more than 1000000 values in one fleet; nothing is read from here on"},
		{"objects", networkHead + "spec: {}\n---\n", 10_000, 3, "more than 20000 objects in one fleet; nothing is read from here on"},
		{"problems", "kind: Member\n---\n", 20_000, 3, "more than 10000 problems; nothing is read from here on"},
		{"problems of rules", networkHead + "spec: {}\n---\n", 5_000, 3, "more than 10000 problems"},
	} {
		files := fstest.MapFS{}
		for i := range tt.files {
			files[fmt.Sprintf("%02d.yaml", i)] = file(tt.perFile, tt.text)
		}
		f, problems := fleet.Load(files)
		said := 0
		for _, p := range problems {
			if p.Message == tt.want && p.File != "" && p.Line > 0 {
				said++
			}
		}
		if f != nil || said != 1 || len(problems) > 30_000 {
			t.Errorf("%s: %d of %d problems say %q", tt.reason, said, len(problems), tt.want)
		}
	}
}

// TestTooMuchDelivered: few files, which many networks deliver.
func TestTooMuchDelivered(t *testing.T) {
	files := fstest.MapFS{"manifests/all.yaml": {Data: []byte(strings.Repeat("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n---\n", 1000))}}
	var networks strings.Builder
	for i := range 150 {
		fmt.Fprintf(&networks, "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: net-%03d}\nspec: {resources: [{path: manifests}]}\n---\n", i)
	}
	files["networks.yaml"] = &fstest.MapFile{Data: []byte(networks.String())}
	_, problems := fleet.Load(files)
	const want = "LimitExceeded networks.yaml:504: spec.resources[0].path: the networks deliver more than 100000 manifests"
	if !strings.Contains(lines(problems), want) {
		t.Errorf("problems %.300q, want among them %q", lines(problems), want)
	}
}

// crowd is a folder of very many entries, which are made as they are listed.
type crowd struct{ fstest.MapFS }

func (crowd) ReadDir(string) ([]fs.DirEntry, error) {
	info, err := fs.Stat(fstest.MapFS{"x.txt": {}}, "x.txt")
	entries := make([]fs.DirEntry, 250_000)
	for i := range entries {
		entries[i] = fs.FileInfoToDirEntry(info)
	}
	return entries, err
}

func TestTooManyFiles(t *testing.T) {
	_, problems := fleet.Load(crowd{fstest.MapFS{}})
	if got, want := lines(problems), "LimitExceeded more than 200000 files and folders below the fleet's path"; got != want {
		t.Errorf("problems %q, want %q", got, want)
	}
}
