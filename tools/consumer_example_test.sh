#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds tools/consumer_example, a workspace that depends on qeff as another
# repository would, twice with output bases of their own, and compares bytes: of
# its program, whose C++ is shared through a disk cache, and of its models, each
# of which is made from nothing, by a qeff that was built before. The program
# runs on a model that `qeff synth` makes.
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

# in_base NAME COMMAND FLAGS...: Bazel with an output base of that name. The disk
# cache has C++ only.
in_base() {
  local base=$1 command=$2
  shift 2
  bazel --output_base="${TEST_TMPDIR}/${base}" --max_idle_secs=60 \
    "${command}" --noshow_progress --symlink_prefix=/ --jobs=2 \
    --disk_cache="${cache}/disk_cache" \
    --modify_execution_info=Qeff.*=+no-cache \
    --override_repository=qeff="${root}" "$@"
}
prebuilt=--extra_toolchains=//prebuilt:toolchain
stop() {
  for base in first second; do
    bazel --output_base="${TEST_TMPDIR}/${base}" shutdown || true
  done
}
trap stop EXIT

# Without a toolchain of the workspace, models are made by qeff from source.
in_base first build --nobuild //:llama_int4_package //:llama_int4_test
[[ $(in_base first aquery 'mnemonic(QeffOptimize, //:llama_int4)') == \
  *external/qeff/tools/qeff* ]]

targets=(//:quantize_one_tensor //:llama_int4_package)
# Two threads, where there are two processors, and one.
in_base first test --test_output=all "${prebuilt}" "${targets[@]}" \
  //:llama_int4_test
one_processor=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
taskset -cp "${one_processor}" $$ >"${TEST_TMPDIR}/taskset.log"
executed="${TEST_TMPDIR}/executed.json"
in_base second build "${prebuilt}" --execution_log_json_file="${executed}" \
  "${targets[@]}"
taskset -cp "0-$(($(nproc --all) - 1))" $$ >"${TEST_TMPDIR}/taskset.log"

# runner MNEMONIC: what ran such actions the second time.
runner() {
  tr -d '\n ' <"${executed}" | sed 's/}{"commandArgs"/}\n{"commandArgs"/g' |
    grep "\"mnemonic\":\"$1\"" | grep -o '"runner":"[^"]*"' | sort -u
}
for mnemonic in QeffOptimize QeffCompile; do
  [[ $(runner "${mnemonic}") == *sandbox* ]]
done
[[ $(runner CppCompile) == *cache* ]]
for base in first second; do
  bin=$(in_base "${base}" info bazel-bin)
  cp -rL "${bin}/llama_int4" "${TEST_TMPDIR}/${base}.folder"
  cp "${bin}/llama_int4_package.qeff" "${TEST_TMPDIR}/${base}.qeff"
  cp "${bin}/quantize_one_tensor" "${TEST_TMPDIR}/${base}.program"
  [[ ! -e ${bin}/llama_int4.work ]]
done
diff -r "${TEST_TMPDIR}/first.folder" "${TEST_TMPDIR}/second.folder"
cmp "${TEST_TMPDIR}/first.qeff" "${TEST_TMPDIR}/second.qeff"
cmp "${TEST_TMPDIR}/first.program" "${TEST_TMPDIR}/second.program"
[[ -s ${TEST_TMPDIR}/first.folder/model.safetensors ]]

# fails COMMAND TARGET MESSAGE
fails() {
  local log="${TEST_TMPDIR}/fails.log"
  if in_base first "$1" --test_output=errors "${prebuilt}" "$2" >"${log}" 2>&1
  then
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

binary="${TEST_TMPDIR}/first.program"
output=$("${binary}" "${TEST_TMPDIR}/model")
echo "${output}"
# Normal weights in groups of 32: about 0.085 (4.5 bits against 32).
[[ "${output}" =~ ^"[172, 64]: 44032 bytes of float32 became 6192, relative RMS error 0.08" ]]

# A missing model is an error with the exit code for invalid input.
status=0
"${binary}" "${TEST_TMPDIR}/none" || status=$?
[[ ${status} -eq 3 ]]
