package trust

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func request(member string) Request {
	return Request{Member: member, Policy: testPolicy()}
}

func testPolicy() Policy {
	return Policy{
		Network:      "prod",
		Root:         Lifetime{Validity: 365 * day, RotateAt: 0.5},
		Intermediate: Lifetime{Validity: 90 * day, RotateAt: 0.5},
		Leaf:         Lifetime{Validity: day, RotateAt: 0.5},
	}
}

// authority returns an Authority over a folder, with a clock that can be set.
func authority(t *testing.T) (*Authority, string, *time.Time) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "vault")
	vault, err := OpenDirectory(folder)
	if err != nil {
		t.Fatal(err)
	}
	now := start
	return NewAuthority(vault, func() time.Time { return now }), folder, &now
}

func issue(t *testing.T, a *Authority, member string) Chain {
	t.Helper()
	chain, err := a.Issue(t.Context(), request(member))
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestMembersShareOneRoot(t *testing.T) {
	a, _, _ := authority(t)
	var wg sync.WaitGroup
	chains := make([]Chain, 8)
	for i := range chains {
		wg.Go(func() {
			chain, err := a.Issue(context.Background(), request(fmt.Sprintf("member-%d", i)))
			if err != nil {
				t.Error(err)
			}
			chains[i] = chain
		})
	}
	wg.Wait()
	for i, chain := range chains[1:] {
		if !chain.Root.Equal(chains[0].Root) {
			t.Errorf("member-%d has another root", i+1)
		}
		if chain.Intermediate.SerialNumber.Cmp(chains[0].Intermediate.SerialNumber) == 0 {
			t.Errorf("member-%d has the serial number of member-0", i+1)
		}
	}
}

func TestCertificates(t *testing.T) {
	a, _, _ := authority(t)
	chain := issue(t, a, "eastus-1")
	for _, tt := range []struct {
		reason string
		ok     bool
	}{
		{"the root allows one tier below it", chain.Root.MaxPathLen == 1 && chain.Root.IsCA},
		{"the intermediate signs workloads only", chain.Intermediate.MaxPathLenZero && chain.Intermediate.IsCA},
		{"CAs sign certificates", chain.Root.KeyUsage&chain.Intermediate.KeyUsage&x509.KeyUsageCertSign != 0},
		{"key identifiers link the tiers", string(chain.Intermediate.AuthorityKeyId) == string(chain.Root.SubjectKeyId)},
		{"dated back against clock skew", chain.Intermediate.NotBefore.Equal(start.Add(-clockSkew))},
		{"valid as long as asked", chain.Intermediate.NotAfter.Equal(start.Add(90 * day))},
	} {
		if !tt.ok {
			t.Errorf("not so: %s", tt.reason)
		}
	}
}

func TestIntermediateRotatesUnderTheSameRoot(t *testing.T) {
	a, _, now := authority(t)
	first := issue(t, a, "eastus-1")
	*now = start.Add(40 * day)
	if again := issue(t, a, "eastus-1"); !again.Intermediate.Equal(first.Intermediate) {
		t.Error("replaced before its rotation point")
	}
	*now = start.Add(46 * day)
	second := issue(t, a, "eastus-1")
	if second.Intermediate.Equal(first.Intermediate) {
		t.Error("not replaced after its rotation point")
	}
	if !second.Root.Equal(first.Root) {
		t.Error("the root changed with the intermediate")
	}
}

func TestIntermediateNeverOutlivesTheRoot(t *testing.T) {
	a, _, now := authority(t)
	root := issue(t, a, "eastus-1").Root
	*now = start.Add(350 * day)
	if chain := issue(t, a, "westus-1"); !chain.Intermediate.NotAfter.Equal(root.NotAfter) {
		t.Errorf("intermediate ends %s, its root %s", chain.Intermediate.NotAfter, root.NotAfter)
	}
	*now = start.Add(366 * day)
	if _, err := a.Issue(t.Context(), request("northeu-1")); err == nil {
		t.Error("an expired root still signs")
	}
}

func TestVaultFaults(t *testing.T) {
	file := func(folder, name string) string { return filepath.Join(folder, "prod", name) }
	for _, tt := range []struct {
		reason string
		harm   func(t *testing.T, folder string)
		want   string
	}{
		{"a readable key file is refused, not used", func(t *testing.T, folder string) {
			check(t, os.Chmod(file(folder, "root.key"), 0o644))
		}, "open to others"},
		{"a readable document is refused, too", func(t *testing.T, folder string) {
			check(t, os.Chmod(file(folder, "root.json"), 0o644))
		}, "open to others"},
		{"a root that cannot be read never makes a second one", func(t *testing.T, folder string) {
			check(t, os.WriteFile(file(folder, "root.json"), []byte("garbage"), 0o600))
		}, "not a document"},
		{"a certificate without its key", func(t *testing.T, folder string) {
			check(t, os.Remove(file(folder, "root.key")))
		}, "not in the vault"},
		{"a key that is cut off", func(t *testing.T, folder string) {
			check(t, os.Truncate(file(folder, "root.key"), 40))
		}, "its key is missing"},
		{"the key of another certificate", func(t *testing.T, folder string) {
			other, err := OpenDirectory(filepath.Join(t.TempDir(), "other"))
			check(t, err)
			_, err = other.CreateKey(t.Context(), "prod/root", KeySpec{Algorithm: ECDSAP256})
			check(t, err)
			check(t, os.Rename(filepath.Join(other.path, "prod", "root.key"), file(folder, "root.key")))
		}, "not the version that its certificate was made with"},
	} {
		a, folder, now := authority(t)
		issue(t, a, "eastus-1")
		tt.harm(t, folder)
		before := vaultFiles(t, folder)
		vault, err := OpenDirectory(folder)
		check(t, err)
		_, err = NewAuthority(vault, func() time.Time { return *now }).Issue(t.Context(), request("westus-1"))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: the error shows the file: %v", tt.reason, err)
		}
		if diff := cmp.Diff(before, vaultFiles(t, folder)); diff != "" {
			t.Errorf("%s: the vault was written: %s", tt.reason, diff)
		}
	}
}

func TestLooseFolderIsRefused(t *testing.T) {
	folder := t.TempDir()
	check(t, os.Chmod(folder, 0o755))
	if _, err := OpenDirectory(folder); err == nil {
		t.Error("a vault that others can enter was opened")
	}
}

func TestFilesArePrivate(t *testing.T) {
	a, folder, _ := authority(t)
	issue(t, a, "eastus-1")
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return err
	})
	check(t, err)
}

func TestSecretIsWholeAndKeyStaysHidden(t *testing.T) {
	a, _, _ := authority(t)
	chain := issue(t, a, "eastus-1")
	secret, err := chain.Secret("applink-system")
	check(t, err)
	data, _, err := unstructured.NestedStringMap(secret.Object, "data")
	check(t, err)
	var names []string
	for _, name := range []string{"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"} {
		if decoded, err := base64.StdEncoding.DecodeString(data[name]); err != nil || len(decoded) == 0 {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		t.Errorf("missing in the Secret: %v", names)
	}
	key, err := encodeKey(chain.key)
	check(t, err)
	scalar, err := chain.key.Bytes()
	check(t, err)
	number := new(big.Int).SetBytes(scalar).String() // how fmt would print it
	for _, printed := range []string{fmt.Sprint(chain), fmt.Sprintf("%v", chain), fmt.Sprintf("%+v", chain), fmt.Sprintf("%#v", chain)} {
		if strings.Contains(printed, string(key)) || strings.Contains(printed, number) {
			t.Errorf("the key is printed: %s", printed)
		}
	}
}

// failing is a vault that cannot be read.
type failing struct {
	Vault
	writes int
}

func (*failing) Get(context.Context, string) (Document, error) {
	return Document{}, errors.New("vault is away")
}
func (f *failing) Put(context.Context, string, Document) error    { f.writes++; return nil }
func (f *failing) Create(context.Context, string, Document) error { f.writes++; return nil }
func (f *failing) CreateKey(context.Context, string, KeySpec) (Key, error) {
	f.writes++
	return nil, errors.New("vault is away")
}

func TestUnreadableVaultMakesNoCA(t *testing.T) {
	vault := &failing{}
	if _, err := NewAuthority(vault, time.Now).Issue(t.Context(), request("eastus-1")); err == nil || vault.writes != 0 {
		t.Errorf("error %v and %d CAs made, want an error and none", err, vault.writes)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	return string(data)
}

// TestReplicasShareOneRoot: two processes that begin at once over one folder must
// not make two roots; the workloads of one would not trust those of the other.
func TestReplicasShareOneRoot(t *testing.T) {
	for range 20 {
		folder := filepath.Join(t.TempDir(), "vault")
		roots, identities := make([]string, 4), make([]string, 4)
		var wg sync.WaitGroup
		for i := range roots {
			wg.Go(func() {
				vault, err := OpenDirectory(folder)
				if err != nil {
					t.Error(err)
					return
				}
				if identities[i], err = vault.Identity(context.Background()); err != nil {
					t.Error(err)
				}
				chain, err := NewAuthority(vault, func() time.Time { return start }).Issue(context.Background(), request(fmt.Sprint("m-", i)))
				if err != nil {
					t.Error(err)
					return
				}
				roots[i] = chain.Root.SerialNumber.String()
			})
		}
		wg.Wait()
		for i := range roots {
			if roots[i] != roots[0] || identities[i] == "" || identities[i] != identities[0] {
				t.Fatalf("roots %q, identities %q", roots, identities)
			}
		}
	}
}
