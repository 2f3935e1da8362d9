#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
#   qeff_mpi_test.sh MPIRUN.SH QEFF_MPI QEFF
#
# Training on several processes of this machine: the losses are those of one
# process, and a run that was ended in any way goes on with any number of them.
set -euo pipefail
# shellcheck source=/dev/null
source "$1"
readonly QEFF_MPI="${PWD}/$2" QEFF="${PWD}/$3"
readonly TEXT="${TEST_SRCDIR}/qeff/LICENSE"
cd "${TEST_TMPDIR}"

fail() {
  echo "FAILED: $*"
  cat said 2>/dev/null || true
  exit 1
}

# train PROCESSES NAME FLAGS...: writes the model NAME; with 0 processes without
# mpirun, by ${run_mpi} otherwise.
run_mpi=mpi_run
train() {
  local processes="$1" name="$2"
  local flags=(train --model=model --data="${TEXT}" --text="${TEXT}"
    --eval_tokens=1024 --output="${name}" --metrics="${name}.metrics"
    --steps=50 --warmup_steps=5 --batch_size=16 --micro_batch_size=2
    --sequence_length=128 --save_every=5 --eval_every=25 --dtype=f32
    --threads=1 "${@:3}")
  if [[ ${processes} -eq 0 ]]; then
    "${QEFF}" "${flags[@]}"
  else
    "${run_mpi}" "${processes}" "${QEFF_MPI}" "${flags[@]}"
  fi >said 2>&1
}

# losses NAME: step, loss and held-out loss of each line.
losses() {
  sed -n 's/^{"step":\([0-9]*\),\(.*\)}$/\1,\2/p' "$1.metrics" | awk -F, '{
    printf "%d", $1
    for (i = 2; i <= NF; i++) {
      if (split($i, pair, ":") == 2 && pair[1] ~ /^"(loss|held_out_loss)"$/)
        printf " %s", pair[2]
    }
    printf "\n"
  }'
}

# same NAME: the losses are those of `one` to 1e-5.
same() {
  paste -d' ' <(losses one) <(losses "$1") | awk -v name="$1" '
    NF % 2 || $1 != $(NF / 2 + 1) { bad = 1 }
    {
      for (i = 2; i <= NF / 2; i++) {
        error = $i / $(NF / 2 + i) - 1
        if (error < 0) error = -error
        if (error > most) most = error
      }
    }
    END {
      printf "%s: %d lines, largest relative difference %g\n", name, NR, most
      exit bad || NR != 51 || most > 1e-5
    }' || fail "$1: other losses than one process"
}

# await_state NAME: until the run has saved one, or has ended.
await_state() {
  until compgen -G "$1.partial/training/state-*.safetensors" >/dev/null; do
    kill -0 "${run}" 2>/dev/null || fail "$1: ended before it could be stopped"
    sleep 0.02
  done
}

# signal NAME SIGNAL RANK PROCESSES: begins a run, and sends a signal to one of
# its processes when a state was saved.
signal() {
  train "$4" "$1" &
  run=$!
  await_state "$1"
  kill_rank "$3" "$2"
  if wait "${run}"; then fail "$1: success after $2"; fi
  [[ ! -e "$1" ]] || fail "$1: complete after $2"
  compgen -G "$1.partial/training/state-*.safetensors" >/dev/null ||
    fail "$1: no state after $2"
}

# kill_rank RANK SIGNAL: of ${run}.
kill_rank() {
  local pid ended=""
  for pid in $(descendants "${run}"); do
    if tr '\0' '\n' <"/proc/${pid}/environ" 2>/dev/null |
      grep -qx "OMPI_COMM_WORLD_RANK=$1"; then
      kill "-$2" "${pid}"
      ended=1
    fi
  done
  [[ -n "${ended}" ]] || fail "no process of rank $1"
}

descendants() {
  local child
  for child in $(cat "/proc/$1/task/$1/children"); do
    echo "${child}"
    descendants "${child}"
  done
}

"${QEFF}" synth --shape=tiny --output=model >/dev/null

train 0 one || fail one
for processes in 2 4; do
  train "${processes}" "of${processes}" || fail "of${processes}"
  same "of${processes}"
  # Printed by one process, once.
  [[ $(grep -c '^step 50 ' said) -eq 1 && $(grep -c '^wrote ' said) -eq 1 ]] ||
    fail "not said once"
done

# Two machines, with one process each: the bytes of two on one.
run_mpi=mpi_run_machines
train 2 machines || fail machines
same machines
cmp of2/model.safetensors machines/model.safetensors
run_mpi=mpi_run

# A student that writes its own text, each process its share of it.
# distill PROCESSES NAME
distill() {
  local flags=(distill --teacher=model --student=tiny --on_policy=1
    --data="${TEXT}" --output="$2" --metrics="$2.metrics" --steps=4
    --batch_size=4 --sequence_length=64 --dtype=f32 --threads=1)
  if [[ $1 -eq 0 ]]; then
    "${QEFF}" "${flags[@]}"
  else
    mpi_run "$1" "${QEFF_MPI}" "${flags[@]}"
  fi >said 2>&1 || fail "$2"
}
distill 0 wrote_alone
distill 2 wrote_in_two
distill 2 wrote_again
cmp wrote_in_two/model.safetensors wrote_again/model.safetensors
paste -d' ' <(losses wrote_alone) <(losses wrote_in_two) | awk '
  { error = $2 / $4 - 1; if (error < 0) error = -error }
  NF != 4 || $1 != $3 || error > 1e-5 { bad = 1 }
  { print }
  END { exit bad || NR != 4 }' || fail "another text than alone"

# A process is killed: mpirun ends the others. The rest is for the same number,
# to the same bytes, ...
signal killed KILL 1 2
if train 2 killed; then fail "went on without --resume"; fi
[[ $(grep -c -- '--resume goes' said) -eq 1 ]] || fail "not said once"
train 2 killed --resume || fail "killed: not resumed"
same killed
cmp of2/model.safetensors killed/model.safetensors

# ... for more, or for one alone.
signal first_killed KILL 0 2
train 4 first_killed --resume || fail "first_killed: not resumed"
same first_killed
signal terminated TERM 2 4
grep -q 'process 2: terminated; the state after step' said ||
  fail "the signal is not said"
train 0 terminated --resume || fail "terminated: not resumed"
same terminated
signal stopped TERM 1 2
train 2 stopped --resume || fail "stopped: not resumed"
cmp of2/model.safetensors stopped/model.safetensors

# Within a step of a million tokens: not the first process, while it and the
# others are somewhere else in the step.
# long_step RANK FLAGS...
long_step() {
  local begun code=0
  mpi_run 3 "${QEFF_MPI}" "${@:2}" --data="${TEXT}" --output=long --steps=2 \
    --batch_size=12000 --micro_batch_size=4 --sequence_length=128 --threads=1 \
    >said 2>&1 &
  run=$!
  # Lies there from before the first step on.
  until [[ -s long.partial/training/journal ]]; do
    kill -0 "${run}" 2>/dev/null || fail "long: ended before it could be stopped"
    sleep 0.02
  done
  sleep 1
  begun=${EPOCHREALTIME/./}
  kill_rank "$1" TERM
  wait "${run}" || code=$?
  begun=$((${EPOCHREALTIME/./} - begun))
  [[ ${code} -eq 143 ]] || fail "long: ended with ${code}"
  [[ ${begun} -lt 5000000 ]] || fail "long: ended ${begun} us after SIGTERM"
  [[ ! -e long && ! -e long.partial ]] || fail "long: nothing to keep"
  echo "$2: ended ${begun} us after SIGTERM, within a step"
}
long_step 1 train --model=model
long_step 2 distill --teacher=model --student=tiny --on_policy=1

# What all of them find is said once, and ends at once.
if train 3 odd; then fail "16 sequences for 3 processes"; fi
[[ $(grep -c 'expected a multiple of 6' said) -eq 1 ]] || fail "not said once"
[[ ! -e odd.partial ]] || fail "nothing to keep"

# alone_each MESSAGE FLAGS...: processes whose flags or folders differ, by
# ${OMPI_COMM_WORLD_RANK} in them, end with that message.
alone_each() {
  local code=0
  mpi_run 2 bash -c "cd ${TEST_TMPDIR}/folder\${OMPI_COMM_WORLD_RANK} &&
    exec ${QEFF_MPI} train --model=${TEST_TMPDIR}/model --data=${TEXT} \
      --sequence_length=128 --steps=2 ${*:2}" >said 2>&1 || code=$?
  [[ ${code} -eq 3 ]] || fail "expected the code 3, found ${code}"
  [[ $(grep -c "process 1: $1" said) -eq 1 ]] || fail "not said once: $1"
}
mkdir folder0 folder1
alone_each 'the files of the first process, .*data.tokens: ' --output=out
alone_each 'seed: expected that of process 0, 0, found 1;' \
  "--output=${TEST_TMPDIR}/out" "--seed=\${OMPI_COMM_WORLD_RANK}"
[[ ! -e folder0/out.partial && ! -e out.partial ]] || fail "nothing to keep"
