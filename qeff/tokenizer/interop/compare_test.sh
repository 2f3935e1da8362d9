#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Compares ids with @huggingface/tokenizers. Needs node, npm and a registry, or
# a folder with the package's node_modules in QEFF_NPM_FOLDER.
set -euo pipefail

if [[ -z "${QEFF_SHARED_DATA:-}" ]]; then
  echo "SKIPPED: QEFF_SHARED_DATA is not set"
  exit 0
fi
encode_main="$PWD/$1"
compare="$PWD/$2"
work="${TEST_TMPDIR:-$(mktemp -d)}/compare"
mkdir -p "$work"
echo '{"private": true}' > "$work/package.json"
if [[ -n "${QEFF_NPM_FOLDER:-}" ]]; then
  ln -sfn "$QEFF_NPM_FOLDER/node_modules" "$work/node_modules"
else
  # npm's configuration is the user's; Bazel hides HOME.
  export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}"
  (cd "$work" && npm install --ignore-scripts --no-audit --no-fund \
    --no-save "@huggingface/tokenizers@0.2.0")
fi
node "$compare" "$encode_main" "$QEFF_SHARED_DATA" "$work"
