// Package check is a module of its own: the linter and the test runner that
// make lint and make test use, so that what they require never meets what
// isthmus or its generators require.
package check
