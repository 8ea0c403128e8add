package vaultname

import "strings"

// Member returns the path of a member's CA.
func Member(network, member string) string { return network + "/members/" + member }

// KeyVault returns the name of a path's entry in an Azure Key Vault, which takes
// letters, digits and dashes, 127 of them at most: a network and a member of the
// longest names have 68.
func KeyVault(path string) string {
	return "isthmus--" + strings.ReplaceAll(path, "/", "--")
}
