// Package vaultname says under which names CAs are kept: the reconciler writes
// them, and bundles name what members read.
//
// Names in a vault are paths of DNS labels, such as "prod/members/eastus-1".
// [KeyVault] turns one into the name of an entry in an Azure Key Vault. Two paths
// can have one such name, as those of the network "prod" and of one called
// "prod--members--x": whoever writes has to see, by a tag, whose the entry is.
package vaultname
