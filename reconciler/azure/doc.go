// Package azure logs in to Azure, for members and for vaults.
//
// A [Login] is exactly the identity that the fleet names: workload identity, a
// managed identity, or an application with a secret or certificate. Its tokens are
// kept, replaced ahead of their end, and asked for anew when a server refuses one
// or asks for claims, as continuous access evaluation has it.
//
// Guaranteed: no other identity of the machine is used, whatever its environment
// or tools would give; a federated token is read from its file each time that it
// is exchanged; an [Error] names what to do, and holds no secret, time or id that
// changes from one try to the next.
//
// Not guaranteed: that a token has the rights that its user needs. Only Azure
// Resource Manager, an API server or a vault knows them.
package azure
