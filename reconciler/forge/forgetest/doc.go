// Package forgetest is as much of GitHub, GitLab, Gitea and Azure DevOps as package
// forge asks for, for tests: made from their published API descriptions, in memory,
// with one repository, one pull request and two accounts.
//
// It is strict. A request that the API does not know, with another method, an
// unknown field, a wrong credential or a text over the forge's limit fails the test
// or is refused as the forge refuses it. Pages are short, and the links to the next
// ones lead to another host, which must not be followed. A fault decides what
// happens to a call before or after it is done.
package forgetest
