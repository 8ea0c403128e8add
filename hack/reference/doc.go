// Command reference writes the generated pages of docs below DIR, from the JSON
// Schemas and CRDs that are below it:
//
//	reference DIR
//
// The page of the fleet's kinds has the meaning, type and bounds of each field
// from the schemas, what its values mean from the docs of the Go constants, its
// default from a sample fleet that fleet.Load fills in, and from fields.yaml
// since when it is there and what it is called in Azure Kubernetes Application
// Network. The command fails when a field has no entry there, an entry no field,
// the sample leaves an object out, or a type's doc states another default than
// the code has; the message says what to write.
//
// The page of AppNet's features is made from appnet.yaml. The command fails when
// a row names a field, a release or a test that is not there. Sources are read in
// the working directory, the top of the repository.
//
// It is no module of its own, as other tools are: it asks the code.
package main
