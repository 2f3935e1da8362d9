#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What algorithms of `qeff quantize` cost in quality: for each scheme and
# algorithm the mean KL divergence from the original model on held-out text, the
# share of rounding's that it removes, and the perplexity. Calibrated algorithms
# run once a seed; the divergence of each seed is at the end.
#
#   benchmarks/quality/run.sh --model=DIR --calibration=FILE --text=FILE
#       [--schemes="int4_g32 int2_g64"] [--algorithms="awq gptq"] [--seeds=3]
#       [--tokens=65536] [--length=256] [--eval="FLAGS of qeff eval"]
#       [--quantize="FLAGS of qeff quantize"] [--gguf]
#
# A scheme such as 4.25bpw or 600MB is a budget. With --gguf models are exported
# to GGUF and evaluated from there.
set -euo pipefail
here="$(pwd)"
cd "$(dirname "$0")/../.."

schemes="int4_g32 int4_g128 int3_g128 int2_g64"
algorithms="awq gptq awq,gptq"
seeds=3
tokens=65536
length=256
eval="--activations=f32 --lm_head=keep"
quantize=
gguf=false
model= calibration= text=
for argument in "$@"; do
  case "${argument}" in
    --model=* | --calibration=* | --text=* | --schemes=* | --algorithms=* | \
      --seeds=* | --tokens=* | --length=* | --eval=* | --quantize=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
    --gguf) gguf=true ;;
    *)
      echo "run.sh: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done
for name in model calibration text; do
  [[ -n "${!name}" ]] || { echo "run.sh: --${name} is missing" >&2; exit 2; }
  [[ "${!name}" == /* ]] || printf -v "${name}" %s "${here}/${!name}"
done
# For a machine where Bazel needs start-up options of its own.
read -ra bazel <<<"${QEFF_BAZEL:-bazel}"
read -ra eval_flags <<<"${eval}"
read -ra quantize_flags <<<"${quantize}"
"${bazel[@]}" build --noshow_progress --ui_event_filters=-info //tools:qeff >&2
qeff="$("${bazel[@]}" info bazel-bin 2>/dev/null)/tools/qeff"
folder="$(mktemp -d)"
trap 'rm -rf "${folder}"' EXIT

calibration_flags=(--calibration="${calibration}"
  --calibration_tokens="${tokens}" --sequence_length="${length}")

run() { "${qeff}" "$@" >"${folder}/log" || { cat "${folder}/log" >&2; exit 1; }; }

# Prints the mean KL and the perplexity of SCHEME ALGORITHM [flags of quantize].
measure() {
  local made="${folder}/model" bits="--scheme=$1"
  [[ "$1" != *bpw && "$1" != *MB ]] || bits="--budget=$1"
  rm -rf "${made}"
  run quantize --model="${model}" "${bits}" --algorithm="$2" \
    --output="${made}" "${quantize_flags[@]}" "${@:3}"
  if "${gguf}"; then
    rm -f "${made}.gguf"
    run export --model="${made}" --format=gguf --output="${made}.gguf"
    made+=.gguf
  fi
  run eval --model="${made}" --reference="${model}" --text="${text}" \
    --context_length="${length}" "${eval_flags[@]}" --json="${folder}/eval.json"
  sed -nE 's/.*"(kl_mean|perplexity)": ([0-9.e-]*).*/\1 \2/p' \
    "${folder}/eval.json" | sort | sed 's/.* //'
}

printf '%-10s %-15s %10s %9s %11s  %s\n' \
  scheme algorithm "mean KL" removed perplexity seeds
for scheme in ${schemes}; do
  rounding=
  for algorithm in rtn ${algorithms}; do
    flags=("${calibration_flags[@]}")
    runs="${seeds}"
    case "${algorithm}" in  # without calibration
      rtn | mse) runs=1 ;&
      rotate,rtn | rotate,mse)
        [[ "${scheme}" == *bpw || "${scheme}" == *MB ]] || flags=() ;;
    esac
    all=()
    for ((seed = 0; seed < runs; ++seed)); do
      one=()
      ((runs == 1)) || one=(--seed="${seed}")
      all+=($(measure "${scheme}" "${algorithm}" "${flags[@]}" "${one[@]}"))
    done
    [[ -n "${rounding}" ]] || rounding="${all[0]}"
    awk -v scheme="${scheme}" -v algorithm="${algorithm}" \
      -v rounding="${rounding}" -v all="${all[*]}" 'BEGIN {
        n = split(all, figure, " ")
        for (i = 1; i < n; i += 2) {
          kl += figure[i] / (n / 2)
          perplexity += figure[i + 1] / (n / 2)
          each = each sprintf(" %.6f", figure[i])
        }
        printf "%-10s %-15s %10.6f %8.1f%% %11.4f %s\n", scheme, algorithm,
               kl, 100 * (1 - kl / rounding), perplexity, each
      }'
  done
done
