#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What methods of `qeff prune` cost in quality: for each pattern, method and
# seed the perplexity on held-out text and the mean KL divergence from the
# original model. magnitude, which has no seed, runs once.
#
#   benchmarks/quality/prune.sh --model=DIR --calibration=FILE --text=FILE
#       [--patterns="0.5 2:4"] [--methods="magnitude wanda sparsegpt"]
#       [--seeds=3] [--tokens=65536] [--length=256]
#       [--eval="FLAGS of qeff eval"] [--prune="FLAGS of qeff prune"]
set -euo pipefail
here="$(pwd)"
cd "$(dirname "$0")/../.."

patterns="0.5 2:4"
methods="magnitude wanda sparsegpt"
seeds=3
tokens=65536
length=256
eval="--activations=f32 --lm_head=keep"
prune=
model= calibration= text=
for argument in "$@"; do
  case "${argument}" in
    --model=* | --calibration=* | --text=* | --patterns=* | --methods=* | \
      --seeds=* | --tokens=* | --length=* | --eval=* | --prune=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
    *)
      echo "prune.sh: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done
for name in model calibration text; do
  [[ -n "${!name}" ]] || { echo "prune.sh: --${name} is missing" >&2; exit 2; }
  [[ "${!name}" == /* ]] || printf -v "${name}" %s "${here}/${!name}"
done
# For a machine where Bazel needs start-up options of its own.
read -ra bazel <<<"${QEFF_BAZEL:-bazel}"
read -ra eval_flags <<<"${eval}"
read -ra prune_flags <<<"${prune}"
"${bazel[@]}" build -c opt --noshow_progress --ui_event_filters=-info \
  //tools:qeff >&2
qeff="$("${bazel[@]}" info -c opt bazel-bin 2>/dev/null)/tools/qeff"
folder="$(mktemp -d)"
trap 'rm -rf "${folder}"' EXIT

# Prints the perplexity and the mean KL of MODEL.
measure() {
  "${qeff}" eval --model="$1" --reference="${model}" --text="${text}" \
    --context_length="${length}" "${eval_flags[@]}" \
    --json="${folder}/eval.json" >"${folder}/log"
  sed -n 's/.*"perplexity": \([0-9.e-]*\).*/\1/p' "${folder}/eval.json"
  sed -n 's/.*"kl_mean": \([0-9.e-]*\).*/\1/p' "${folder}/eval.json"
}

line="%-10s %-10s %5s %11s %10s\n"
printf "${line}" pattern method seed perplexity KL
printf "${line}" - dense - $(measure "${model}")
for pattern in ${patterns}; do
  asked="--sparsity=${pattern}"
  [[ "${pattern}" == *:* ]] && asked="--pattern=${pattern}"
  for method in ${methods}; do
    for ((seed = 0; seed < seeds; ++seed)); do
      calibrated=()
      if [[ "${method}" != magnitude ]]; then
        calibrated=("--calibration=${calibration}" "--seed=${seed}"
          "--calibration_tokens=${tokens}" "--sequence_length=${length}")
      elif ((seed > 0)); then
        continue
      fi
      rm -rf "${folder}/model"
      "${qeff}" prune --model="${model}" --method="${method}" "${asked}" \
        "${calibrated[@]}" "${prune_flags[@]}" --output="${folder}/model" \
        >"${folder}/log" || { cat "${folder}/log" >&2; exit 1; }
      printf "${line}" "${pattern}" "${method}" "${seed}" \
        $(measure "${folder}/model")
    done
  done
done
