package signature

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// gitNamespace is what signatures of commits and tags are made for.
const gitNamespace = "git"

func (k Keys) verifyPGP(payload []byte, text string, now time.Time) (string, error) {
	block, err := armor.Decode(strings.NewReader(text))
	if err != nil || block.Type != openpgp.SignatureType {
		return "", refuse(ReasonInvalidSignature, "the OpenPGP signature cannot be read")
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	made, signer, err := openpgp.VerifyDetachedSignature(k.pgp, bytes.NewReader(payload), block.Body, config)
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", refuse(ReasonUnknownSigner, "signed by an OpenPGP key that is not among those of spec.verify")
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "", refuse(ReasonKeyRevoked, "signed by %s, which was revoked", fingerprint(signer))
	case errors.Is(err, pgperrors.ErrKeyExpired), errors.Is(err, pgperrors.ErrSignatureExpired):
		return "", refuse(ReasonKeyExpired, "signed by %s, which has expired", fingerprint(signer))
	case err != nil:
		return "", refuse(ReasonInvalidSignature, "the OpenPGP signature is not one of this commit")
	}
	switch made.Hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
		return fingerprint(signer), nil
	}
	return "", refuse(ReasonInvalidSignature, "the OpenPGP signature uses the hash %s, which can be forged", made.Hash)
}

func fingerprint(entity *openpgp.Entity) string {
	if entity == nil || entity.PrimaryKey == nil {
		return "an OpenPGP key"
	}
	return fmt.Sprintf("OpenPGP key %X", entity.PrimaryKey.Fingerprint)
}

func (k Keys) verifySSH(payload []byte, text string, now time.Time) (string, error) {
	made, err := sshsig.Unarmor([]byte(text))
	if err != nil {
		return "", refuse(ReasonInvalidSignature, "the SSH signature cannot be read")
	}
	if made.Namespace != gitNamespace {
		return "", refuse(ReasonWrongNamespace, "the SSH signature was made for %q and not for %q", printable(made.Namespace), gitNamespace)
	}
	if made.Signature.Format == ssh.KeyAlgoRSA {
		return "", refuse(ReasonInvalidSignature, "the SSH signature uses SHA-1, which can be forged")
	}
	// A key may be in several lines, each for other times or purposes.
	refused := refuse(ReasonUnknownSigner, "signed by the SSH key %s, which is not among those of spec.verify", ssh.FingerprintSHA256(made.PublicKey))
	for _, key := range k.ssh {
		if !sameKey(key.key, made.PublicKey) {
			continue
		}
		if err := key.mayNow(now); err != nil {
			refused = err
			continue
		}
		if err := sshsig.Verify(bytes.NewReader(payload), made, key.key, made.HashAlgorithm, gitNamespace); err != nil {
			return "", refuse(ReasonInvalidSignature, "the SSH signature is not one of this commit")
		}
		return key.String(), nil
	}
	return "", refused
}

func (k sshKey) mayNow(now time.Time) error {
	switch {
	case !k.allows(gitNamespace):
		return refuse(ReasonWrongNamespace, "signed by %s, which may not sign for %q", k, gitNamespace)
	case !k.after.IsZero() && now.Before(k.after):
		return refuse(ReasonKeyExpired, "signed by %s, which may sign from %s on", k, k.after.Format(time.RFC3339))
	case !k.before.IsZero() && !now.Before(k.before):
		return refuse(ReasonKeyExpired, "signed by %s, which might sign until %s", k, k.before.Format(time.RFC3339))
	}
	return nil
}

// String names a key as an operator knows it.
func (k sshKey) String() string {
	return fmt.Sprintf("%s with SSH key %s", printable(k.principals), ssh.FingerprintSHA256(k.key))
}

// printable is a server's or a file's text without what a terminal would obey.
func printable(text string) string {
	quoted := fmt.Sprintf("%q", text)
	return quoted[1 : len(quoted)-1]
}
