#!/usr/bin/env bash
# Everything that must hold before a change is merged, in the order in which it
# fails fastest. TEST_FORMAT is how gotestsum shows results, FUZZTIME how long
# each fuzz target runs.
set -euo pipefail
cd "$(dirname "$0")/../.."

top=$PWD
format=${TEST_FORMAT:-standard-quiet}
current=
trap '[ -z "$current" ] || echo "make test: FAILED: $current" >&2' EXIT
mkdir -p out
rm -f out/*.tests

step() {
  local name=$1 began=$SECONDS
  shift
  current=$name
  printf '== %s\n' "$name"
  "$@"
  printf '== %s: %ds\n' "$name" $((SECONDS - began))
}

formatted() {
  local files
  files=$(gofmt -l .)
  [ -z "$files" ] || { printf 'not formatted (gofmt -w):\n%s\n' "$files" >&2; return 1; }
}

# What is generated must be what the types generate now.
generated() {
  local fresh file stale=0
  fresh=$(mktemp -d)
  hack/check/generate.sh "$fresh"
  while read -r file; do
    cmp -s "$fresh/$file" "$file" || { echo "stale (make generate): $file" >&2; stale=1; }
  done < <(cd "$fresh" && find . -type f | sort)
  rm -rf "$fresh"
  return "$stale"
}

vet() {
  go vet ./...
  (cd hack/controlplane && go vet ./...)
}

# The programs of the control planes, so that a first run shows its progress
# and no test waits for a build.
control_planes() {
  (cd hack/controlplane && go run ./cmd/controlplane build >/dev/null)
}

# tests NAME DIR ARGS…: go test in a module, counted in out/NAME.tests.
tests() {
  local name=$1 dir=$2
  shift 2
  (
    cd "$dir"
    count="$top/out/$name.tests" "$top/bin/gotestsum" --format "$format" --hide-summary skipped \
      --post-run-command 'bash -c "echo $TESTS_TOTAL $TESTS_SKIPPED >$count"' \
      -- -timeout 30m "$@"
  )
}

# Packages with goroutines of their own run with the race detector. Of package
# renderer only the tests of members that are rendered side by side do: most of
# the others render whole fleets twice to compare them, which takes minutes then.
raced='/(renderer/|reconciler(/|$))'
side_by_side='^(TestSameInputSameBytes|TestMembersDoNotLeakIntoEachOther|TestPatches.*|TestHosted.*|FuzzRender)$'
with_race() {
  tests race . -race $(go list ./... | grep -E "$raced")
  tests race-renderer . -race -run "$side_by_side" ./renderer
}

# End to end tests wait much of the time. Those that may run at once do, three at a time,
# beside all others, which come one by one: of more, two cores make failures. What they
# print is shown when all are through.
at_once='^Test(Discovery|PeerRotation|PeerAway|Services|Trust|Emergency|KeyVault|MountedCA|Killed|Replicas|Foretold|Hosted)$'
without_race() {
  local log="$top/out/at-once.log" beside failed=0
  tests at-once . -parallel 3 -run "$at_once" ./test/e2e >"$log" 2>&1 &
  beside=$!
  tests rest . -skip "$at_once" $(go list ./... | grep -vE "$raced") || failed=1
  wait "$beside" || failed=1
  cat "$log"
  return "$failed"
}
of_harness() { tests harness hack/controlplane ./...; }

step 'formatting' formatted
step 'generated files' generated
step 'vet' vet
step 'control planes' control_planes
step 'tests with the race detector' with_race
step 'tests of the control planes' of_harness
step 'tests' without_race
step 'fuzzing' hack/check/fuzz.sh

current=
awk -v seconds="$SECONDS" '{ total += $1; skipped += $2 }
  END { printf "make test: %d tests passed, %d skipped, %dm%02ds\n", total - skipped, skipped, seconds / 60, seconds % 60 }' out/*.tests
