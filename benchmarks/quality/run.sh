#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What algorithms of `qeff quantize` cost in quality: for each scheme and
# algorithm the mean KL divergence from the original model on held-out text, and
# the share of rounding's that it removes. Calibrated algorithms run once a
# seed.
#
#   benchmarks/quality/run.sh --model=DIR --calibration=FILE --text=FILE
#       [--schemes="int4_g32 int2_g64"] [--algorithms="awq gptq"] [--seeds=3]
#       [--tokens=65536] [--length=256] [--eval="FLAGS of qeff eval"]
#       [--quantize="FLAGS of qeff quantize"]
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
model= calibration= text=
for argument in "$@"; do
  case "${argument}" in
    --model=* | --calibration=* | --text=* | --schemes=* | --algorithms=* | \
      --seeds=* | --tokens=* | --length=* | --eval=* | --quantize=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
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

# Prints the mean KL of SCHEME ALGORITHM [flags of quantize].
kl_of() {
  rm -rf "${folder}/model"
  "${qeff}" quantize --model="${model}" --scheme="$1" --algorithm="$2" \
    --output="${folder}/model" "${quantize_flags[@]}" "${@:3}" >"${folder}/log"
  "${qeff}" eval --model="${folder}/model" --reference="${model}" \
    --text="${text}" --context_length="${length}" "${eval_flags[@]}" \
    --json="${folder}/eval.json" >>"${folder}/log"
  sed -n 's/.*"kl_mean": \([0-9.e-]*\).*/\1/p' "${folder}/eval.json"
}

printf '%-10s %-10s %10s %9s  %s\n' scheme algorithm "mean KL" removed seeds
for scheme in ${schemes}; do
  rounding="$(kl_of "${scheme}" rtn)"
  printf '%-10s %-10s %10.6f\n' "${scheme}" rtn "${rounding}"
  for algorithm in ${algorithms}; do
    all=()
    flags=(--calibration="${calibration}" --calibration_tokens="${tokens}"
      --sequence_length="${length}")
    runs="${seeds}"
    case "${algorithm}" in  # without calibration
      mse) flags=() runs=1 ;;
      rotate,rtn | rotate,mse) flags=() ;;
    esac
    for ((seed = 0; seed < runs; ++seed)); do
      all+=("$(kl_of "${scheme}" "${algorithm}" "${flags[@]}" \
        --seed="${seed}")")
    done
    awk -v scheme="${scheme}" -v algorithm="${algorithm}" \
      -v rounding="${rounding}" -v all="${all[*]}" 'BEGIN {
        n = split(all, kl, " ")
        for (i = 1; i <= n; ++i) {
          sum += kl[i]
          each = each sprintf(" %.6f", kl[i])
        }
        printf "%-10s %-10s %10.6f %8.1f%% %s\n", scheme, algorithm, sum / n,
               100 * (1 - sum / n / rounding), each
      }'
  done
done
