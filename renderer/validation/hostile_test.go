package validation_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestHostileExpressions: expressions that take engines with backtracking years,
// and rules that are run for thousands of items, are answered soon: regular
// expressions are RE2, and the CEL rules of a CRD have a budget.
func TestHostileExpressions(t *testing.T) {
	const soon = 30 * time.Second // years would be the alternative
	route := func(match string) string {
		return `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec: {hosts: [cart], http: [{match: [` + match + `], route: [{destination: {host: cart}}]}]}`
	}
	var many strings.Builder
	for i := range 3000 {
		_, _ = fmt.Fprintf(&many, "{uri: {regex: '^(a+)+%d$'}},", i)
	}
	for reason, text := range map[string]string{
		"nested repetition":     route(`{uri: {regex: "^(([a-z])+.)+[A-Z]([a-z])+$"}}`),
		"repetition of repeats": route(`{uri: {regex: "((((a{1,100}){1,100}){1,100}){1,100})"}}`),
		"deep nesting":          route(`{uri: {regex: "` + strings.Repeat("(", 2000) + "a" + strings.Repeat(")", 2000) + `"}}`),
		"a long alternation":    route(`{uri: {regex: "` + strings.Repeat("a|", 20000) + `a"}}`),
		"three thousand":        route(many.String()),
	} {
		began := time.Now()
		if _, err := definitions()["1.31.0"].Check(parse(t, text)); err != nil {
			t.Errorf("%s: %v", reason, err)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("%s: took %s", reason, took)
		}
	}
}
