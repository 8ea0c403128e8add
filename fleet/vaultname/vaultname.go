package vaultname

import "strings"

// Member returns the path of a member's CA.
func Member(network, member string) string { return network + "/members/" + member }

// Files are the files of a member's CA as istiod reads them, in the order of their
// names. The list of what is revoked is not one of them: it is there only where a
// network has one.
var Files = []string{"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}

// RevokedFile is the list of what is revoked, as istiod reads it.
const RevokedFile = "ca-crl.pem"

// File returns the path of one file of a member's CA, for what reads the vault and
// cannot take an entry apart: "prod/members/eastus-1/ca-key".
func File(network, member, file string) string {
	return Member(network, member) + "/" + strings.TrimSuffix(file, ".pem")
}

// KeyVault returns the name of a path's entry in an Azure Key Vault, which takes
// letters, digits and dashes, 127 of them at most: the longest path has 80.
func KeyVault(path string) string {
	return "isthmus--" + strings.ReplaceAll(path, "/", "--")
}
