#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a qeff_quality_test (qeff.bzl) runs, which fills in the names.
set -euo pipefail

qeff="%{qeff}"
text="%{text}"
results=${TEST_UNDECLARED_OUTPUTS_DIR:-${TEST_TMPDIR}}

# value FILE KEY: a number of a JSON object.
value() {
  local number
  number=$(sed -n "s/^ *\"$2\": \([-+.0-9e]*\),\{0,1\}\$/\1/p" "$1")
  [[ -n ${number} ]] || { echo "$1: no number $2" >&2; return 1; }
  echo "${number}"
}

# at_most NAME VALUE LIMIT
at_most() {
  [[ $3 =~ ^[0-9]+(\.[0-9]+)?$ ]] ||
    { echo "$1: expected a number as limit, found '$3'"; exit 1; }
  if awk -v value="$2" -v limit="$3" 'BEGIN { exit !(value <= limit) }'; then
    echo "$1: $2, at most $3"
  else
    echo "$1: $2 is more than $3"
    failed=1
  fi
}

"${qeff}" eval --model="%{model}" --reference="%{reference}" --text="${text}" \
  --json="${results}/model.json"
"${qeff}" eval --model="%{reference}" --text="${text}" \
  --json="${results}/reference.json"

failed=0
kl=$(value "${results}/model.json" kl_mean)
model=$(value "${results}/model.json" perplexity)
reference=$(value "${results}/reference.json" perplexity)
increase=$(awk -v model="${model}" -v reference="${reference}" \
  'BEGIN { printf "%.6f", model / reference - 1 }')
at_most "mean KL divergence" "${kl}" "%{max_kl}"
at_most "increase of perplexity" "${increase}" "%{max_perplexity_increase}"
exit "${failed}"
