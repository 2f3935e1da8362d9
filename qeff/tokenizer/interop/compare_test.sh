#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Compares ids with @huggingface/tokenizers, which `tools/setup.sh --interop`
# installs and tools/test.sh names in QEFF_NODE_MODULES.
set -euo pipefail

for variable in QEFF_SHARED_DATA QEFF_NODE_MODULES; do
  if [[ ! -d "${!variable:-}" ]]; then
    echo "SKIPPED: ${variable} is not set to a folder"
    exit 0
  fi
done
encode_main="$PWD/$1"
compare="$PWD/$2"
work="${TEST_TMPDIR:-$(mktemp -d)}/compare"
mkdir -p "$work"
ln -sfn "$QEFF_NODE_MODULES" "$work/node_modules"
node "$compare" "$encode_main" "$QEFF_SHARED_DATA" "$work"
