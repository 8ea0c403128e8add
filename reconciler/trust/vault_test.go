package trust_test

import (
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/vaulttest"
)

// identityFile is an age identity as age-keygen leaves it.
func identityFile(t *testing.T) string {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(file, []byte("# public key: "+identity.Recipient().String()+"\n"+identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDirectoryIsAVault(t *testing.T) {
	for _, options := range []trust.DirectoryOptions{{}, {AgeIdentityFile: identityFile(t)}} {
		folder := filepath.Join(t.TempDir(), "vault")
		name := "plain"
		if options.AgeIdentityFile != "" {
			name = "encrypted"
		}
		t.Run(name, func(t *testing.T) {
			vaulttest.Test(t, func(t *testing.T) trust.Vault {
				vault, err := trust.OpenDirectory(folder, options)
				if err != nil {
					t.Fatal(err)
				}
				return vault
			})
		})
	}
}
