package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// folderFromBefore is a vault as it was kept until tags: NAME.pem with the
// certificate and its key, also the root's.
func folderFromBefore(t *testing.T) (folder string, root, intermediate *x509.Certificate) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "vault")
	check(t, os.MkdirAll(filepath.Join(folder, "prod", "members"), 0o700))
	write := func(name string, certificate *x509.Certificate, key *ecdsa.PrivateKey) {
		encoded, err := encodeKey(key)
		check(t, err)
		check(t, os.WriteFile(filepath.Join(folder, name), append(encodeCertificates(certificate), encoded...), 0o600))
	}
	pair := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		if signer == nil {
			signer = key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		check(t, err)
		certificate, err := x509.ParseCertificate(der)
		check(t, err)
		return certificate, key
	}
	template, err := rootTemplate("prod", 1, start, 365*day)
	check(t, err)
	root, rootKey := pair(template, template, nil)
	template, err = intermediateTemplate(Root{Certificate: root}, "prod", "eastus-1", start, 90*day)
	check(t, err)
	intermediate, key := pair(template, root, rootKey)
	write("prod/root.pem", root, rootKey)
	write("prod/members/eastus-1.pem", intermediate, key)
	return folder, root, intermediate
}

// TestFolderFromBefore: a new binary over an old folder makes no second root, and
// changes nothing that need not change.
func TestFolderFromBefore(t *testing.T) {
	folder, root, intermediate := folderFromBefore(t)
	before := vaultFiles(t, folder)
	vault, err := OpenDirectory(folder)
	check(t, err)
	now := start.Add(day)
	a := NewAuthority(vault, func() time.Time { return now })
	chain := issue(t, a, "eastus-1")
	if !chain.Root.Equal(root) || !chain.Intermediate.Equal(intermediate) {
		t.Error("the member gets another root or intermediate")
	}
	if joined := issue(t, a, "westus-1"); !joined.Root.Equal(root) {
		t.Error("a new member gets another root")
	}
	now = start.Add(46 * day)
	if chain = issue(t, a, "eastus-1"); !chain.Root.Equal(root) || chain.Intermediate.Equal(intermediate) {
		t.Error("the intermediate is not replaced under the same root")
	}
	// What was there before is there still, and is never written.
	after := vaultFiles(t, folder)
	for file, content := range before {
		if after[file] != content {
			t.Errorf("%s was changed", file)
		}
	}
	vault, err = OpenDirectory(folder)
	check(t, err)
	again := issue(t, NewAuthority(vault, func() time.Time { return now }), "eastus-1")
	if !again.Intermediate.Equal(chain.Intermediate) {
		t.Error("after a start, the old file counts again")
	}
}
