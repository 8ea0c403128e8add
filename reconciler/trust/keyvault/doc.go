// Package keyvault is the vault of CAs in Azure Key Vault.
//
// Keys are made in the vault, may only sign, and never leave it; a signature is
// checked with the key's public part before it is returned. Documents are secrets.
// Names such as "prod/members/eastus-1" become "isthmus--prod--members--eastus-1",
// no two of them the same; a name without a slash is taken as it is, for a key that
// somebody else has made.
//
// Key Vault has no write that fails when something is there. So the first version
// of a name wins: [Vault.CreateKey] and [Vault.Create] write a version and then
// look which was first, once no earlier one can appear. That takes up to two
// seconds, so use [Vault.Put] where there is one writer. Versions that came too
// late stay in the vault, unused.
//
// Order of a call: wait for a share of the service's limits, log in if that is due,
// call with a bounded time, try again what may be tried again within the caller's
// deadline, and say what an answer means with what to do about it.
//
// Guaranteed: only the vault's own word that a key or secret is not there is
// [trust.ErrNotFound]; an answer of a proxy, or a name that waits to be purged, is
// not. The version of a key is pinned. Errors hold no secrets, and nothing that
// changes from one try to the next. Tokens go only to hosts below the cloud's
// domain of vaults, unless [Options.Emulator] is set.
//
// Not guaranteed: that what was written last is still there after the service
// failed over to another region, and that limits are kept when others use the same
// vault. Both are survived: the one by what istiod has, the other by waiting.
package keyvault
