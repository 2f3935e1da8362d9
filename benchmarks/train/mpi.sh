#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What training on several processes of one machine costs: the same steps on
# one process with a thread a processor and on a process a processor with one
# thread each, by turns. Prints tokens per second and the ratio.
#
#   benchmarks/train/mpi.sh [--shape=llama-6m] [--batch_size=16]
#                           [--sequence_length=256] [--processes=N]
#                           [--rounds=3] [--steps=5]
set -euo pipefail
cd "$(dirname "$0")/../.."

shape=llama-6m
batch_size=16
sequence_length=256
processes=$(nproc)
rounds=3
steps=5
for argument in "$@"; do
  case "${argument}" in
    --shape=* | --batch_size=* | --sequence_length=* | --processes=* | \
      --rounds=* | --steps=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
    *)
      echo "mpi.sh: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done

# For a machine where Bazel needs start-up options of its own.
read -ra bazel <<<"${QEFF_BAZEL:-bazel}"
tools/setup.sh >&2
"${bazel[@]}" build --noshow_progress --ui_event_filters=-info \
  //tools:qeff //tools:qeff_mpi >&2
tools="$("${bazel[@]}" info bazel-bin 2>/dev/null)/tools"
source qeff/train/mpi/mpirun.sh
scratch=$(mktemp -d)
trap 'rm -rf "${scratch}"' EXIT
"${tools}/qeff" synth --shape="${shape}" --output="${scratch}/model" >&2

# speed PROCESSES THREADS: median tokens per second of the steps but the first.
speed() {
  rm -rf "${scratch}/output"
  mpi_run "$1" "${tools}/qeff_mpi" train --model="${scratch}/model" \
    --data=LICENSE --output="${scratch}/output" \
    --metrics="${scratch}/metrics" --threads="$2" --steps="$((steps + 1))" \
    --batch_size="${batch_size}" --sequence_length="${sequence_length}" \
    --save_every=1000000 >&2
  sed -nE '2,$s/.*"tokens_per_second":([0-9.]+).*/\1/p' "${scratch}/metrics" |
    median
}
median() {
  sort -g | awk '{ v[NR] = $1 } END { print v[int(NR / 2) + 1] }'
}

one=() several=()
for ((round = 1; round <= rounds; ++round)); do
  one+=("$(speed 1 "${processes}")")
  several+=("$(speed "${processes}" 1)")
  echo "round ${round}: ${one[-1]}, ${several[-1]} tokens/s" >&2
done
a="$(printf '%s\n' "${one[@]}" | median)"
b="$(printf '%s\n' "${several[@]}" | median)"
awk -v shape="${shape}" -v n="${processes}" -v a="${a}" -v b="${b}" 'BEGIN {
  printf "%s: 1 process x %d threads %d, %d processes x 1 thread %d tokens/s, ratio %.2f\n",
         shape, n, a, n, b, b / a }'
