// Package test holds the tests that belong to no single package: the rules on
// imports, and below it the scripts, goldens, end-to-end tests and benchmarks.
package test
