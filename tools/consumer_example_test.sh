#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds tools/consumer_example, a workspace that depends on qeff as another
# repository would. Its program runs on a model that `qeff synth` makes; its
# Bazel server is its own and is stopped at the end; compiled objects are shared
# through a disk cache. Its models are made twice from nothing, by a qeff that
# was built before, and are the same bytes.
set -euo pipefail

# Runfiles are links into the source tree.
root=$(dirname "$(readlink -f "${TEST_SRCDIR}/qeff/WORKSPACE")")
qeff="${TEST_SRCDIR}/qeff/tools/qeff"
cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qeff"

# --- The rules for models ---

# Another place, where the program is a file of the workspace.
example="${TEST_TMPDIR}/example"
cp -rL "${root}/tools/consumer_example" "${example}"
mkdir "${example}/prebuilt"
cp "${qeff}" "${example}/prebuilt/qeff"
cat >"${example}/prebuilt/BUILD" <<'END'
load("@qeff//tools:qeff.bzl", "qeff_toolchain")

qeff_toolchain(
    name = "qeff_of_this_folder",
    qeff = "qeff",
)

toolchain(
    name = "toolchain",
    toolchain = ":qeff_of_this_folder",
    toolchain_type = "@qeff//tools:toolchain_type",
)
END
cat >>"${example}/BUILD" <<'END'

qeff_quality_test(
    name = "too_strict_test",
    max_kl = "0.0001",
    max_perplexity_increase = "1",
    model = ":llama_int4",
    reference = "@qeff//tools/demo_model:llama_folder",
    text = "held_out.txt",
)

filegroup(
    name = "two_folders",
    srcs = [
        "BUILD",
        "held_out.txt",
    ],
)

qeff_device_package(
    name = "of_two_folders",
    model = ":two_folders",
)

qeff_model(
    name = "no_recipe",
    checkpoint = "@qeff//tools/demo_model:llama_folder",
    recipe = "held_out.txt",
)
END
cd "${example}"

# in_base NAME COMMAND FLAGS...: Bazel with an output base of that name.
in_base() {
  local base=$1 command=$2
  shift 2
  bazel --output_base="${TEST_TMPDIR}/${base}" --max_idle_secs=60 \
    "${command}" --noshow_progress --symlink_prefix=/ --disk_cache= \
    --override_repository=qeff="${root}" \
    --extra_toolchains=//prebuilt:toolchain "$@"
}
stop() {
  for base in first second; do
    bazel --output_base="${TEST_TMPDIR}/${base}" shutdown || true
  done
}
trap stop EXIT

# Two threads, where there are two processors, and one.
in_base first test --test_output=all //:llama_int4_package //:llama_int4_test
one_processor=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
taskset -cp "${one_processor}" $$ >"${TEST_TMPDIR}/taskset.log"
in_base second build //:llama_int4_package
taskset -cp "0-$(($(nproc --all) - 1))" $$ >"${TEST_TMPDIR}/taskset.log"
for base in first second; do
  bin=$(in_base "${base}" info bazel-bin)
  cp -rL "${bin}/llama_int4" "${TEST_TMPDIR}/${base}.folder"
  cp "${bin}/llama_int4_package.qeff" "${TEST_TMPDIR}/${base}.qeff"
  [[ ! -e ${bin}/llama_int4.work ]]
done
diff -r "${TEST_TMPDIR}/first.folder" "${TEST_TMPDIR}/second.folder"
cmp "${TEST_TMPDIR}/first.qeff" "${TEST_TMPDIR}/second.qeff"
[[ -s ${TEST_TMPDIR}/first.folder/model.safetensors ]]

# fails COMMAND TARGET MESSAGE
fails() {
  local log="${TEST_TMPDIR}/fails.log"
  if in_base first "$1" --test_output=errors "$2" >"${log}" 2>&1; then
    echo "$2 did not fail"
    exit 1
  fi
  grep -q -e "$3" "${log}" || { cat "${log}"; exit 1; }
}
fails test //:too_strict_test "mean KL divergence: .* is more than 0.0001"
fails build //:of_two_folders "expected the files of one model folder, found"
fails build //:no_recipe "held_out.txt"
stop

# --- The program ---

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
