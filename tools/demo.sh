#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The main job end to end: a model is inspected, quantized to int8 and int4,
# evaluated before and after, written, and used to generate.
#
#   tools/demo.sh [--model=DIR] [--text=FILE] [--output=DIR]
#
# Without --model it takes this repository's own small model (demo_model), and
# without --text a text that this one has not seen. The quantized models are
# kept with --output.
set -euo pipefail
cd "$(dirname "$0")/.."

model=tools/demo_model/llama
text=tools/demo_model/text.txt
output=""
for argument in "$@"; do
  case "${argument}" in
    --model=*) model="${argument#*=}" ;;
    --text=*) text="${argument#*=}" ;;
    --output=*) output="${argument#*=}" ;;
    *)
      echo "demo: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done

tools/setup.sh
bazel build --noshow_progress --ui_event_filters=-info //tools:qeff
qeff=$(bazel info --noshow_progress bazel-bin 2>/dev/null)/tools/qeff

scratch=$(mktemp -d)
trap 'rm -rf "${scratch}"' EXIT
[[ -n "${output}" ]] && mkdir -p "${output}"
output="${output:-${scratch}}"

# field FILE KEY: the number or string at KEY of a JSON object.
field() {
  sed -n "s/^  \"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1" |
    head -n 1
}

rows=""
# row NAME FOLDER: measures a model and adds its line to the table.
row() {
  local json="${scratch}/$1"
  "${qeff}" inspect --model="$2" --json="${json}.inspect" >/dev/null
  "${qeff}" eval --model="$2" --text="${text}" --reference="${model}" \
    --max_tokens=20000 --json="${json}.eval" >/dev/null
  "${qeff}" generate --model="$2" --prompt="The whale" \
    --max_new_tokens=64 --json="${json}.generate" >"${json}.text"
  rows+=$(printf '%-10s %12d %8.3f %12.4f %10.6f %8.4f %9.1f' "$1" \
    "$(field "${json}.inspect" bytes)" \
    "$(field "${json}.inspect" bits_per_weight)" \
    "$(field "${json}.eval" perplexity)" \
    "$(field "${json}.eval" kl_mean)" \
    "$(field "${json}.eval" top1_agreement)" \
    "$(field "${json}.generate" decode_tokens_per_second)")$'\n'
  echo "--- $1"
  sed -n '1,/^$/p' "${json}.text"
}

row original "${model}"
for scheme in int8 int4_g32; do
  "${qeff}" quantize --model="${model}" --output="${output}/${scheme}" \
    --scheme="${scheme}" >"${scratch}/${scheme}.plan"
  row "${scheme}" "${output}/${scheme}"
done

printf '%-10s %12s %8s %12s %10s %8s %9s\n' model bytes bits/wt perplexity \
  kl_mean top1 tokens/s
printf '%s' "${rows}"
echo "Rows run as they are deployed, with rounded activations; kl_mean and top1"
echo "compare with the original in float32. Perplexity is on ${text}."
