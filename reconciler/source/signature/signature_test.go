package signature_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/isthmus-mesh/isthmus/reconciler/source/signature"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

var payload = []byte("tree 1111\nauthor a <a@example.com> 1 +0000\n\nmessage\n")

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pgpKey makes a key a year before now, valid for a lifetime; zero is for ever.
func pgpKey(t *testing.T, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	entity, err := openpgp.NewEntity("Alice", "", "alice@example.com", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now.AddDate(-1, 0, 0) }, KeyLifetimeSecs: uint32(lifetime.Seconds()),
	})
	check(t, err)
	return entity
}

func armoured(t *testing.T, entity *openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	check(t, err)
	check(t, entity.Serialize(w))
	check(t, w.Close())
	return b.String()
}

func signPGP(t *testing.T, entity *openpgp.Entity, content []byte, at time.Time, lifetime uint32) string {
	t.Helper()
	var b bytes.Buffer
	check(t, openpgp.ArmoredDetachSign(&b, entity, bytes.NewReader(content), &packet.Config{Time: func() time.Time { return at }, SigLifetimeSecs: lifetime}))
	return b.String()
}

func sshKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	check(t, err)
	return signer
}

// allowed is a line of allowed signers.
func allowed(key ssh.Signer, options string) string {
	return "alice@example.com " + options + string(ssh.MarshalAuthorizedKey(key.PublicKey()))
}

func signSSH(t *testing.T, key ssh.Signer, content []byte, namespace string) string {
	t.Helper()
	made, err := sshsig.Sign(bytes.NewReader(content), key, sshsig.HashSHA512, namespace)
	check(t, err)
	return string(sshsig.Armor(made))
}

func TestVerify(t *testing.T) {
	alice, mallory, expired, revoked := pgpKey(t, 0), pgpKey(t, 0), pgpKey(t, 24*time.Hour), pgpKey(t, 0)
	early := now.AddDate(-1, 0, 0).Add(time.Hour)
	ofRevoked := signPGP(t, revoked, payload, early, 0)
	check(t, revoked.RevokeKey(packet.KeyCompromised, "stolen", &packet.Config{Time: func() time.Time { return now.AddDate(0, -1, 0) }}))
	a, m := sshKey(t), sshKey(t)
	pgp := map[string][]byte{"alice.asc": []byte(armoured(t, alice))}
	both := []byte(armoured(t, alice) + "\n" + armoured(t, pgpKey(t, 0)))
	lines := func(texts ...string) map[string][]byte {
		return map[string][]byte{"allowed_signers": []byte("# who may sign\n\n" + strings.Join(texts, ""))}
	}
	for _, tt := range []struct {
		reason    string
		keys      map[string][]byte
		signature string
		want      signature.Reason
	}{
		{"OpenPGP", pgp, signPGP(t, alice, payload, now, 0), ""},
		{"several keys in one file", map[string][]byte{"all": both}, signPGP(t, alice, payload, now, 0), ""},
		{"an expired key whose signature claims to be older", map[string][]byte{"k": []byte(armoured(t, expired))}, signPGP(t, expired, payload, early, 0), signature.ReasonKeyExpired},
		{"a revoked key whose signature claims to be older", map[string][]byte{"k": []byte(armoured(t, revoked))}, ofRevoked, signature.ReasonKeyRevoked},
		{"a signature that has expired", pgp, signPGP(t, alice, payload, early, 60), signature.ReasonKeyExpired},
		{"another key with the same name and e-mail address", pgp, signPGP(t, mallory, payload, now, 0), signature.ReasonUnknownSigner},
		{"of other bytes", pgp, signPGP(t, alice, append(payload, 'x'), now, 0), signature.ReasonInvalidSignature},
		{"a key in place of a signature", pgp, strings.ReplaceAll(armoured(t, alice), "PUBLIC KEY BLOCK", "SIGNATURE"), signature.ReasonInvalidSignature},
		{"armour of nothing", pgp, "-----BEGIN PGP SIGNATURE-----\n", signature.ReasonInvalidSignature},
		{"SSH", lines(allowed(a, "")), signSSH(t, a, payload, "git"), ""},
		{"SSH, for git among others", lines(allowed(m, ""), allowed(a, `namespaces="file,git" `)), signSSH(t, a, payload, "git"), ""},
		{"SSH, in its time", lines(allowed(a, `valid-after="20260101",valid-before="20261231Z" `)), signSSH(t, a, payload, "git"), ""},
		{"SSH, replaced by a later line", lines(allowed(a, `valid-before="20260101" `), allowed(a, `valid-after="20260102" `)), signSSH(t, a, payload, "git"), ""},
		{"SSH, after its time", lines(allowed(a, `valid-before="202606011200" `)), signSSH(t, a, payload, "git"), signature.ReasonKeyExpired},
		{"SSH, before its time", lines(allowed(a, `valid-after="20260601120001" `)), signSSH(t, a, payload, "git"), signature.ReasonKeyExpired},
		{"SSH, for another purpose", lines(allowed(a, "")), signSSH(t, a, payload, "file"), signature.ReasonWrongNamespace},
		{"SSH, by a key for files", lines(allowed(a, `namespaces="file" `)), signSSH(t, a, payload, "git"), signature.ReasonWrongNamespace},
		{"SSH, by a key for all but git", lines(allowed(a, `namespaces="*,!git" `)), signSSH(t, a, payload, "git"), signature.ReasonWrongNamespace},
		{"SSH, by a key that was removed", lines(allowed(m, "")), signSSH(t, a, payload, "git"), signature.ReasonUnknownSigner},
		{"SSH, of other bytes", lines(allowed(a, "")), signSSH(t, a, payload[1:], "git"), signature.ReasonInvalidSignature},
		{"SSH against OpenPGP's keys", pgp, signSSH(t, a, payload, "git"), signature.ReasonUnknownSigner},
		{"OpenPGP against SSH's keys", lines(allowed(a, "")), signPGP(t, alice, payload, now, 0), signature.ReasonUnknownSigner},
		{"unsigned", pgp, "", signature.ReasonUnsigned},
		{"X.509", pgp, "-----BEGIN SIGNED MESSAGE-----\n", signature.ReasonInvalidSignature},
	} {
		keys, err := signature.ParseKeys(tt.keys)
		check(t, err)
		signer, err := keys.Verify(payload, tt.signature, now)
		if tt.want == "" {
			if err != nil || signer == "" {
				t.Errorf("%s: %q, %v", tt.reason, signer, err)
			}
			continue
		}
		var refused *signature.Error
		if !errors.As(err, &refused) || refused.Reason != tt.want {
			t.Errorf("%s: %v, want %s", tt.reason, err, tt.want)
		}
	}
}

// TestParseKeys: keys that cannot be read are an error, not keys fewer; what is
// secret is not repeated.
func TestParseKeys(t *testing.T) {
	good := allowed(sshKey(t), "")
	for _, tt := range []struct{ reason, content, want string }{
		{"nothing", "", "there is no key"},
		{"only comments", "# none yet\n", "there is no key"},
		{"a line of authorized_keys", strings.TrimPrefix(good, "alice@example.com "), "not a line of allowed signers"},
		{"a second line that is broken", good + "bob@example.com ssh-ed25519 AAAAcanary\n", `line 2: not a public key of type "ssh-ed25519"`},
		{"another type than the key's", strings.Replace(good, "ssh-ed25519", "ssh-rsa", 1), `line 1: not a public key of type "ssh-rsa"`},
		{"an option that would be ignored", strings.Replace(good, " ", ` verify-required `, 1), `unknown option "verify-required"`},
		{"certificates", strings.Replace(good, " ", ` cert-authority `, 1), "certificates are not followed"},
		{"a time that is none", strings.Replace(good, " ", ` valid-before="soon" `, 1), `"soon" is not a time`},
		{"a private key", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\ncanary", "holds a private key"},
		{"a broken key", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\ncanary", "cannot be read"},
	} {
		_, err := signature.ParseKeys(map[string][]byte{"keys": []byte(tt.content)})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want …%s", tt.reason, err, tt.want)
		}
	}
}

// TestParts: what was signed is every byte but the signature.
func TestParts(t *testing.T) {
	for _, tt := range []struct{ reason, object, payload, signature string }{
		{"a commit", "tree 1\ngpgsig -----BEGIN\n \n abc\n -----END\nencoding x\n\nmessage\n\n gpgsig no\n", "tree 1\nencoding x\n\nmessage\n\n gpgsig no\n", "-----BEGIN\n\nabc\n-----END"},
		{"an unsigned commit", "tree 1\n\nmessage", "tree 1\n\nmessage", ""},
		{"a folded header is no signature", "tree 1\nmergetag object 2\n gpgsig x\n\nm", "tree 1\nmergetag object 2\n gpgsig x\n\nm", ""},
		{"another header of that name's beginning", "tree 1\ngpgsig-sha256 x\n\nm", "tree 1\ngpgsig-sha256 x\n\nm", ""},
		{"no message", "tree 1\ngpgsig x", "tree 1", "x"},
	} {
		payload, text, err := signature.Commit([]byte(tt.object))
		if err != nil || string(payload) != tt.payload || text != tt.signature {
			t.Errorf("%s: %q, %q, %v", tt.reason, payload, text, err)
		}
	}
	if _, _, err := signature.Commit([]byte("tree 1\ngpgsig a\ngpgsig b\n\nm")); err == nil {
		t.Error("two signatures: no error")
	}
	for _, tt := range []struct{ reason, object, payload, signature string }{
		{"a tag", "object 1\n\nm\n-----BEGIN SSH SIGNATURE-----\nx\n", "object 1\n\nm\n", "-----BEGIN SSH SIGNATURE-----\nx\n"},
		{"a signature in the message is of the message", "object 1\n\n-----BEGIN PGP SIGNATURE-----\nm\n-----BEGIN PGP SIGNATURE-----\nx\n", "object 1\n\n-----BEGIN PGP SIGNATURE-----\nm\n", "-----BEGIN PGP SIGNATURE-----\nx\n"},
		{"an unsigned tag", "object 1\n\nm\n", "object 1\n\nm\n", ""},
	} {
		payload, text := signature.Tag([]byte(tt.object))
		if string(payload) != tt.payload || text != tt.signature {
			t.Errorf("%s: %q, %q", tt.reason, payload, text)
		}
	}
}
