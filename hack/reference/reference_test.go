package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
)

func TestSplitDefault(t *testing.T) {
	for _, tt := range []struct{ doc, meaning, value, reason string }{
		{"Port that takes OTLP. Default: 4317.", "Port that takes OTLP.", "4317", "at the end"},
		{"Channel to follow. Default Stable.", "Channel to follow.", "Stable", "without a colon"},
		{"Root is the CA. Defaults: 8760h, rotated at 50%.", "Root is the CA.", "8760h, rotated at 50%", "of an object"},
		{"Key in it. Default: \"value\",\nelse \"value.yaml\", as Flux has it.", "Key in it.", `"value", else "value.yaml", as Flux has it`, "dots inside, two lines"},
		{"LogLevel of it. Default: info. More.", "LogLevel of it. More.", "info", "in between"},
		{"Upgrade is the default for members.", "Upgrade is the default for members.", "", "the word in a sentence"},
	} {
		meaning, value := splitDefault(tt.doc)
		if meaning != tt.meaning || value != tt.value {
			t.Errorf("%s: got %q, %q", tt.reason, meaning, value)
		}
	}
}

func TestDefaultOf(t *testing.T) {
	s := sample{
		name:    "sample",
		written: map[string]any{"spec": map[string]any{"list": []any{map[string]any{"a": "x"}, map[string]any{}}, "always": "y"}},
		loaded: map[string]any{"spec": map[string]any{"list": []any{map[string]any{"a": "x"}, map[string]any{"a": "24h0m0s"}},
			"always": "y", "network": "sample", "mode": "Member"}},
	}
	for _, tt := range []struct {
		path, doc, want string
		problem         bool
		reason          string
	}{
		{"spec.list[].a", "", "`24h`", false, "filled in by code, where the sample leaves it out"},
		{"spec.list[].a", "Default: 24h.", "`24h`", false, "the doc agrees"},
		{"spec.list[].a", "Default: 24h, if possible.", "24h, if possible", false, "the doc says more"},
		{"spec.list[].a", "Default: 12h.", "", true, "the doc says another one"},
		{"spec.mode", "Default: Members.", "", true, "the doc says another one that begins alike"},
		{"spec.network", "Default: the member's name.", "the member's name", false, "the object's name is no value"},
		{"spec.always", "", "", true, "the sample never leaves it out"},
		{"spec.none", "", "", false, "nothing to say"},
		{"spec.none", "Default: none.", "none", false, "only the doc says it"},
	} {
		got, err := s.defaultOf(&field{Path: tt.path, schema: &schema{Type: "string", Description: tt.doc}})
		if got != tt.want || (err != nil) != tt.problem {
			t.Errorf("%s: got %q, %v", tt.reason, got, err)
		}
	}
	declared := &field{Path: "spec.mode", schema: &schema{Type: "string", Default: "Hosted"}}
	if _, err := s.defaultOf(declared); err == nil {
		t.Error("the schema has another default than Load, and nothing says so")
	}
	object := &field{Path: "spec.object", schema: &schema{Type: "object"}, Fields: []*field{{Path: "spec.object.a"}}}
	if _, err := s.defaultOf(object); err == nil {
		t.Error("the sample leaves an object out, and nothing says so")
	}
}

func TestEntriesCheck(t *testing.T) {
	leaf := func(path string) *field { return &field{Path: path, schema: &schema{}} }
	roots := map[string]*field{
		"ApplicationNetwork": {Fields: []*field{{Path: "spec", Fields: []*field{leaf("spec.known"), leaf("spec.target[].name"), leaf("spec.new")}}}},
		"Member":             {}, "Fleet": {},
	}
	known := entries{"ApplicationNetwork": {
		"spec": {Since: "0.1"}, "spec.known": {Since: "0.1"}, "spec.target.*": {Since: "0.1"}, "spec.gone": {Since: "0.1"},
	}}
	err := known.check(roots)
	if err == nil {
		t.Fatal("nothing is said of a new and of a removed field")
	}
	want := []string{
		`fields without an entry: add to hack/reference/fields.yaml, with "appnet: NAME" where Azure Kubernetes Application Network has the field:`,
		"ApplicationNetwork:",
		`  spec.new: {since: "0.1"}`,
		"entries without a field: remove from hack/reference/fields.yaml: ApplicationNetwork.spec.gone",
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestTypeOf(t *testing.T) {
	zero, one := int64(0), int64(100)
	for _, tt := range []struct {
		schema schema
		want   string
	}{
		{schema{Type: "string"}, "text"},
		{schema{Type: "string", MinLength: 1}, "text, not empty"},
		{schema{Type: "string", Pattern: `^([01][0-9]|2[0-3]):[0-5][0-9]$`}, `a time of day such as "02:00"`},
		{schema{Type: "string", Enum: []string{"A", "B"}}, "`A`, `B`"},
		{schema{Type: "integer", Minimum: &zero, Maximum: &one}, "whole number from 0 to 100"},
		{schema{Type: "array", MinItems: 1, Items: &schema{Type: "string", MaxLength: 9}}, "list of 1 or more: text; up to 9 characters"},
		{schema{Type: "array", Items: &schema{Properties: map[string]*schema{"name": {}}}, ListMapKeys: []string{"name"}}, "list: objects, each `name` once"},
		{schema{Type: "object", Free: true}, "any fields"},
	} {
		got, err := typeOf(&field{schema: &tt.schema})
		if err != nil || got != tt.want {
			t.Errorf("%+v: got %q, %v; want %q", tt.schema, got, err, tt.want)
		}
	}
	if _, err := typeOf(&field{schema: &schema{Type: "string", Pattern: "^unheard of$"}}); err == nil {
		t.Error("a pattern without words, and nothing says so")
	}
}

func TestFeatureRow(t *testing.T) {
	t.Chdir("../..")
	const here = "hack/reference/reference_test.go:TestFeatureRow"
	const absent = "no such " + "case" // nowhere in this file as a whole
	known := map[string]bool{"Member.spec.suspend": true}
	releases := []catalog.Release{{Version: "1.31.0"}, {Version: "1.30.4"}, {Version: "1.29.1"}}
	for _, tt := range []struct {
		feature       feature
		row, problems string
	}{
		{feature{Feature: "Pause", Here: "stop", Fields: []string{"Member.spec.suspend"}, Tests: []string{here}},
			"| Pause | stop | [`Member.spec.suspend`](reference/fleet.md#member.spec.suspend) | all | [TestFeatureRow](../hack/reference/reference_test.go) |\n", ""},
		{feature{Feature: "Pause", Here: "stop", From: "1.30.4", Tests: []string{here + "/Pause", "test/script/catalog.txtar"}},
			"| Pause | stop | always so | 1.30.4 to 1.31.0 | [TestFeatureRow: Pause](../hack/reference/reference_test.go), [catalog.txtar](../test/script/catalog.txtar) |\n", ""},
		{feature{Fields: []string{"Member.spec.pause"}, Tests: []string{here}}, "", `no field "Member.spec.pause"`},
		{feature{From: "1.28.2", Tests: []string{here}}, "", `the catalog has no release "1.28.2"`},
		{feature{From: "1.31.0", To: "1.30.4", Tests: []string{here}}, "", `release "1.31.0" is not before "1.30.4"`},
		{feature{}, "", "no test"},
		{feature{Tests: []string{"hack/reference/reference_test.go:TestGone"}}, "", `test "hack/reference/reference_test.go:TestGone": no function TestGone`},
		{feature{Tests: []string{here + "/" + absent}}, "", fmt.Sprintf("test %q: TestFeatureRow has no case %q", here+"/"+absent, absent)},
		{feature{Tests: []string{"test/script/gone.txtar"}}, "", `test "test/script/gone.txtar": open test/script/gone.txtar: no such file or directory`},
	} {
		row, err := tt.feature.row(known, releases)
		problems := ""
		if err != nil {
			problems = err.Error()
		}
		if problems != tt.problems || tt.row != "" && row != tt.row {
			t.Errorf("%+v: got %q, problems %q", tt.feature, row, problems)
		}
	}
}

func TestChoices(t *testing.T) {
	t.Chdir("../..")
	choices, err := readChoices(typesFolder)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"`Internal` is an address inside the private network", "`External` is a public address"}
	if diff := cmp.Diff(want, choiceOf(choices, []string{"Internal", "External"})); diff != "" {
		t.Errorf("visibilities (-want +got):\n%s", diff)
	}
	if got := choiceOf(choices, []string{"Mon", "Tue"}); got != nil {
		t.Errorf("values that no constant documents are said to mean %q", got)
	}
}
