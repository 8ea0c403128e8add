package keyvault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// key is a version of a key in the vault.
type key struct {
	vault         *Vault
	path, version string
	public        crypto.PublicKey
	hardware      bool
}

// kind is how the vault calls an algorithm.
type kind struct {
	kty   azkeys.KeyType
	curve azkeys.CurveName
	size  int32
	// cost of a call in calls with a key of EC.
	cost int
}

var kinds = map[trust.KeyAlgorithm]kind{
	trust.ECDSAP256: {kty: azkeys.KeyTypeEC, curve: azkeys.CurveNameP256, cost: 1},
	trust.ECDSAP384: {kty: azkeys.KeyTypeEC, curve: azkeys.CurveNameP384, cost: 1},
	trust.RSA3072:   {kty: azkeys.KeyTypeRSA, size: 3072, cost: 4},
	trust.RSA4096:   {kty: azkeys.KeyTypeRSA, size: 4096, cost: 8},
}

// algorithmOf is that of a public key, empty for one that is no CA's.
func algorithmOf(public crypto.PublicKey) trust.KeyAlgorithm {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return trust.ECDSAP256
		case elliptic.P384():
			return trust.ECDSAP384
		}
	case *rsa.PublicKey:
		switch public.N.BitLen() {
		case 3072:
			return trust.RSA3072
		case 4096:
			return trust.RSA4096
		}
	}
	return ""
}

// Key implements [trust.Vault].
func (v *Vault) Key(ctx context.Context, path, version string) (trust.Key, error) {
	if version == "" {
		first, err := v.firstKey(ctx, path)
		if err != nil {
			return nil, err
		}
		version = first
	}
	return v.keyAt(ctx, path, version)
}

func (v *Vault) keyAt(ctx context.Context, path, version string) (*key, error) {
	var bundle azkeys.KeyBundle
	err := v.call(ctx, getKey, path, func(ctx context.Context) error {
		response, err := v.keys.GetKey(ctx, vaultname.KeyVault(path), version, nil)
		bundle = response.KeyBundle
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := v.checkTag(getKey, path, bundle.Tags); err != nil {
		return nil, err
	}
	return v.keyIn(path, version, bundle)
}

// firstKey is the first version of a key.
func (v *Vault) firstKey(ctx context.Context, path string) (string, error) {
	v.mu.Lock()
	known := v.first["key "+path]
	v.mu.Unlock()
	if known != "" {
		return known, nil
	}
	versions, err := v.settled(ctx, listKey, path, func(ctx context.Context) ([]found, error) { return v.listKey(ctx, path) })
	if err != nil {
		return "", err
	}
	if len(versions) == 0 {
		return "", fmt.Errorf("%s %q of %s: %w", getKey.doing, path, v.host, trust.ErrNotFound)
	}
	v.mu.Lock()
	v.first["key "+path] = versions[0].version
	v.mu.Unlock()
	return versions[0].version, nil
}

func (v *Vault) listKey(ctx context.Context, path string) ([]found, error) {
	pager := v.keys.NewListKeyPropertiesVersionsPager(vaultname.KeyVault(path), nil)
	return v.listed(ctx, listKey, path, pager.More, func(ctx context.Context) ([]found, error) {
		page, err := pager.NextPage(ctx)
		versions := make([]found, len(page.Value))
		for i, item := range page.Value {
			if item != nil && item.KID != nil && item.Attributes != nil && item.Attributes.Created != nil {
				versions[i] = found{version: item.KID.Version(), created: *item.Attributes.Created, tags: item.Tags}
			}
		}
		return versions, err
	})
}

func (v *Vault) unreadable(op operation, path string) error {
	return &trust.VaultError{Reason: trust.VaultCorrupt, Op: fmt.Sprintf("%s %q of %s", op.doing, path, v.host), Message: "the answer lacks what it must have"}
}

// CreateKey implements [trust.Vault]. A key that it makes can only sign and cannot
// be exported.
func (v *Vault) CreateKey(ctx context.Context, path string, spec trust.KeySpec) (trust.Key, error) {
	kind, known := kinds[spec.Algorithm]
	if !known {
		return nil, v.unsuitable(path, fmt.Sprintf("algorithm %q is not known", spec.Algorithm))
	}
	first, err := v.firstKey(ctx, path)
	if missing(err) {
		if err := v.makeKey(ctx, path, kind, spec.Hardware); err != nil {
			return nil, err
		}
		first, err = v.firstKey(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	made, err := v.keyAt(ctx, path, first)
	if err != nil {
		return nil, err
	}
	switch have := algorithmOf(made.public); {
	case have != spec.Algorithm:
		return nil, v.unsuitable(path, fmt.Sprintf("it is of algorithm %q, wanted is %q", have, spec.Algorithm))
	case spec.Hardware && !made.hardware:
		return nil, v.unsuitable(path, "it is not in hardware, as wanted")
	}
	return made, nil
}

func (v *Vault) unsuitable(path, why string) error {
	return &trust.VaultError{Reason: trust.VaultKeyUnsuitable, Op: fmt.Sprintf("%s %q of %s", createKey.doing, path, v.host), Message: why}
}

func (v *Vault) makeKey(ctx context.Context, path string, k kind, hardware bool) error {
	op := createKey
	parameters := azkeys.CreateKeyParameters{
		Kty:           &k.kty,
		KeyOps:        []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationSign)},
		KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true), Exportable: to.Ptr(false)},
		Tags:          map[string]*string{nameTag: &path},
	}
	if k.curve != "" {
		parameters.Curve = &k.curve
	} else {
		parameters.KeySize = &k.size
	}
	if hardware {
		op.cost = 2
		parameters.Kty = to.Ptr(k.kty + "-HSM")
	}
	return v.call(ctx, op, path, func(ctx context.Context) error {
		_, err := v.keys.CreateKey(ctx, vaultname.KeyVault(path), parameters, nil)
		return err
	})
}

// keyIn reads a key of the vault.
func (v *Vault) keyIn(path, version string, bundle azkeys.KeyBundle) (*key, error) {
	jwk := bundle.Key
	if jwk == nil || jwk.Kty == nil || jwk.KID == nil || !strings.EqualFold(jwk.KID.Version(), version) {
		return nil, v.unreadable(getKey, path)
	}
	k := &key{vault: v, path: path, version: version, hardware: strings.HasSuffix(string(*jwk.Kty), "-HSM")}
	switch azkeys.KeyType(strings.TrimSuffix(string(*jwk.Kty), "-HSM")) {
	case azkeys.KeyTypeEC:
		var curve elliptic.Curve
		switch {
		case jwk.Crv != nil && *jwk.Crv == azkeys.CurveNameP256:
			curve = elliptic.P256()
		case jwk.Crv != nil && *jwk.Crv == azkeys.CurveNameP384:
			curve = elliptic.P384()
		default:
			return nil, v.unsuitable(path, "its curve is none of P-256 and P-384")
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(jwk.X) > size || len(jwk.Y) > size {
			return nil, v.unreadable(getKey, path)
		}
		point := make([]byte, 1+2*size)
		point[0] = 4 // an uncompressed point
		copy(point[1+size-len(jwk.X):], jwk.X)
		copy(point[1+2*size-len(jwk.Y):], jwk.Y)
		public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return nil, v.unreadable(getKey, path)
		}
		k.public = public
	case azkeys.KeyTypeRSA:
		n, e := new(big.Int).SetBytes(jwk.N), new(big.Int).SetBytes(jwk.E)
		if n.BitLen() < 3072 {
			return nil, v.unsuitable(path, fmt.Sprintf("it has %d bits, less than 3072", n.BitLen()))
		}
		if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, v.unreadable(getKey, path)
		}
		k.public = &rsa.PublicKey{N: n, E: int(e.Int64())}
	default:
		return nil, v.unsuitable(path, fmt.Sprintf("its type is %q, none of EC and RSA", *jwk.Kty))
	}
	if algorithmOf(k.public) == "" {
		return nil, v.unsuitable(path, "it is of none of the kinds that CAs have: ECDSA-P256, ECDSA-P384, RSA-3072, RSA-4096")
	}
	return k, nil
}

func (k *key) Public() crypto.PublicKey { return k.public }

func (k *key) Version() string { return k.version }

// signatures are the algorithms that a kind of key signs a hash with.
var signatures = map[trust.KeyAlgorithm]map[crypto.Hash]azkeys.SignatureAlgorithm{
	trust.ECDSAP256: {crypto.SHA256: azkeys.SignatureAlgorithmES256},
	trust.ECDSAP384: {crypto.SHA384: azkeys.SignatureAlgorithmES384},
	trust.RSA3072:   rsaSignatures,
	trust.RSA4096:   rsaSignatures,
}

var rsaSignatures = map[crypto.Hash]azkeys.SignatureAlgorithm{
	crypto.SHA256: azkeys.SignatureAlgorithmRS256, crypto.SHA384: azkeys.SignatureAlgorithmRS384, crypto.SHA512: azkeys.SignatureAlgorithmRS512,
}

// Sign implements [trust.Key]. The signature verifies with the key's public part,
// or is an error.
func (k *key) Sign(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	v, algorithm := k.vault, algorithmOf(k.public)
	with, known := signatures[algorithm][hash]
	if !known || len(digest) != hash.Size() {
		return nil, v.unsignable(k.path, fmt.Sprintf("a key of %s does not sign %d bytes of %s", algorithm, len(digest), hash))
	}
	op := signKey
	if op.cost = kinds[algorithm].cost; k.hardware {
		op.cost *= 2
	}
	var result azkeys.KeyOperationResult
	err := v.call(ctx, op, k.path, func(ctx context.Context) error {
		response, err := v.keys.Sign(ctx, vaultname.KeyVault(k.path), k.version, azkeys.SignParameters{Algorithm: &with, Value: digest}, nil)
		result = response.KeyOperationResult
		return err
	})
	if err != nil {
		return nil, err
	}
	signature, good := k.verified(digest, hash, result.Result)
	if !good || result.KID == nil || !strings.EqualFold(result.KID.Version(), k.version) {
		return nil, v.unsignable(k.path, "the signature is not of version "+k.version)
	}
	return signature, nil
}

func (v *Vault) unsignable(path, why string) error {
	return &trust.VaultError{Reason: trust.VaultKeyUnsuitable, Op: fmt.Sprintf("%s %q of %s", signKey.doing, path, v.host), Message: why}
}

// verified turns the vault's signature into Go's form, and checks it.
func (k *key) verified(digest []byte, hash crypto.Hash, raw []byte) ([]byte, bool) {
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		half := (public.Curve.Params().BitSize + 7) / 8
		if len(raw) != 2*half {
			return nil, false
		}
		signature, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
		return signature, err == nil && ecdsa.VerifyASN1(public, digest, signature)
	case *rsa.PublicKey:
		return raw, rsa.VerifyPKCS1v15(public, hash, digest, raw) == nil
	}
	return nil, false
}
