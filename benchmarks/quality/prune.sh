#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What methods of `qeff prune` cost in quality: for each pattern, method, scheme
# and seed the bits a weight of a package's layers, the perplexity on held-out
# text and the mean KL divergence from the original model. magnitude, which has
# no seed, runs once.
#
#   benchmarks/quality/prune.sh --model=DIR --calibration=FILE --text=FILE
#       [--patterns="0.5 2:4"] [--methods="magnitude wanda sparsegpt"]
#       [--schemes="float int4_g32"] [--allocation=uniform]
#       [--seeds=3] [--tokens=65536] [--length=256] [--eval="FLAGS of qeff eval"]
#       [--prune="FLAGS of qeff prune"] [--quantize="FLAGS of qeff quantize"]
#
# With a scheme sparsegpt prunes and quantizes in one run; METHOD,gptq prunes,
# and then quantizes the pruned model. The pattern `dense` quantizes only, by
# gptq. Patterns N:M have no allocation.
set -euo pipefail
here="$(pwd)"
cd "$(dirname "$0")/../.."

patterns="0.5 2:4"
methods="magnitude wanda sparsegpt"
schemes=float
allocation=uniform
seeds=3
tokens=65536
length=256
eval="--activations=f32 --lm_head=keep"
prune= quantize=
model= calibration= text=
for argument in "$@"; do
  case "${argument}" in
    --model=* | --calibration=* | --text=* | --patterns=* | --methods=* | \
      --schemes=* | --allocation=* | --seeds=* | --tokens=* | --length=* | \
      --eval=* | --prune=* | --quantize=*)
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
read -ra quantize_flags <<<"${quantize}"
"${bazel[@]}" build -c opt --noshow_progress --ui_event_filters=-info \
  //tools:qeff >&2
qeff="$("${bazel[@]}" info -c opt bazel-bin 2>/dev/null)/tools/qeff"
folder="$(mktemp -d)"
trap 'rm -rf "${folder}"' EXIT

run() { "${qeff}" "$@" >"${folder}/log" || { cat "${folder}/log" >&2; exit 1; }; }

# The number that KEY has in the JSON file NAME.
number() { sed -n 's/.*"'"$1"'": \([0-9.e-]*\).*/\1/p' "${folder}/$2.json"; }

# Prints bits a weight, perplexity and mean KL of MODEL.
measure() {
  run compile --model="$1" --sparse=smaller --output="${folder}/package" \
    --json="${folder}/compile.json"
  run eval --model="$1" --reference="${model}" --text="${text}" \
    --context_length="${length}" "${eval_flags[@]}" --json="${folder}/eval.json"
  number bits_per_weight compile
  number perplexity eval
  number kl_mean eval
}

# make PATTERN METHOD SCHEME [flags of calibration]: a model in the folder.
make() {
  local pattern="$1" method="${2%,gptq}" scheme="$3" pruned="${model}"
  local asked=("--sparsity=${pattern}" "--allocation=${allocation}")
  [[ "${pattern}" != *:* ]] || asked=("--pattern=${pattern}")
  [[ "${scheme}" == float || "$2" == *,gptq ]] || asked+=("--scheme=${scheme}")
  rm -rf "${folder}/pruned" "${folder}/model"
  if [[ "${pattern}" != dense ]]; then
    pruned="${folder}/pruned"
    run prune --model="${model}" --method="${method}" "${asked[@]}" "${@:4}" \
      "${prune_flags[@]}" --output="${pruned}"
    [[ "${scheme}" != float && "$2" == *,gptq ]] ||
      { mv "${pruned}" "${folder}/model"; return; }
  fi
  run quantize --model="${pruned}" --scheme="${scheme}" --algorithm=gptq \
    "${@:4}" "${quantize_flags[@]}" --output="${folder}/model"
}

row="%-8s %-15s %-10s %5s"
printf "${row} %6s %10s %9s\n" pattern method scheme seed bits perplexity KL

# report PATTERN METHOD SCHEME SEED MODEL
report() {
  local figures
  figures="$(measure "$5")"
  printf "${row} %6.3f %10.3f %9.5f\n" "${@:1:4}" ${figures}
}

report dense - float - "${model}"
for pattern in ${patterns}; do
  for scheme in ${schemes}; do
    [[ "${pattern} ${scheme}" != "dense float" ]] || continue
    for method in $([[ "${pattern}" == dense ]] && echo gptq ||
      echo "${methods}"); do
      for ((seed = 0; seed < seeds; ++seed)); do
        calibrated=()
        if [[ "${method}" != magnitude ]]; then
          calibrated=("--calibration=${calibration}" "--seed=${seed}"
            "--calibration_tokens=${tokens}" "--sequence_length=${length}")
        elif ((seed > 0)); then
          continue
        fi
        make "${pattern}" "${method}" "${scheme}" "${calibrated[@]}"
        report "${pattern}" "${method}" "${scheme}" "${seed}" "${folder}/model"
      done
    done
  done
done
