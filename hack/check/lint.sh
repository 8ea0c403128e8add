#!/usr/bin/env bash
# Lints the modules that we write code in.
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD

for module in . hack/controlplane hack/tools; do
  echo "lint $module"
  (cd "$module" && "$top/bin/golangci-lint" run ./...)
done
echo "lint: no problems"
