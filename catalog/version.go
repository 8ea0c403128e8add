package catalog

import (
	"cmp"
	"strconv"
	"strings"
)

// Compare orders two versions such as "1.30.4", "1.30" or "v1.5.1": negative if a is
// older than b, zero if they are equal, positive if a is newer. Parts compare
// as numbers and a missing part counts as zero, so "1.9" is older than "1.30"
// and "1.30" equals "1.30.0".
func Compare(a, b string) int {
	partsA, partsB := parse(a), parse(b)
	return cmp.Or(
		cmp.Compare(partsA[0], partsB[0]),
		cmp.Compare(partsA[1], partsB[1]),
		cmp.Compare(partsA[2], partsB[2]),
	)
}

// parse returns major, minor and patch. What is not a number counts as zero:
// the versions that reach this package have passed the fleet's pattern or are
// our own.
func parse(version string) [3]int {
	var parts [3]int
	for i, text := range strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3) {
		parts[i], _ = strconv.Atoi(text)
	}
	return parts
}

// Minor returns "1.30" for "1.30.4".
func Minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return version
	}
	return parts[0] + "." + parts[1]
}

// Previous returns the minor before a minor: "1.29" for "1.30".
func Previous(minor string) string {
	parts := parse(minor)
	return strconv.Itoa(parts[0]) + "." + strconv.Itoa(parts[1]-1)
}
