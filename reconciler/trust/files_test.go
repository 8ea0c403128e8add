package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
)

// mounting is a request of a member that mounts its CA, file by file.
func mounting(crl bool) Request {
	r := request("eastus-1")
	r.Policy.Files, r.Policy.CRL = true, crl
	return r
}

// mounted are the files that the vault has now, each in its entry.
func mounted(t *testing.T, v Vault, crl bool) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, file := range vaultname.Files(crl) {
		document, err := v.Get(context.Background(), vaultname.File("prod", "eastus-1", file))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out[file] = string(document.Data)
	}
	return out
}

func filesAsText(t *testing.T, c Chain) map[string]string {
	t.Helper()
	files, err := c.files()
	check(t, err)
	out := map[string]string{}
	for name, content := range files {
		out[name] = string(content)
	}
	return out
}

func sameFiles(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// TestMountedFilesAreNeverOfTwoCAs: whenever a reader comes that reads the files one
// after the other while they are written, it has those of one CA, or a key and a
// certificate that do not belong together, which istiod refuses.
func TestMountedFilesAreNeverOfTwoCAs(t *testing.T) {
	for _, crl := range []bool{false, true} {
		a, w, now := watchedAuthority(t)
		states := []map[string]string{} // what the vault has before each write, and after the last
		order := vaultname.Files(crl)
		before, err := a.Issue(t.Context(), mounting(crl))
		check(t, err)
		w.between = func(op, name string) {
			if op == "put" && strings.HasPrefix(name, vaultname.Member("prod", "eastus-1")+"/") {
				states = append(states, mounted(t, w.Vault, crl))
			}
		}
		*now = start.Add(46 * day)
		after, err := a.Issue(t.Context(), mounting(crl))
		check(t, err)
		states = append(states, mounted(t, w.Vault, crl))
		if !sameFiles(states[0], filesAsText(t, before)) || !sameFiles(states[len(states)-1], filesAsText(t, after)) {
			t.Fatal("the vault does not begin with the files of the old CA, and end with those of the new one")
		}
		whole, refused := 0, 0
		var read func(files map[string]string, at int)
		read = func(files map[string]string, at int) {
			if len(files) < len(order) {
				file := order[len(files)]
				for ; at < len(states); at++ {
					next := map[string]string{file: states[at][file]}
					for name, content := range files {
						next[name] = content
					}
					read(next, at)
				}
				return
			}
			if _, err := tls.X509KeyPair([]byte(files["ca-cert.pem"]), []byte(files["ca-key.pem"])); err != nil {
				refused++
				return
			}
			whole++
			if !sameFiles(files, states[0]) && !sameFiles(files, states[len(states)-1]) {
				t.Error("key and certificate belong together, and what is between them is of another CA")
			}
		}
		read(map[string]string{}, 0)
		if whole == 0 || refused == 0 {
			t.Errorf("%d readers with whole files, %d with others: the test shows nothing", whole, refused)
		}
		t.Logf("revocation %t: %d times of reading, %d of them refused by istiod", crl, whole+refused, refused)
	}
}

// TestFilesFollowTheDocument: a process that ends between two writes, and a vault
// that fails there, leave nothing that stays.
func TestFilesFollowTheDocument(t *testing.T) {
	const writes = 3 // the root stays
	for at := range writes {
		a, w, now := watchedAuthority(t)
		_, err := a.Issue(t.Context(), mounting(false))
		check(t, err)
		n := 0
		away := errors.New("the vault is away")
		w.fail = func(op, name string) error {
			if op == "put" && strings.Contains(name, "/eastus-1/") {
				if n++; n > at {
					return away
				}
			}
			return nil
		}
		*now = start.Add(46 * day)
		chain, err := a.Issue(t.Context(), mounting(false))
		if last := (*LastGoodError)(nil); !errors.As(err, &last) || !errors.Is(err, away) {
			t.Fatalf("write %d fails: %v", at, err)
		}
		w.fail = nil
		for name, next := range map[string]*Authority{"the same process": a, "the next process": NewAuthority(w, func() time.Time { return *now })} {
			again, err := next.Issue(t.Context(), mounting(false))
			check(t, err)
			if !again.Intermediate.Equal(chain.Intermediate) {
				t.Errorf("write %d fails, %s: another CA was made", at, name)
			}
			if !sameFiles(mounted(t, w.Vault, false), filesAsText(t, chain)) {
				t.Errorf("write %d fails, %s: the files are not those of the CA", at, name)
			}
		}
		// What is there is not asked for again.
		before := w.count()
		if _, err := a.Issue(t.Context(), mounting(false)); err != nil || w.count() != before {
			t.Errorf("%d calls for a member of which nothing changes; %v", w.count()-before, err)
		}
	}
}

// TestFilesOnlyWhereAskedFor: no other member's key is in more entries than one.
func TestFilesOnlyWhereAskedFor(t *testing.T) {
	a, w, _ := watchedAuthority(t)
	var names []string
	w.between = func(_, name string) { names = append(names, name) }
	issue(t, a, "eastus-1")
	if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "eastus-1/") }) {
		t.Errorf("asked for: %q", names)
	}
	// Turned on later, the files of what is there are written.
	r := mounting(false)
	chain, err := a.Issue(t.Context(), r)
	check(t, err)
	if !sameFiles(mounted(t, w.Vault, false), filesAsText(t, chain)) {
		t.Error("the files are not those of the CA")
	}
	document, err := w.Vault.Get(t.Context(), vaultname.File("prod", "eastus-1", "ca-key.pem"))
	check(t, err)
	if !document.NotAfter.Equal(chain.NotAfter()) || bytes.Contains([]byte(fmt.Sprint(document)), []byte("PRIVATE")) {
		t.Errorf("%v, ends %s", document, document.NotAfter)
	}
}
