#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What README.md shows works: the example is compiled here and runs, the commands
# of "Getting started" run, and its recipes are there and can be planned.
set -euo pipefail
here="${TEST_SRCDIR}/qeff"

# The first C++ block of the README, and the example from `int main` on.
shown=$(awk '/^```cpp$/ { on = 1; next } /^```$/ { if (on) exit } on' \
  "${here}/README.md" | sed -n '/^int main/,$p')
compiled=$(sed -n '/^int main/,$p' "${here}/tools/readme_example.cc")
if [[ "${shown}" != "${compiled}" ]]; then
  echo "README.md shows another example than tools/readme_example.cc"
  diff <(echo "${shown}") <(echo "${compiled}")
  exit 1
fi

"${here}/tools/qeff" synth --shape=tiny --output="${TEST_TMPDIR}/model"
"${here}/tools/readme_example" "${TEST_TMPDIR}/model" "${TEST_TMPDIR}/small"
"${here}/tools/qeff" inspect --model="${TEST_TMPDIR}/small" \
  >"${TEST_TMPDIR}/inspected"
grep -q weight_packed "${TEST_TMPDIR}/inspected"

# The map of packages names every folder of qeff/, and no other.
diff <(cd "$(dirname "$(readlink -f "${here}/README.md")")/qeff" &&
  find . -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort) \
  <(grep -o '^| `qeff/[a-z0-9]*/`' "${here}/README.md" |
    sed 's/^| `qeff\///; s/\/`$//' | sort)

# section TITLE: the lines of a section.
section() {
  awk -v title="## $1" '$0 == title { on = 1; next } /^## / { on = 0 } on' \
    "${here}/README.md"
}

# Where a newcomer types: a clone, of which the commands need this much.
clone="${TEST_TMPDIR}/clone"
mkdir -p "${clone}/tools" "${clone}/qeff/pipeline"
ln -s "${here}/tools/demo_model" "${clone}/tools/"
ln -s "${here}/qeff/pipeline/recipes" "${clone}/qeff/pipeline/"
cd "${clone}"
# What is built already need not be built here.
bazel() {
  [[ "$*" == "build //tools:qeff" ]]
  mkdir -p bazel-bin/tools
  ln -s "${here}/tools/qeff" bazel-bin/tools/qeff
}
export -f bazel
export here
section "Getting started" |
  awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' >commands.sh
[[ $(grep -c '^qeff ' commands.sh) -ge 4 ]]
bash -euo pipefail commands.sh
for made in small/model/model.safetensors small/report.html \
  found/recipe.textproto found.qeff; do
  [[ -s ${made} ]]
done

# Every recipe has its row, and every row its recipe.
diff <(cd qeff/pipeline/recipes && printf '%s\n' *.textproto) \
  <(section "Which recipe for which goal" |
    sed -n 's/^| [^|]* | `\([a-z0-9_]*\)` .*/\1.textproto/p' | sort)
for recipe in qeff/pipeline/recipes/*.textproto; do
  bazel-bin/tools/qeff optimize --plan --model=tools/demo_model/llama \
    --recipe="${recipe}" --calibration=calibration.txt \
    --data=calibration.txt --text=held_out.txt --output=planned
done
