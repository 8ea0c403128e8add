// Package vaultname says under which names CAs are kept: the reconciler writes
// them, and bundles name what members read.
//
// Names in a vault are paths of DNS labels, such as "prod/members/eastus-1".
// [KeyVault] turns one into the name of an entry in an Azure Key Vault, no two of
// them into the same.
package vaultname
