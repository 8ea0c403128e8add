// Package keyvault emulates Azure Key Vault, for tests and demos: its REST API for
// keys and secrets as far as isthmus uses it, over TLS, for the real Azure SDK.
//
// It does what the published API says: the authentication challenge, bearer tokens
// with audience and end, api-version, versions, pages with nextLink, soft-delete
// and purge protection, disabled, expired and not yet valid keys, names that are
// equal but for case, limits on values and tags, the error bodies with their inner
// codes, and the service's limits per ten seconds with 429 and Retry-After. Lists
// of versions are in no useful order, as the service promises none. [Faults] break
// it on purpose.
//
// It leaves out what isthmus does not use (certificates, backup, import, managed
// HSMs, encryption), the management plane, and rights: a token that is good may do
// everything, unless a fault says otherwise. A deletion is over at once, where the
// service takes seconds. What a vault answers to writes in a failover is not
// published; the emulator's answer is a guess.
//
// The limits and the API: https://learn.microsoft.com/azure/key-vault/general/service-limits
// and https://learn.microsoft.com/rest/api/keyvault/.
package keyvault
