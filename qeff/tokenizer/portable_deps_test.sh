#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The half of this package that devices link needs Abseil and qeff/util only.
set -euo pipefail

if grep -E '^@(icu|sentencepiece|com_google_protobuf|nlohmann_json)|_icu$|json' \
    "$1"; then
  echo "portable_tokenizer depends on the targets above"
  exit 1
fi
grep -q '^//qeff/tokenizer:bpe_model$' "$1"
