// Package fleetgen makes fleets for tests: as many networks and members as are
// asked for, with every field that a fleet can have and isthmus acts on varied.
//
// The same options give the same files. A fleet of it loads and renders without an
// error; names, L3 networks and values of settings are also chosen to mislead:
// some look like numbers to YAML, some like the text that a renderer might put in
// their place. How members are spread over releases and settings is not promised.
package fleetgen
