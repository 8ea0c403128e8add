// Package forgetest is as much of GitHub, GitLab, Gitea and Azure DevOps as package
// forge asks for, for tests: made from their published API descriptions, in memory,
// with one repository, one pull request and two accounts.
//
// What the descriptions say of these calls is written once, as the contract of each
// forge in contract_*.go, with its source. A request that its contract does not
// know fails the test: another path or method, a field or parameter that is not
// there or is missing, a value of another type, a word that is none of those
// allowed, a text over the limit. So does an answer of the servers here, and a call
// of a contract that no test makes. Who adds a call writes it there first, then
// answers it here.
//
// What the servers do is beside that: who may write, what pages hold, which states
// follow each other. Pages are short, and the links to the next ones lead to
// another host, which must not be followed. A fault decides what happens to a call
// before or after it is done.
package forgetest
