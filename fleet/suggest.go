package fleet

import (
	"fmt"
	"strconv"
	"strings"
)

// suggest returns a hint: the candidate that was probably meant, else all of
// them, if they fit in a line.
func suggest(word string, candidates []string) string {
	if hint := meant(word, candidates); hint != "" || len(candidates) == 0 || len(candidates) > 16 {
		return hint
	}
	return "one of " + strings.Join(candidates, ", ")
}

// meant returns a hint only when one of the candidates was probably meant.
func meant(word string, candidates []string) string {
	if found := closest(word, candidates); found != "" {
		return fmt.Sprintf("did you mean %q?", found)
	}
	return ""
}

// closest returns the candidate that differs from the word by case alone, or
// by at most two letters, one in a short word; the first of several.
func closest(word string, candidates []string) string {
	limit := 2
	if len(word) < 4 {
		limit = 1
	}
	best := ""
	for _, candidate := range candidates {
		if strings.EqualFold(word, candidate) {
			return candidate
		}
		if distance := editDistance(word, candidate); distance <= limit {
			best, limit = candidate, distance-1
		}
	}
	return best
}

// editDistance counts the letters to insert, delete, replace or swap with a
// neighbour to get from a to b. Words of very different length, and words that
// are none, are simply far.
func editDistance(a, b string) int {
	const longest = 64
	if d := len(a) - len(b); d > 2 || d < -2 || len(a) > longest {
		return max(len(a), len(b))
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// quote returns the value in quotes, shortened: a file may hold anything, and a
// message should stay a line.
func quote(value string) string { return strconv.Quote(shorten(value)) }

// shorten returns the value, cut where it would make a message long.
func shorten(value string) string {
	const longest = 64
	if runes := []rune(value); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return value
}

// DidYouMean returns a hint when one of the candidates was probably meant, else
// nothing.
func DidYouMean(word string, candidates []string) string { return meant(word, candidates) }
