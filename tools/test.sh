#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is needed and runs every test. The last line is
#   N passed, N failed[, N skipped]
# counting test cases; the exit code is 0 only when none failed.
#
#   tools/test.sh               every test, optimized
#   tools/test.sh --sanitizers  then also what tools/README.md lists, under
#                               AddressSanitizer, UBSan and ThreadSanitizer,
#                               and the fuzz targets for 20 seconds each
#
# Tests over real models need a folder of them: QEFF_SHARED_DATA, by default
# ../shared/data beside this repository. Without it they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly SHARED_DATA="${QEFF_SHARED_DATA:-$(cd .. && pwd)/shared/data}"
readonly INTEROP_DIR="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qeff/interop"

# What reads untrusted bytes or juggles memory and threads; see the budget in
# tools/README.md.
readonly ADDRESS_TARGETS=(
  //qeff/util/... //qeff/tensor/... //qeff/format/... //qeff/io/...
  //qeff/kernels/... //qeff/tokenizer/... //qeff/device/...
  //qeff/calibration/... //qeff/quant/... //qeff/prune/...
  //qeff/train/... //qeff/distill/...
  //qeff/export:hostile_folder_test
  //qeff/export/aic:read_graph_test //qeff/export/aic:cache_entry_test
)
# A walk over a model takes minutes here; its threads are in these parts.
readonly THREAD_TARGETS=(
  //qeff/parallel/... //qeff/io:checkpoint_writer_test
  //qeff/util:progress_test //qeff/device:engine_test
  //qeff/calibration:input_statistics_test //qeff/quant:awq_test
  //qeff/quant:gap_correction_test //qeff/quant:gptq_test
  //qeff/quant:quantize_checkpoint_test //qeff/quant:upper_factor_test
  //qeff/train:optimizer_test //qeff/train:tokenize_to_shard_test
)

# Kernels of the device runtime, in their unit tests under an emulator. Those of
# attention and of activations pass too, and take two minutes more.
readonly AARCH64_TARGETS=(
  //qeff/device:cpu_check_test //qeff/kernels/convert:convert_test
  //qeff/kernels/elementwise:norm_test
  //qeff/kernels/matmul_bf16:matmul_bf16_test
  //qeff/kernels/matmul_int:matmul_int_test
  //qeff/kernels/matmul_int:quantize_activations_test
  //qeff/kernels/matvec:matvec_test
)

passed=0
failed=0
skipped=0

# Adds the test cases of all test.xml files of the last run to the totals.
count_cases() {
  local logs counts
  logs=$(bazel info --noshow_progress bazel-testlogs "$@" 2>/dev/null)
  [[ -d "${logs}" ]] || return 0
  counts=$(find -L "${logs}" -name test.xml -newer "${run_started}" -print0 |
    xargs -0 -r cat |
    awk '
      /<testcase / {
        cases++
        open = 1
        if ($0 ~ /result="skipped"|status="notrun"/) { skips++; open = 0 }
      }
      /<skipped/ && open { skips++; open = 0 }
      # What a shell test prints when it cannot run.
      /SKIPPED: / && open { skips++; open = 0 }
      /<failure|<error / && open { fails++; open = 0 }
      END { printf "%d %d %d\n", cases - fails - skips, fails, skips }')
  read -r p f s <<<"${counts}"
  passed=$((passed + p))
  failed=$((failed + f))
  skipped=$((skipped + s))
}

# run_tests CONFIG_FLAGS... -- TARGETS...
run_tests() {
  local config=() environment=() status=0 failed_before=${failed}
  while [[ "$1" != "--" ]]; do
    config+=("$1")
    shift
  done
  shift
  [[ -d "${SHARED_DATA}" ]] &&
    environment+=("--test_env=QEFF_SHARED_DATA=${SHARED_DATA}")
  environment+=("--test_env=QEFF_NODE_MODULES=${INTEROP_DIR}/node_modules")
  run_started=$(mktemp)
  # Results of an earlier run are not results of this one.
  bazel test --keep_going --nocache_test_results --noshow_progress \
    --test_summary=terse "${config[@]}" "${environment[@]}" "$@" || status=$?
  count_cases "${config[@]}"
  rm -f "${run_started}"
  # A target that did not build has no test cases, but has failed.
  if [[ ${status} -ne 0 && ${failed} -eq ${failed_before} ]]; then
    failed=$((failed + 1))
  fi
}

# built CONFIG_FLAGS... -- TARGET: builds it and prints a copy's path.
built() {
  local config=() copy
  while [[ "$1" != "--" ]]; do
    config+=("$1")
    shift
  done
  bazel build --noshow_progress "${config[@]}" "$2" >&2 || return 1
  copy=$(mktemp -p "${device_binaries}")
  install "$(bazel info --noshow_progress "${config[@]}" bazel-bin)/${2/:/\/}" \
    "${copy}" || return 1
  echo "${copy}"
}

# The device runtime alone: static, for x86-64 and aarch64.
run_device_tests() {
  local qeff host x86_64 aarch64
  device_binaries=$(mktemp -d)
  trap 'rm -rf "${device_binaries}"' EXIT
  qeff=$(built -- //tools:qeff) &&
    host=$(built -- //qeff/device:qeff_device) &&
    x86_64=$(built --config=device-x86-64 -- //qeff/device:qeff_device) &&
    aarch64=$(built --config=device-aarch64 -- //qeff/device:qeff_device) &&
    qeff/device/static_device_test.sh "${qeff}" "${host}" "${x86_64}" \
      "${aarch64}"
}

# Counts a script as one test case.
count_run() {
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

# Fuzz targets, each of which is a test case. They are built by another compiler,
# which takes minutes: on a machine that was too slow for the rest they are
# skipped.
run_fuzz_targets() {
  local log targets good
  targets=$(find qeff/fuzz -name '*_fuzz.cc' | wc -l)
  if [[ ${SECONDS} -gt $((48 * 60)) ]]; then
    echo "SKIPPED: fuzz targets, after ${SECONDS} s"
    skipped=$((skipped + targets))
    return
  fi
  log=$(mktemp)
  tools/fuzz.sh --no-ledger | tee "${log}" || true
  good=$(grep -c 'no finding$' "${log}" || true)
  rm -f "${log}"
  # One that did not run, because another failed, has not passed either.
  passed=$((passed + good))
  failed=$((failed + targets - good))
}

tools/setup.sh --interop
tools/setup.sh --device
run_tests -- //...
if [[ "${1:-}" == "--sanitizers" ]]; then
  run_tests --config=asan --test_tag_filters=-external,-no_sanitizer \
    -- "${ADDRESS_TARGETS[@]}"
  run_tests --config=tsan --test_tag_filters=-external,-no_sanitizer \
    -- "${THREAD_TARGETS[@]}"
fi

count_run run_device_tests
run_tests --config=device-aarch64 -- "${AARCH64_TARGETS[@]}"

# The first command of the README.
count_run tools/demo.sh

[[ "${1:-}" != "--sanitizers" ]] || run_fuzz_targets

summary="${passed} passed, ${failed} failed"
[[ ${skipped} -gt 0 ]] && summary+=", ${skipped} skipped"
echo "${summary}"
[[ ${failed} -eq 0 ]]
