package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRunRefuses(t *testing.T) {
	for _, tt := range []struct {
		reason string
		args   []string
	}{
		{"no verb", nil},
		{"an unknown verb", []string{"down"}},
		{"an unknown flag", []string{"up", "--cluster"}},
		{"more members than there are addresses", []string{"up", "--members", "100"}},
		{"members without nodes", []string{"up", "--nodes", "0"}},
		{"arguments", []string{"up", "two"}},
	} {
		var stdout, stderr bytes.Buffer
		if err := run(t.Context(), tt.args, &stdout, &stderr); err == nil {
			t.Errorf("%s: %q ran", tt.reason, tt.args)
		}
		if stdout.Len() > 0 {
			t.Errorf("%s: stdout has %q", tt.reason, stdout.String())
		}
	}
}

func TestHelpNamesEveryVerb(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"help"}, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"up", "build"} {
		if !strings.Contains(stderr.String(), verb) {
			t.Errorf("help lacks %s:\n%s", verb, stderr.String())
		}
	}
}
