package fleet_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// upgradeOf replaces a network's version.
func upgradeOf(old, replacement string) fleet.Replacement {
	return fleet.Replacement{Kind: "ApplicationNetwork", Name: "prod", Path: "spec.upgrade.version", Old: old, New: replacement}
}

const head = "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\n"

// TestReplace: the version changes and not one byte around it.
func TestReplace(t *testing.T) {
	member := "---\napiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: one}\nspec:\n  applicationNetwork: prod\n" +
		"  cluster: {type: Kubernetes, kubeconfigRef: {name: one}}\n  upgrade: {version: 1.30.4} # the member's own\n"
	for _, tt := range []struct{ reason, file, old, replacement, want string }{
		{"plain", head + "spec:\n  upgrade:\n    version: 1.30.4\n", "1.30.4", "1.31.0", "version: 1.31.0\n"},
		{"double quotes stay", head + "spec:\n  upgrade:\n    version: \"1.30\"\n", "1.30", "1.31", "version: \"1.31\"\n"},
		{"single quotes stay", head + "spec:\n  upgrade:\n    version: '1.30'\n", "1.30", "1.31", "version: '1.31'\n"},
		{"a comment behind, with the same text", head + "spec:\n  upgrade:\n    version: 1.30.4   # 1.30.4, see #12\n", "1.30.4", "1.31.0", "version: 1.31.0   # 1.30.4, see #12\n"},
		{"comments before and between", "# 1.30.4\n" + head + "# 1.30.4\nspec: # 1.30.4\n  upgrade:\n    # version: 1.30.4\n    version: 1.30.4\n", "1.30.4", "1.31.0", "# version: 1.30.4\n    version: 1.31.0\n"},
		{"flow style", head + "spec: {upgrade: { version: 1.30.4 ,mode: SelfManaged}}\n", "1.30.4", "1.31.0", "{ version: 1.31.0 ,mode: SelfManaged}"},
		{"the version longer than before", head + "spec: {upgrade: {version: 1.30.9}}\n", "1.30.9", "1.30.10", "{version: 1.30.10}"},
		{"all on one line", `{apiVersion: isthmus.dev/v1alpha1, kind: ApplicationNetwork, metadata: {name: prod}, spec: {upgrade: {version: "1.30"}}}`, "1.30", "1.31", `{version: "1.31"}`},
		{"a byte order mark, and all on one line", "\ufeff" + `{apiVersion: isthmus.dev/v1alpha1, kind: ApplicationNetwork, metadata: {name: prod}, spec: {upgrade: {version: "1.30"}}}`, "1.30", "1.31", `{version: "1.31"}`},
		{"characters of several bytes before it on the line", head + "spec: {namespaces: [], upgrade: {mode: SelfManaged, # größer, 漢字 😀\n    version: 1.30.4}} # größer\n", "1.30.4", "1.31.0", "    version: 1.31.0}} # größer\n"},
		{"and in keys before it", "{apiVersion: isthmus.dev/v1alpha1, kind: ApplicationNetwork, metadata: {name: prod, annotations: {größe: 漢字 😀}}, spec: {upgrade: {version: '1.30'}}}\n", "1.30", "1.31", "version: '1.31'"},
		{"DOS line ends", strings.ReplaceAll(head+"spec:\n  upgrade:\n    version: 1.30.4 # as it is\n  dataPlane: {mtls: Strict}\n", "\n", "\r\n"), "1.30.4", "1.31.0", "    version: 1.31.0 # as it is\r\n"},
		{"no line end at the end", head + "spec:\n  upgrade:\n    version: 1.30.4", "1.30.4", "1.31.0", "    version: 1.31.0"},
		{"an anchor", head + "spec:\n  upgrade:\n    version: &v 1.30.4\n", "1.30.4", "1.31.0", "version: &v 1.31.0\n"},
		{"a tag", head + "spec:\n  upgrade:\n    version: !!str \"1.30\"\n", "1.30", "1.31", "version: !!str \"1.31\"\n"},
		{"a value on the next line", head + "spec:\n  upgrade:\n    version:\n      \"1.30\"\n", "1.30", "1.31", "version:\n      \"1.31\"\n"},
		{"a key in quotes", head + "spec:\n  \"upgrade\":\n    'version': \"1.30\"\n", "1.30", "1.31", "'version': \"1.31\"\n"},
		{"a plain minor would be a number", head + "spec:\n  upgrade:\n    version: 1.30.4\n", "1.30.4", "1.31", "version: \"1.31\"\n"},
		{"one document of several", "kind: Other\nspec: {upgrade: {version: 1.30.4}}\n---\n# a network\n" + head + "spec:\n  upgrade:\n    version: 1.30.4\n" + member, "1.30.4", "1.31.0", "    version: 1.31.0\n---\n"},
		{"a template of others beside it", head + "spec:\n  upgrade:\n    version: 1.30.4\n---\n{{ if .x }}\nversion: 1.30.4\n{{ end }}\n", "1.30.4", "1.31.0", "    version: 1.31.0\n---\n{{ if .x }}\nversion: 1.30.4\n"},
	} {
		files := fstest.MapFS{"fleet.yaml": {Data: []byte(tt.file)}}
		f, problems := fleet.Load(files)
		if f == nil {
			t.Errorf("%s: %v", tt.reason, problems)
			continue
		}
		got, err := f.Replace(files, upgradeOf(tt.old, tt.replacement))
		if err != nil {
			t.Errorf("%s: %v", tt.reason, err)
			continue
		}
		text := string(got["fleet.yaml"])
		if !strings.Contains(text, tt.want) {
			t.Errorf("%s: no %q in:\n%s", tt.reason, tt.want, text)
		}
		// But for the value itself, both ends are as they were.
		prefix := 0
		for prefix < min(len(text), len(tt.file)) && text[prefix] == tt.file[prefix] {
			prefix++
		}
		suffix := 0
		for suffix < min(len(text), len(tt.file))-prefix && text[len(text)-1-suffix] == tt.file[len(tt.file)-1-suffix] {
			suffix++
		}
		if changed := tt.file[prefix : len(tt.file)-suffix]; len(changed) > len(tt.old) {
			t.Errorf("%s: %q was changed", tt.reason, changed)
		}
		edited := fleet.Edited{Under: files, Files: got}
		after, problems := fleet.Load(edited)
		if after == nil || after.Network("prod").Spec.Upgrade.Version != tt.replacement {
			t.Errorf("%s: the file does not load as meant: %v\n%s", tt.reason, problems, text)
		}
	}
}

// TestReplaceSeveral: two fields of one file, and one of another.
func TestReplaceSeveral(t *testing.T) {
	member := func(name string) string {
		return "---\napiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: " + name + "}\nspec:\n  applicationNetwork: prod\n" +
			"  cluster: {type: Kubernetes, kubeconfigRef: {name: " + name + "}}\n  upgrade: {version: 1.30.4}\n"
	}
	files := fstest.MapFS{
		"network.yaml":   {Data: []byte(head + "spec: {upgrade: {version: 1.30.4}}\n" + member("one"))},
		"members/b.yaml": {Data: []byte(member("two"))},
		"README.md":      {Data: []byte("not YAML")},
	}
	f, problems := fleet.Load(files)
	if f == nil {
		t.Fatal(problems)
	}
	replace := func(name string) fleet.Replacement {
		return fleet.Replacement{Kind: "Member", Name: name, Path: "spec.upgrade.version", Old: "1.30.4", New: "1.31.0"}
	}
	got, err := f.Replace(files, upgradeOf("1.30.4", "1.31.0"), replace("one"), replace("two"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{
		"network.yaml":   []byte(strings.ReplaceAll(string(files["network.yaml"].Data), "1.30.4", "1.31.0")),
		"members/b.yaml": []byte(strings.ReplaceAll(string(files["members/b.yaml"].Data), "1.30.4", "1.31.0")),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	over := fleet.Edited{Under: files, Files: got}
	for name, want := range map[string]string{"members/b.yaml": string(got["members/b.yaml"]), "README.md": "not YAML"} {
		if data, err := fs.ReadFile(over, name); err != nil || string(data) != want {
			t.Errorf("%s of the edited files: %q, %v", name, data, err)
		}
	}
	if entries, err := fs.ReadDir(over, "members"); err != nil || len(entries) != 1 {
		t.Errorf("a folder of the edited files: %v, %v", entries, err)
	}
}

// TestReplaceRefuses: what can't be done says where, and why.
func TestReplaceRefuses(t *testing.T) {
	for _, tt := range []struct{ reason, file, old, replacement, want string }{
		{"an alias for the version", "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod, annotations: {a: &v \"1.30\"}}\nspec:\n  upgrade:\n    version: *v\n",
			"1.30", "1.31", "fleet.yaml:6: spec.upgrade.version: it is written by an alias: change it by hand"},
		{"a block", head + "spec:\n  upgrade:\n    version: |-\n      1.30.4\n", "1.30.4", "1.31.0", "written as a block"},
		{"escapes", head + "spec:\n  upgrade:\n    version: \"1\\x2e30\"\n", "1.30", "1.31", "written with escapes"},
		{"another version by now", head + "spec: {upgrade: {version: 1.30.4}}\n", "1.30.3", "1.31.0", `it says "1.30.4", not "1.30.3"`},
		{"no version", head + "spec: {upgrade: {}}\n", "", "1.31.0", "does not say it"},
		{"a new value that needs escapes", head + "spec: {upgrade: {version: 1.30.4}}\n", "1.30.4", "1.31.0\n", "needs escapes"},
	} {
		files := fstest.MapFS{"fleet.yaml": {Data: []byte(tt.file)}}
		f, problems := fleet.Load(files)
		if f == nil {
			t.Errorf("%s: %v", tt.reason, problems)
			continue
		}
		if _, err := f.Replace(files, upgradeOf(tt.old, tt.replacement)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
	}
	f := load(t, minimal)
	if _, err := f.Replace(fstest.MapFS{}, fleet.Replacement{Kind: "Member", Name: "nobody", Path: "spec"}); err == nil || !strings.Contains(err.Error(), `no Member "nobody"`) {
		t.Errorf("an object that is not there: %v", err)
	}
	if _, err := f.Replace(fstest.MapFS{}, fleet.Replacement{Kind: "Member", Name: "eastus-1", Path: "spec.upgrade.version"}); err == nil || !strings.Contains(err.Error(), "fleet.yaml:9: ") {
		t.Errorf("a file that is gone: %v", err)
	}
}
