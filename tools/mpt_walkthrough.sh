#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The four steps of QEfficient's MPT notebook on this repository's small MPT
# model: load, export, compile, generate. Each step's promise is checked, and
# none needs a card.
#
#   tools/mpt_walkthrough.sh [--model=DIR] [--output=DIR]
#
# With onnxruntime-node (tools/setup.sh --interop) the exported graph is also run
# and its tokens compared with the device engine's. What is made is kept with
# --output.
set -euo pipefail
cd "$(dirname "$0")/.."

model=tools/demo_model/mpt
output=""
prompt="My name is"
for argument in "$@"; do
  case "${argument}" in
    --model=*) model="${argument#*=}" ;;
    --output=*) output="${argument#*=}" ;;
    *)
      echo "mpt_walkthrough: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done

# QEFF names the program; without it, it is built.
if [[ -z "${QEFF:-}" ]]; then
  tools/setup.sh
  bazel build --noshow_progress --ui_event_filters=-info //tools:qeff
  QEFF=$(bazel info --noshow_progress bazel-bin 2>/dev/null)/tools/qeff
fi
readonly NODE_MODULES="${QEFF_NODE_MODULES:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qeff/interop/node_modules}"

scratch=$(mktemp -d)
trap 'rm -rf "${scratch}"' EXIT
[[ -n "${output}" ]] && mkdir -p "${output}"
output="${output:-${scratch}}"

fail() {
  echo "mpt_walkthrough: $*" >&2
  exit 1
}

# field FILE KEY: the number or string at KEY of a JSON object.
field() {
  sed -n "s/^  \"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1" |
    head -n 1
}

# numbers FILE KEY: those of the list at KEY, with commas between.
numbers() {
  sed -n "/^  \"$2\": \[/,/\]/p" "$1" | grep -o '[0-9]\+' | paste -sd,
}

echo "== 1. Load ${model}"
"${QEFF}" inspect --model="${model}" --json="${scratch}/inspect.json" |
  sed '/^$/,$d'
layers=$(sed -n 's/.*"num_layers": \([0-9]*\).*/\1/p' "${scratch}/inspect.json" |
  head -n 1)

echo
echo "== 2. Export: one ONNX graph for prefill and decode"
graph="${output}/mpt.onnx"
"${QEFF}" export --model="${model}" --format=onnx --output="${graph}" \
  --json="${scratch}/export.json"
# Keys and values of each layer are written to a retained cache and read back.
for operator in CtxScatter CtxGather; do
  count=$(sed -n "s/.*\"${operator}\": \([0-9]*\).*/\1/p" \
    "${scratch}/export.json")
  [[ "${count}" == $((2 * layers)) ]] ||
    fail "${count:-no} ${operator} for ${layers} layers"
done
"${QEFF}" generate --model="${model}" --prompt="${prompt}" \
  --max_new_tokens=16 --activations=f32 --lm_head=keep \
  --json="${scratch}/engine.json" >/dev/null
if [[ -d "${NODE_MODULES}/onnxruntime-node" ]]; then
  "${QEFF}" tokenize --model="${model}" --text="${prompt}" \
    --json="${scratch}/prompt.json" >/dev/null
  cat >"${scratch}/cases.json" <<JSON
[{"kind": "causal", "model": "$(realpath "${graph}")",
  "prompts": [[$(numbers "${scratch}/prompt.json" ids)]],
  "chunk": 32, "ctx_len": 128, "steps": 16,
  "kv_heads": $(sed -n 's/.*"num_kv_heads": \([0-9]*\).*/\1/p' \
    "${scratch}/inspect.json" | head -n 1),
  "head_dim": $(sed -n 's/.*"head_dim": \([0-9]*\).*/\1/p' \
    "${scratch}/inspect.json" | head -n 1),
  "vocab": $(sed -n 's/.*"vocab_size": \([0-9]*\).*/\1/p' \
    "${scratch}/inspect.json" | head -n 1)}]
JSON
  node qeff/export/onnx/interop/run_onnx.cjs "${NODE_MODULES}" \
    "${scratch}/cases.json" "${scratch}/results.json"
  got=$(grep -o '"tokens":\[\[[0-9,]*' "${scratch}/results.json" |
    grep -o '[0-9,]*$')
  want=$(numbers "${scratch}/engine.json" tokens)
  [[ "${got}" == "${want}" ]] ||
    fail "ONNX Runtime continues with ${got}, the engine with ${want}"
  echo "ONNX Runtime continues \"${prompt}\" with the engine's 16 tokens."
else
  echo "SKIPPED: ONNX Runtime is not in ${NODE_MODULES}"
fi

echo
echo "== 3. Compile for 14 cores: prompts of 32 tokens, context of 128, MXFP6"
"${QEFF}" compile --target=aic100 --model="${model}" \
  --output="${output}/cache" --num_cores=14 --prefill_seq_len=32 \
  --ctx_len=128 --mxfp6_matmul --json="${scratch}/compile.json"
bundle=$(field "${scratch}/compile.json" folder)
for part in '"name":"Prefill"' '"name":"Decode"' '"seq_len":"32"' \
  '"seq_len":"1"' '"ctx_len":"128"'; do
  grep -q "${part}" "${bundle}/specializations.json" ||
    fail "specializations.json lacks ${part}"
done
[[ $(grep -c 'IOName: past_' "${bundle}/custom_io.yaml") == $((4 * layers)) ]] ||
  fail "custom_io.yaml does not name the cache of ${layers} layers"
for part in -retained-state -convert-to-fp16 -mxfp6-matmul -aic-num-cores=14; do
  grep -q -- "'${part}'" "${bundle}/qaic-compile.sh" ||
    fail "qaic-compile.sh lacks ${part}"
done
if [[ $(field "${scratch}/compile.json" compiled) == true ]]; then
  [[ -s "${bundle}/qpc/programqpc.bin" ]] || fail "there is no program"
fi
"${QEFF}" eval --model="${model}" --reference="${model}" \
  --text=tools/demo_model/text.txt --max_tokens=4000 --simulate=mxfp6 \
  --json="${scratch}/eval.json" >/dev/null
echo "MXFP6 will cost $(field "${scratch}/eval.json" kl_mean) nats of KL" \
  "divergence, perplexity $(field "${scratch}/eval.json" perplexity)"

echo
echo "== 4. Generate"
"${QEFF}" generate --model="${model}" --prompt="${prompt}" \
  --max_new_tokens=64 | tee "${scratch}/text"
for line in 'Average Prefill time a.k.a TTFT is= ' 'Decode is= ' 'Total is= ' \
  'Total (E2E) inference time is= '; do
  grep -qF "${line}" "${scratch}/text" || fail "no line \"${line}\""
done
echo
echo "mpt_walkthrough: every step did what it says"
