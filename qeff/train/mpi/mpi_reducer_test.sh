#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
#   mpi_reducer_test.sh MPIRUN.SH BINARY
#
# The tests of BINARY with several numbers of processes, and how they end.
set -euo pipefail
# shellcheck source=/dev/null
source "$1"
readonly BINARY="$2"
# Several processes would write these.
unset XML_OUTPUT_FILE TEST_PREMATURE_EXIT_FILE

for processes in 1 2 3 4; do
  echo "== ${processes} processes"
  mpi_run "${processes}" "${BINARY}"
done
# Without mpirun: one.
"${BINARY}"

# ends CODES... -- CODE: prints what is said when processes end with CODES,
# which ends the whole with CODE.
ends() {
  local codes=() code=0 start=${SECONDS}
  while [[ "$1" != "--" ]]; do
    codes+=("$1")
    shift
  done
  mpi_run "${#codes[@]}" "${BINARY}" end "${codes[@]}" \
    >"${TEST_TMPDIR}/said" 2>&1 || code=$?
  if [[ ${code} -ne $2 || $((SECONDS - start)) -gt 20 ]]; then
    echo "${codes[*]}: expected the code $2 soon, found ${code} after" \
      "$((SECONDS - start)) s"
    cat "${TEST_TMPDIR}/said"
    exit 1
  fi
}

ends 0 0 0 -- 0
# All with the same: the first has said it.
ends 3 3 3 -- 3
if grep "process [12]: ends" "${TEST_TMPDIR}/said"; then exit 1; fi
# One alone says why, and those that wait for it are ended.
ends 0 5 0 -- 5
grep -q "process 1: ends with 5" "${TEST_TMPDIR}/said"
ends hang 5 hang -- 5
grep -q "process 1: ends with 5" "${TEST_TMPDIR}/said"
