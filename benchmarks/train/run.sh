#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Trains a model of the same shape on random tokens with qeff and with PyTorch,
# by turns, and prints tokens per second, the ratio, and qeff's share of the
# machine's float32 peak.
#
#   benchmarks/train/run.sh [--shape=llama-6m] [--batch_size=16]
#                           [--sequence_length=256] [--threads=N] [--rounds=3]
#                           [--steps=3]
#
# PyTorch is Debian's python3-torch with libopenblas0-pthread, which
# tools/setup.sh --interop installs.
set -euo pipefail
cd "$(dirname "$0")/../.."

shape=llama-6m
batch_size=16
sequence_length=256
threads=$(nproc)
rounds=3
steps=3
for argument in "$@"; do
  case "${argument}" in
    --shape=* | --batch_size=* | --sequence_length=* | --threads=* | \
      --rounds=* | --steps=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
    *)
      echo "run.sh: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done

# For a machine where Bazel needs start-up options of its own.
read -ra bazel <<<"${QEFF_BAZEL:-bazel}"
tools/setup.sh --interop >&2
"${bazel[@]}" build --noshow_progress --ui_event_filters=-info \
  //benchmarks/train:train_benchmark >&2
readonly OURS="$("${bazel[@]}" info bazel-bin 2>/dev/null)/benchmarks/train/train_benchmark"
flags=("--shape=${shape}" "--batch_size=${batch_size}"
  "--sequence_length=${sequence_length}" "--threads=${threads}"
  "--steps=${steps}")

field() {
  sed -E "s/.*\"$1\": ([0-9.]+).*/\1/"
}
median() {
  sort -g | awk '{ v[NR] = $1 } END { print v[int(NR / 2) + 1] }'
}

ours=() theirs=() shares=()
for ((round = 1; round <= rounds; ++round)); do
  # Debian's own OpenBLAS chooses its kernels by the processor.
  result="$(env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE \
    /usr/bin/python3 benchmarks/train/torch_train.py "${flags[@]}")"
  theirs+=("$(field tokens_per_second <<<"${result}")")
  result="$("${OURS}" "${flags[@]}")"
  ours+=("$(field tokens_per_second <<<"${result}")")
  shares+=("$(field fraction_of_peak <<<"${result}")")
  echo "round ${round}: qeff ${ours[-1]}, PyTorch ${theirs[-1]} tokens/s" >&2
done
a="$(printf '%s\n' "${ours[@]}" | median)"
b="$(printf '%s\n' "${theirs[@]}" | median)"
s="$(printf '%s\n' "${shares[@]}" | median)"
awk -v shape="${shape}" -v a="${a}" -v b="${b}" -v s="${s}" 'BEGIN {
  printf "%s: qeff %d, PyTorch %d tokens/s, ratio %.2f, %d %% of the float32 peak\n",
         shape, a, b, a / b, 100 * s }'
