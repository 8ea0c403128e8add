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
