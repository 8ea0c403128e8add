package signature

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"golang.org/x/crypto/ssh"
)

// Keys of those who may sign.
type Keys struct {
	pgp openpgp.EntityList
	ssh []sshKey
}

// sshKey is one line of a file of allowed signers.
type sshKey struct {
	principals string
	key        ssh.PublicKey
	// namespaces are patterns; nil means all.
	namespaces []string
	// after and before bound the time in which it may sign; zero means no bound.
	after, before time.Time
}

const (
	beginPublic  = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	beginPrivate = "-----BEGIN PGP PRIVATE KEY BLOCK-----"
)

// ParseKeys reads keys under any names: OpenPGP's as armoured text, SSH's as
// OpenSSH's file of allowed signers. One that cannot be read is an [Error]: a
// signer that silently was not read would be a surprise at the wrong time.
func ParseKeys(data map[string][]byte) (Keys, error) {
	var keys Keys
	for _, name := range slices.Sorted(maps.Keys(data)) {
		content := string(data[name])
		var err error
		switch {
		case strings.Contains(content, beginPrivate):
			err = fmt.Errorf("holds a private key: give the public one")
		case strings.Contains(content, beginPublic):
			err = keys.addPGP(content)
		default:
			err = keys.addSSH(content)
		}
		if err != nil {
			return Keys{}, refuse(ReasonInvalidKeys, "the key %q %v", name, err)
		}
	}
	if len(keys.pgp) == 0 && len(keys.ssh) == 0 {
		return Keys{}, refuse(ReasonInvalidKeys, "there is no key")
	}
	return keys, nil
}

// addPGP reads one or several armoured blocks.
func (k *Keys) addPGP(content string) error {
	for i, rest := range strings.Split(content, beginPublic)[1:] {
		block, err := armor.Decode(strings.NewReader(beginPublic + rest))
		var entities openpgp.EntityList
		if err == nil {
			entities, err = openpgp.ReadKeyRing(block.Body)
		}
		if err != nil || len(entities) == 0 {
			return fmt.Errorf("holds an OpenPGP key, number %d, that cannot be read", i+1)
		}
		k.pgp = append(k.pgp, entities...)
	}
	return nil
}

func (k *Keys) addSSH(content string) error {
	for i, line := range strings.Split(content, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseAllowedSigner(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		k.ssh = append(k.ssh, key)
	}
	return nil
}

// parseAllowedSigner reads "principals [options] type key [comment]", see
// ssh-keygen(1).
func parseAllowedSigner(line string) (sshKey, error) {
	principals, rest, ok := strings.Cut(line, " ")
	if !ok || keyType(principals) {
		return sshKey{}, fmt.Errorf("not a line of allowed signers: principals, a key's type and the key")
	}
	out := sshKey{principals: principals}
	fields := words(rest)
	if len(fields) > 0 && !keyType(fields[0]) {
		if err := out.options(fields[0]); err != nil {
			return sshKey{}, err
		}
		fields = fields[1:]
	}
	if len(fields) < 2 || !keyType(fields[0]) {
		return sshKey{}, fmt.Errorf("not a line of allowed signers: principals, a key's type and the key")
	}
	raw, err := base64.StdEncoding.DecodeString(fields[1])
	if err == nil {
		out.key, err = ssh.ParsePublicKey(raw)
	}
	if err != nil || out.key.Type() != fields[0] {
		return sshKey{}, fmt.Errorf("not a public key of type %q", fields[0])
	}
	return out, nil
}

func keyType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-")
}

// words splits at spaces that are not in double quotes.
func words(text string) []string {
	quoted := false
	return strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t')
	})
}

func (k *sshKey) options(text string) error {
	quoted := false
	for _, option := range strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && r == ','
	}) {
		name, value, _ := strings.Cut(option, "=")
		value = strings.Trim(value, `"`)
		var err error
		switch strings.ToLower(name) {
		case "namespaces":
			k.namespaces = strings.Split(value, ",")
		case "valid-after":
			k.after, err = timestamp(value)
		case "valid-before":
			k.before, err = timestamp(value)
		case "cert-authority":
			err = fmt.Errorf("certificates are not followed: name the signers' own keys")
		default:
			err = fmt.Errorf("unknown option %q", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// timestamp reads YYYYMMDD[HHMM[SS]][Z]. Without Z it is OpenSSH's local time,
// which is UTC here: a hub has no place.
func timestamp(text string) (time.Time, error) {
	digits := strings.TrimSuffix(text, "Z")
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			if t, err := time.Parse(layout, digits); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time of the form YYYYMMDDHHMM", text)
}

// allows reports whether the key may sign for a purpose: some pattern must match
// and none that begins with "!".
func (k sshKey) allows(namespace string) bool {
	if k.namespaces == nil {
		return true
	}
	allowed := false
	for _, pattern := range k.namespaces {
		pattern, not := strings.CutPrefix(strings.TrimSpace(pattern), "!")
		if matched, err := path.Match(pattern, namespace); err != nil || !matched {
			continue
		}
		if not {
			return false
		}
		allowed = true
	}
	return allowed
}

// sameKey compares keys by all their bytes.
func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
