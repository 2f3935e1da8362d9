#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
#   tools/resource_limits_test.sh QEFF
#
# Commands with less address space and fewer file descriptors than they need say
# so (exit code 5), leave no output, and succeed with enough. Where it is the stack
# that finds no more room, the process may end by a signal (SECURITY.md): rarely,
# and without an output all the same.
set -euo pipefail
qeff="$(realpath "$1")"
demo="$(realpath tools/demo_model)"
cd "$(mktemp -d -p "${TEST_TMPDIR:-/tmp}")"

failed=0
# under NAME LIMIT COMMAND...: runs a command with a limit of ulimit.
codes=""
signals=0
under() {
  local limit="$1" code=0
  shift
  rm -rf out out.partial
  # The test's own files are open before.
  bash -c "ulimit ${limit}; exec \"\$@\"" - "${qeff}" "$@" --threads=2 \
    >said 2>&1 || code=$?
  case "${code}" in
    0) ;;
    5)
      if [[ -e out || ! -s said ]]; then
        echo "FAILED: $1, ${limit}: an output, or nothing said" >&2
        failed=1
      fi
      ;;
    139)
      signals=$((signals + 1))
      [[ ! -e out && ${signals} -le 2 && "${limit}" == -v* ]] || failed=1
      ;;
    # The system cannot load the program.
    127) grep -q 'shared libraries' said || failed=1 ;;
    *)
      echo "FAILED: $1, ${limit}: ended with ${code}" >&2
      cat said >&2
      failed=1
      ;;
  esac
  codes+=" ${code}"
}

model="${demo}/llama"
text="${demo}/text.txt"
calibrated=(--calibration="${text}" --calibration_tokens=1024
  --sequence_length=64)
while read -r -a command; do
  codes=""
  for ((megabytes = 58; megabytes <= 178; megabytes += 8)); do
    under "-v $((megabytes * 1024))" "${command[@]}"
  done
  for files in 5 6 7 8 10 32; do
    under "-n ${files}" "${command[@]}"
  done
  echo "${command[0]}:${codes}"
  # Too little, and enough.
  [[ "${codes}" == *" 5"* && "${codes}" == *" 0" ]] || failed=1
done <<COMMANDS
inspect --model=${model} --json=out
generate --model=${model} --prompt=The --max_new_tokens=4 --json=out
eval --model=${model} --text=${text} --max_tokens=600 --json=out
quantize --model=${model} --scheme=int4_g32 --output=out
quantize --model=${model} --scheme=int4_g32 --algorithm=gptq --output=out ${calibrated[*]}
prune --model=${model} --method=sparsegpt --sparsity=0.5 --output=out ${calibrated[*]}
train --model=${model} --output=out --data=${text} --steps=1 --batch_size=4 --sequence_length=64
export --model=${model} --format=gguf --output=out
export --model=${model} --format=onnx --output=out
compile --model=${model} --output=out
COMMANDS
echo "${signals} ended by a signal"
exit ${failed}
