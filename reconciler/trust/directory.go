package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
)

// Directory is a vault in a folder, for demos, tests and air-gapped fleets.
// Whoever can read the folder can impersonate every workload of the network,
// unless its files are encrypted; then whoever can read the identity as well.
//
// A key is NAME.key, in PEM; a document is NAME.json, with its tags. Until tags
// there was one file NAME.pem for both, which is still read, and never written.
// Files of an encrypted folder end in .age.
type Directory struct {
	path       string
	identities []age.Identity
	recipients []age.Recipient
}

// DirectoryOptions are what OpenDirectory can be told.
type DirectoryOptions struct {
	// AgeIdentityFile is a file with an age identity (AGE-SECRET-KEY-1…), as
	// age-keygen makes it. Files are then encrypted to it, and those that are not
	// yet are when the folder is opened. Empty: not encrypted.
	AgeIdentityFile string
}

// The ends of the names of files.
const (
	endKey      = ".key"
	endDocument = ".json"
	endBefore   = ".pem"
	endAge      = ".age"
)

// OpenDirectory returns the vault in a folder, which it makes when missing. A
// folder that others than its owner can enter is refused, and so is an encrypted
// one without its identity.
func OpenDirectory(path string, options ...DirectoryOptions) (*Directory, error) {
	d := &Directory{path: path}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make vault folder: %w", err)
	}
	if err := private(path); err != nil {
		return nil, err
	}
	for _, o := range options {
		if o.AgeIdentityFile == "" {
			continue
		}
		if err := d.useAge(o.AgeIdentityFile); err != nil {
			return nil, err
		}
	}
	return d, d.encryptAll()
}

// useAge takes the identity that files are encrypted to.
func (d *Directory) useAge(file string) error {
	if err := private(file); err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read age identity: %w", err)
	}
	// The library's errors may repeat a line of the file.
	if d.identities, err = age.ParseIdentities(bytes.NewReader(data)); err != nil {
		return fmt.Errorf("age identity file %q does not hold identities as age-keygen makes them", file)
	}
	for _, identity := range d.identities {
		switch identity := identity.(type) {
		case *age.X25519Identity:
			d.recipients = append(d.recipients, identity.Recipient())
		case *age.HybridIdentity:
			d.recipients = append(d.recipients, identity.Recipient())
		}
	}
	if len(d.recipients) == 0 {
		return fmt.Errorf("age identity file %q holds no identity that can be encrypted to", file)
	}
	return nil
}

// encryptAll encrypts what is not encrypted yet, each file whole before the plain
// one goes. Without an identity it refuses a folder that has encrypted files.
func (d *Directory) encryptAll() error {
	return d.locked(context.Background(), func() error {
		return filepath.WalkDir(d.path, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			if strings.HasPrefix(entry.Name(), temporary) {
				return os.Remove(file) // what a crash left of a write
			}
			if strings.HasSuffix(file, endAge) && d.recipients == nil {
				return fmt.Errorf("vault %q is encrypted: give the age identity that it is encrypted to", d.path)
			}
			end := filepath.Ext(file)
			secret := end == endKey || end == endDocument || end == endBefore && filepath.Base(file) != identityName+endBefore
			if d.recipients == nil || !secret {
				return nil
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("encrypt the vault: %w", err)
			}
			if err := d.write(file, data, os.Rename); err != nil {
				return fmt.Errorf("encrypt the vault: %w", err)
			}
			return os.Remove(file)
		})
	})
}

var vaultName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func (d *Directory) file(name, end string) (string, error) {
	if !vaultName.MatchString(name) {
		return "", fmt.Errorf("%q is no name for a vault: DNS labels with slashes between them", name)
	}
	return filepath.Join(d.path, filepath.FromSlash(name)+end), nil
}

// read returns a file's content, or an error wrapping [ErrNotFound].
func (d *Directory) read(name, end string) ([]byte, error) {
	file, err := d.file(name, end)
	if err != nil {
		return nil, err
	}
	for _, at := range []string{file + endAge, file} {
		if err := private(at); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return nil, fmt.Errorf("read %q from the vault: %w", name, err)
		}
		if at == file {
			return data, nil
		}
		plain, err := d.decrypt(data)
		if err != nil {
			return nil, d.corrupt(name, "it cannot be decrypted by the age identity that was given")
		}
		return plain, nil
	}
	return nil, fmt.Errorf("%q: %w", name, ErrNotFound)
}

func (d *Directory) decrypt(data []byte) ([]byte, error) {
	if d.identities == nil {
		return nil, errors.New("no identity")
	}
	reader, err := age.Decrypt(bytes.NewReader(data), d.identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

// write writes a file, encrypted where the folder is.
func (d *Directory) write(file string, data []byte, place func(from, to string) error) error {
	if d.recipients == nil {
		return writeFile(file, data, place)
	}
	var out bytes.Buffer
	writer, err := age.Encrypt(&out, d.recipients...)
	if err != nil {
		return err
	}
	if _, err := writer.Write(data); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return writeFile(file+endAge, out.Bytes(), place)
}

func (d *Directory) corrupt(name, message string) error {
	return &VaultError{
		Reason: VaultCorrupt, Op: fmt.Sprintf("read %q from the vault", name), Message: message,
		Hint: "restore the file from a backup; nothing is made anew in its place",
	}
}

// Key returns a key by its name. The folder keeps one version of each.
func (d *Directory) Key(ctx context.Context, name, version string) (Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := d.read(name, endKey)
	if errors.Is(err, ErrNotFound) {
		data, err = d.read(name, endBefore)
	}
	if err != nil {
		return nil, err
	}
	signer, err := decodeSigner(data)
	if err != nil {
		return nil, d.corrupt(name, err.Error())
	}
	key := directoryKey{signer: signer, version: keyVersion(signer.Public())}
	if version != "" && version != key.version {
		return nil, &VaultError{
			Reason: VaultKeyUnsuitable, Op: fmt.Sprintf("read %q from the vault", name),
			Message: "the key is not the version that its certificate was made with", Hint: "restore the file from a backup",
			Err: ErrNotFound,
		}
	}
	return key, nil
}

// decodeSigner reads the one key of PEM text, which may have a certificate too.
func decodeSigner(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PRIVATE KEY" {
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, errors.New("it is not a PKCS #8 key that can sign")
		}
		return signer, nil
	}
	return nil, errors.New("its key is missing, or not PEM")
}

// keyVersion names a key by what it is.
func keyVersion(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:16])
}

// CreateKey makes a key where there is none.
func (d *Directory) CreateKey(ctx context.Context, name string, spec KeySpec) (Key, error) {
	if spec.Hardware {
		return nil, &VaultError{
			Reason: VaultKeyUnsuitable, Op: fmt.Sprintf("make key %q", name),
			Message: "a folder has no hardware security module", Hint: "set spec.trust.root.key.hardware to false, or use a Key Vault",
		}
	}
	if !slices.Contains([]KeyAlgorithm{ECDSAP256, ECDSAP384, RSA3072, RSA4096}, spec.Algorithm) {
		return nil, &VaultError{
			Reason: VaultKeyUnsuitable, Op: fmt.Sprintf("make key %q", name),
			Message: fmt.Sprintf("there is no kind of key %q", spec.Algorithm), Hint: "set spec.trust.root.key.algorithm to a kind of the documentation",
		}
	}
	err := d.locked(ctx, func() error {
		_, err := d.Key(ctx, name, "")
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		signer, err := generateKey(spec.Algorithm)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(signer)
		if err != nil {
			return errors.New("encode key")
		}
		file, err := d.file(name, endKey)
		if err != nil {
			return err
		}
		return d.write(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), takeName)
	})
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make key %q: %w", name, err)
	}
	key, err := d.Key(ctx, name, "")
	if err != nil {
		return nil, err
	}
	if has := algorithmOf(key.Public()); has != spec.Algorithm {
		return nil, &VaultError{
			Reason: VaultKeyUnsuitable, Op: fmt.Sprintf("make key %q", name),
			Message: fmt.Sprintf("there is one already, of kind %q where %q is asked for", has, spec.Algorithm),
			Hint:    "ask for the kind that is there, or name another key in spec.trust.root.key.name",
		}
	}
	return key, nil
}

func generateKey(algorithm KeyAlgorithm) (crypto.Signer, error) {
	switch algorithm {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("there is no kind of key %q", algorithm)
}

// algorithmOf is the kind of a public key; empty for one that is none of ours.
func algorithmOf(public crypto.PublicKey) KeyAlgorithm {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return ECDSAP256
		case elliptic.P384():
			return ECDSAP384
		}
	case *rsa.PublicKey:
		switch key.N.BitLen() {
		case 3072:
			return RSA3072
		case 4096:
			return RSA4096
		}
	}
	return ""
}

// directoryKey is a key that was read from its file.
type directoryKey struct {
	signer  crypto.Signer
	version string
}

func (k directoryKey) Public() crypto.PublicKey { return k.signer.Public() }

func (k directoryKey) Version() string { return k.version }

func (k directoryKey) Sign(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !hash.Available() || len(digest) != hash.Size() {
		return nil, errors.New("sign: what is to be signed is no digest of the hash that is named")
	}
	return k.signer.Sign(rand.Reader, digest, hash)
}

// String names the key without what it is made of.
func (k directoryKey) String() string { return "key " + k.version }

// GoString is String: %#v must not print it either.
func (k directoryKey) GoString() string { return k.String() }

// stored is how a document looks on disk.
type stored struct {
	Data     []byte            `json:"data"`
	Tags     map[string]string `json:"tags,omitempty"`
	NotAfter *time.Time        `json:"notAfter,omitempty"`
}

// Get returns the document of a name.
func (d *Directory) Get(ctx context.Context, name string) (Document, error) {
	if err := ctx.Err(); err != nil {
		return Document{}, err
	}
	data, err := d.read(name, endDocument)
	if errors.Is(err, ErrNotFound) {
		data, err = d.read(name, endBefore)
		return Document{Data: data}, err
	}
	if err != nil {
		return Document{}, err
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return Document{}, d.corrupt(name, "it is not a document")
	}
	document := Document{Data: s.Data, Tags: s.Tags}
	if s.NotAfter != nil {
		document.NotAfter = *s.NotAfter
	}
	return document, nil
}

// Create keeps a document under a name that is free, or returns an error wrapping
// [ErrExists]. Also of several processes that share the folder one wins.
func (d *Directory) Create(ctx context.Context, name string, document Document) error {
	return d.locked(ctx, func() error {
		_, err := d.Get(ctx, name)
		if err == nil {
			return fmt.Errorf("%q: %w", name, ErrExists)
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		return d.keep(name, document, takeName)
	})
}

// Put keeps a document in place of the one before, whole or not at all, also
// across a crash.
func (d *Directory) Put(ctx context.Context, name string, document Document) error {
	return d.locked(ctx, func() error { return d.keep(name, document, os.Rename) })
}

func (d *Directory) keep(name string, document Document, place func(from, to string) error) error {
	s := stored{Data: document.Data, Tags: document.Tags}
	if !document.NotAfter.IsZero() {
		end := document.NotAfter.UTC()
		s.NotAfter = &end
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode %q", name)
	}
	file, err := d.file(name, endDocument)
	if err != nil {
		return err
	}
	err = d.write(file, data, place)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q: %w", name, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("write %q to the vault: %w", name, err)
	}
	return nil
}

// takeName gives a file a name that is free.
func takeName(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// No hard links here (SMB): take the name first, and fill it in one step.
	taken, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(taken.Close(), os.Rename(from, to))
}

// identityName is where a vault keeps its identity.
const identityName = "identity"

// Identity names the vault: everybody who opens the same folder gets the same
// text, which is no secret. The first call makes it.
func (d *Directory) Identity(ctx context.Context) (string, error) {
	file := filepath.Join(d.path, identityName+endBefore)
	made := make([]byte, 8)
	_, _ = rand.Read(made) // never fails, by its documentation
	err := d.locked(ctx, func() error { return writeFile(file, []byte(hex.EncodeToString(made)), takeName) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("write the vault's identity: %w", err)
	}
	if err := private(file); err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the vault's identity: %w", err)
	}
	return string(text), nil
}

// lockName is the file that writers hold locked.
const lockName = ".lock"

// locked runs while no other process writes to the folder, as far as its file
// system has locks; where it has none, what has to be taken first is still taken
// by one.
func (d *Directory) locked(ctx context.Context, run func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(d.path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the vault: %w", err)
	}
	defer file.Close()
	if err := lockFile(file); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("lock the vault: %w", err)
	}
	return run()
}

// private refuses a file or folder that others than its owner can use.
func private(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("check the vault's permissions: %w", err)
	}
	if loose := info.Mode().Perm() & 0o077; loose != 0 {
		return fmt.Errorf("vault %q is open to others (mode %04o): run chmod go= on it", path, info.Mode().Perm())
	}
	return nil
}

// temporary is how the names of files begin that are being written.
const temporary = ".new-"

// writeFile writes a file of mode 0600 by way of a temporary one beside it, which
// place gives its name: flushed to disk before that, and with its folder after.
func writeFile(path string, data []byte, place func(from, to string) error) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	// os.CreateTemp makes files of mode 0600.
	made, err := os.CreateTemp(folder, temporary+"*")
	if err != nil {
		return err
	}
	// Where it was renamed there is nothing to remove.
	defer os.Remove(made.Name())
	if _, err := made.Write(data); err != nil {
		_ = made.Close()
		return err
	}
	if err := errors.Join(made.Sync(), made.Close()); err != nil {
		return err
	}
	if err := place(made.Name(), path); err != nil {
		return err
	}
	parent, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
