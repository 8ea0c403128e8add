#!/usr/bin/env bash
# Generates, from the Go types, everything that is generated, into DIR as it is
# laid out in the repository. The pages take defaults from the code, so that is
# compiled again each time.
#
#   generate.sh DIR
set -euo pipefail

dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."

mkdir -p "$dir"/fleet/v1alpha1 "$dir"/deploy/crds "$dir"/docs/schema
bin/controller-gen paths=./fleet/v1alpha1/... \
  object output:object:dir="$dir"/fleet/v1alpha1 \
  crd output:crd:dir="$dir"/deploy/crds
bin/jsonschema "$dir"/deploy/crds "$dir"/docs/schema
go run ./hack/reference "$dir"
