#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds tools/consumer_example, a workspace that depends on qeff as another
# repository would, and runs it on a model that `qeff synth` makes. Its Bazel
# server is its own and is stopped at the end; compiled objects are shared
# through a disk cache.
set -euo pipefail

# Runfiles are links into the source tree.
root=$(dirname "$(readlink -f "${TEST_SRCDIR}/qeff/WORKSPACE")")
qeff="${TEST_SRCDIR}/qeff/tools/qeff"
cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qeff"

"${qeff}" synth --shape=tiny --output="${TEST_TMPDIR}/model"

cd "${root}/tools/consumer_example"
bazel=(bazel --output_base="${cache}/consumer_output_base"
  --max_idle_secs=60)
trap '"${bazel[@]}" shutdown' EXIT
"${bazel[@]}" build --noshow_progress --symlink_prefix=/ --jobs=2 \
  --disk_cache="${cache}/disk_cache" //:quantize_one_tensor
binary=$("${bazel[@]}" info bazel-bin)/quantize_one_tensor

output=$("${binary}" "${TEST_TMPDIR}/model")
echo "${output}"
# Normal weights in groups of 32: about 0.085 (4.5 bits against 32).
[[ "${output}" =~ ^"[172, 64]: 44032 bytes of float32 became 6192, relative RMS error 0.08" ]]

# A missing model is an error with the exit code for invalid input.
status=0
"${binary}" "${TEST_TMPDIR}/none" || status=$?
[[ ${status} -eq 3 ]]
