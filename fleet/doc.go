// Package fleet is the fleet as written in Git.
package fleet
