#!/usr/bin/env bash
# Runs each fuzz target for FUZZTIME (a duration such as 30s, or a number of runs
# such as 1000x). What makes one fail is printed and stays in testdata/fuzz,
# where it is a test case from then on.
set -euo pipefail
cd "$(dirname "$0")/../.."

time=${FUZZTIME:-30s}
failed=0
while IFS=: read -r file target; do
  target=${target#func }
  target=${target%%(*}
  package=./$(dirname "$file")
  printf -- '-- %s %s\n' "$package" "$target"
  # Inputs that are merely new are hardly made smaller: that takes most of the time.
  go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x -parallel 2 >out/fuzz.log 2>&1 || {
    failed=1
    grep -v '^fuzz: elapsed' out/fuzz.log >&2
    continue
  }
  grep '^fuzz: elapsed' out/fuzz.log | tail -n 1
done < <(git grep -E --untracked '^func Fuzz[A-Za-z0-9]+\(' -- '*_test.go' ':!hack')

while read -r input; do
  printf 'new failing input, to be committed with its fix: %s\n' "$input" >&2
  cat "$input" >&2
done < <(git ls-files --others --exclude-standard -- '*/testdata/fuzz/*')
exit "$failed"
