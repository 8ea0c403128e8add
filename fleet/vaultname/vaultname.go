package vaultname

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Member returns the path of a member's CA.
func Member(network, member string) string { return network + "/members/" + member }

// Files are the files of a member's CA as istiod reads them, those of which what
// reads the vault and cannot take an entry apart has an entry each. The list of what
// is revoked is there only where a network has one.
//
// They are read from the vault in this order, one after the other, and written in
// the opposite one. So where the key, read first and written last, belongs to the
// certificate, read last and written first, all that is between them is of the same
// CA. istiod checks the former and not the latter.
func Files(revocation bool) []string {
	if revocation {
		return []string{"ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-crl.pem", "ca-cert.pem"}
	}
	return []string{"ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-cert.pem"}
}

// File returns the path of one file of a member's CA, for what reads the vault and
// cannot take an entry apart: "prod/members/eastus-1/ca-key".
func File(network, member, file string) string {
	return Member(network, member) + "/" + strings.TrimSuffix(file, ".pem")
}

const (
	// prefix of the names that are ours.
	prefix = "isthmus--"
	// longest name that an Azure Key Vault takes.
	longest = 127
)

var hyphens = regexp.MustCompile(`-{2,}`)

// KeyVault returns the name of a path's entry in an Azure Key Vault, which takes
// letters, digits and hyphens. A slash becomes two hyphens, and a longer run of
// hyphens in a label gets one hyphen more, so that no two paths have one name:
// labels begin and end with a letter or digit. A name that would be too long ends
// in a hash; those of members never are. A name without a slash is somebody else's,
// and stays as it is.
func KeyVault(path string) string {
	if !strings.Contains(path, "/") {
		return path
	}
	labels := strings.Split(path, "/")
	for i, label := range labels {
		labels[i] = hyphens.ReplaceAllString(label, "$0-")
	}
	name := prefix + strings.Join(labels, "--")
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(path))
	digest := hex.EncodeToString(sum[:16])
	return name[:longest-len(digest)-1] + "-" + digest
}
