package keyvault

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

const (
	// prefix of the names that are ours.
	prefix = "isthmus--"
	// maxName is the service's limit.
	maxName = 127
)

var hyphens = regexp.MustCompile(`-{2,}`)

// vaultName is the name of a path in the vault. A slash becomes two hyphens, and a
// longer run of hyphens in a label one hyphen more, so that no two paths have one
// name: labels begin and end with a letter or digit. A name that is too long ends
// in a hash.
func vaultName(path string) string {
	if !strings.Contains(path, "/") {
		return path
	}
	labels := strings.Split(path, "/")
	for i, label := range labels {
		labels[i] = hyphens.ReplaceAllString(label, "$0-")
	}
	name := prefix + strings.Join(labels, "--")
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(path))
	return name[:maxName-2*16-1] + "-" + hex.EncodeToString(sum[:16])
}
