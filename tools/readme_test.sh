#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# README.md shows the example that is compiled here, and it runs.
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
