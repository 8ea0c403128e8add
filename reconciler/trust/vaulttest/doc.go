// Package vaulttest is the suite that every [trust.Vault] passes: [Test] says by
// running what the interface says in words. It is for tests of vaults only.
package vaulttest
