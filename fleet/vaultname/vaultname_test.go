package vaultname_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
)

func TestKeyVault(t *testing.T) {
	longest := strings.Repeat("n", 24)
	for path, want := range map[string]string{
		vaultname.Member("prod", "eastus-1"): "isthmus--prod--members--eastus-1",
		"prod/root-2":                        "isthmus--prod--root-2",
		vaultname.Member(longest, longest):   "isthmus--" + longest + "--members--" + longest,

		vaultname.File(longest, longest, "cert-chain.pem"): "isthmus--" + longest + "--members--" + longest + "--cert-chain",
		"a--b/root":    "isthmus--a---b--root",
		"a---b/c-d":    "isthmus--a----b--c-d",
		"corporate-CA": "corporate-CA",
	} {
		got := vaultname.KeyVault(path)
		if got != want {
			t.Errorf("KeyVault(%q) = %q, want %q", path, got, want)
		}
		if !regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`).MatchString(got) {
			t.Errorf("%q is no name in a Key Vault", got)
		}
	}
}

// TestNoCollisions: paths that differ have names that differ, also cut ones.
func TestNoCollisions(t *testing.T) {
	long := strings.Repeat("l", 63)
	seen := map[string]string{}
	for _, path := range []string{
		"a/b", "a--b/c", "a/b--c", "a/b/c", "a---b/c", "a/b---c", "a-b/c", "a/b-c", "prod/members/x", "prod--members/x", "prod/members--x",
		long + "/members/" + long, long + "/members/" + long[1:], long + "/members/" + long[1:] + "m",
	} {
		name := vaultname.KeyVault(path)
		if seen[name] != "" {
			t.Errorf("%q and %q are both %q", seen[name], path, name)
		}
		if len(name) > 127 {
			t.Errorf("%q has %d characters", name, len(name))
		}
		seen[name] = path
	}
}
