#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
#   tools/killed_runs_test.sh QEFF [COMMAND...]
#
# Every long command is killed by SIGKILL ${KILLS} times (50) in a row, at random
# times, each time going on with --resume; then it finishes, to the bytes of a
# run that nobody disturbed, and leaves nothing else behind. SIGINT and SIGTERM
# end it within five seconds, with what is done kept, and a run with another
# model, text, option or version of qeff refuses that work, naming what differs.
set -euo pipefail

qeff="$(realpath "$1")"
shift
only=" $* "
kills="${KILLS:-50}"
demo="$(realpath tools/demo_model)"
work="${TEST_TMPDIR:-$(mktemp -d)}/killed_runs"
rm -rf "${work}"
mkdir -p "${work}"
cd "${work}"
# The same choices in every run of this script.
RANDOM=1

failed=0
fail() {
  failed=$((failed + 1))
  echo "FAILED: ${name}: $*" >&2
  sed 's/^/    /' said >&2 || true
}

now() { echo "${EPOCHREALTIME/./}"; }

# run ARGUMENTS...: the command at hand; what it says goes to the file said.
run() { "${qeff}" "${command[@]}" --output=at/out --threads=1 "$@" >said 2>&1; }

# The same in the background, where a shell ignores SIGINT: its process is ${pid}.
start() {
  env --default-signal=INT "${qeff}" "${command[@]}" --output=at/out --threads=1 \
    "$@" >said 2>&1 &
  pid=$!
}

# Waits for it; ${code} is its exit code. The shell would say that it was killed.
end() {
  code=0
  { wait "${pid}"; } 2>/dev/null || code=$?
}

# What is finished of the run at hand: lines of its journals, of which the first
# describes it, and steps of a recipe.
finished() {
  { find at -name journal -exec cat {} + 2>/dev/null || true
    find at -name result.json; } | wc -l
}

# Waits until so much is finished of the command in the background.
await() {
  while [[ $(finished) -lt $1 ]] && kill -0 "${pid}" 2>/dev/null; do
    sleep 0.005
  done
}

# Whether the output is the one of the run that nobody disturbed, and alone, but
# for the folder of a recipe's steps. Reports have times.
check_output() {
  diff -rq --exclude='report.*' whole at/out >differences 2>&1 ||
    fail "$1: $(head -1 differences)"
  local left
  left=$(ls at | grep -vxE 'out|out\.work' || true)
  [[ -z "${left}" ]] || fail "$1: leaves ${left}"
}

begin() {
  rm -rf at
  mkdir at
}

# kill_often SECONDS: whether the run lasted for all kills, each after a random
# part of that time.
kill_often() {
  local i
  begin
  for ((i = 0; i < kills; i++)); do
    start --resume
    sleep "$(awk -v most="$1" -v random="${RANDOM}" \
      'BEGIN { print most * random / 32768 }')"
    kill -KILL "${pid}" 2>/dev/null || true
    end
    [[ ${code} -eq 137 || ${code} -eq 0 ]] ||
      fail "kill ${i}: ended with ${code}"
    # Done, even if it was killed after that.
    [[ ! -e at/out ]] || return 1
  done
}

# survives NAME COMMAND...: the command without --output and --threads.
survives() {
  name="$1"
  shift
  command=("$@")
  [[ "${only}" == "  " || "${only}" == *" ${name} "* ]] || return 0
  local begun seconds idle most try done_steps
  begin
  begun=$(now)
  run || { fail "undisturbed: ended with $?"; return 0; }
  seconds=$(($(now) - begun))
  rm -rf whole
  mv at/out whole
  # What each start takes before it does anything.
  begin
  begun=$(now)
  start
  await 1
  idle=$(($(now) - begun))
  kill -KILL "${pid}" 2>/dev/null || :
  end
  # So that all kills together leave time for about two thirds of the work. With
  # luck a run is faster than that: then once more, with less.
  most=$(awk -v idle="${idle}" -v all="${seconds}" -v kills="${kills}" 'BEGIN {
    each = (all > idle ? all - idle : 0) / kills / 1.5
    print (idle + each + sqrt(each * each + 2 * each * idle)) / 1e6
  }')
  for ((try = 0; try < 8; try++)); do
    kill_often "${most}" && break
    most=$(awk -v most="${most}" 'BEGIN { print most * .8 }')
  done
  [[ ${try} -lt 8 ]] || { fail "is done before ${kills} kills"; return 0; }
  done_steps=$(finished)
  run --resume || fail "the last run ended with $?"
  check_output "after ${kills} kills"
  printf '%s: %s kills within %.3f s each, %d steps finished by then\n' \
    "${name}" "${kills}" "${most}" "${done_steps}"
}

# stop SIGNAL CODE: begins the command at hand and stops it in its midst.
stop() {
  local begun
  begin
  start
  await 3
  begun=$(now)
  kill "-$1" "${pid}"
  end
  [[ ${code} -eq $2 ]] || fail "SIG$1: ended with ${code}"
  [[ $(($(now) - begun)) -lt 5000000 ]] || fail "SIG$1: took more than 5 s"
  [[ $(finished) -ge 3 ]] || fail "SIG$1: nothing is kept"
  [[ ! -e at/out ]] || fail "SIG$1: an output"
}

# What may not change: all but the text's tokens, which each run makes again, and
# what was run last.
sums() {
  find at -type f ! -name '*.tokens' ! -name arguments.txt \
    -exec sha256sum {} + | sort
}

# refuses WHAT [ARGUMENT]: the unfinished run at hand is not taken for one with
# this argument instead of its own, which makes it differ in WHAT.
refuses() {
  local what="$1" argument="${2:-}" before after code=0 i
  local mine=("${command[@]}")
  for ((i = 0; i < ${#mine[@]}; i++)); do
    [[ -z "${argument}" || "${mine[i]}" != "${argument%%=*}="* ]] ||
      command[i]="${argument}"
  done
  before=$(sums)
  run --resume || code=$?
  after=$(sums)
  command=("${mine[@]}")
  [[ ${code} -eq 3 ]] || fail "another ${what}: ended with ${code}"
  grep -q "belongs to a run with another ${what}: expected .*, found " said ||
    fail "another ${what}: is not named"
  grep -q -e "--restart" said || fail "another ${what}: no way on is named"
  [[ "${before}" == "${after}" ]] || fail "another ${what}: the work is changed"
}

# stops NAME WHAT ARGUMENT... -- COMMAND...: pairs of what differs in the journal
# and the argument that makes it so.
stops() {
  name="$1"
  shift
  local pairs=()
  while [[ "$1" != -- ]]; do
    pairs+=("$1")
    shift
  done
  shift
  command=("$@")
  [[ "${only}" == "  " || "${only}" == *" ${name} "* ]] || return 0
  begin
  run || { fail "undisturbed: ended with $?"; return 0; }
  rm -rf whole
  mv at/out whole
  stop INT 130
  run --resume || fail "after SIGINT: ended with $?"
  check_output "after SIGINT"
  stop TERM 143
  local code=0 i
  run || code=$?
  [[ ${code} -eq 3 ]] && grep -q -e --resume said && grep -q -e --restart said ||
    fail "without --resume: ended with ${code}"
  for ((i = 0; i < ${#pairs[@]}; i += 2)); do
    refuses "${pairs[i]}" "${pairs[i + 1]}"
  done
  # As another version of qeff would have written it.
  local journal
  journal=$(find at -name journal)
  cp "${journal}" journal
  sed -i '1s/"version":\([0-9]*\)/"version":1\1/' "${journal}"
  ! cmp -s "${journal}" journal || fail "the journal has no version"
  refuses version
  cp journal "${journal}"
  run --resume || fail "after SIGTERM: ended with $?"
  check_output "after SIGTERM"
  echo "${name}: SIGINT, SIGTERM and refusals"
}

# killed_at CALL NUMBER ARGUMENTS...: the command at hand, killed there; ${code}
# is 137, or 0 when there are not so many calls.
killed_at() {
  local fault="$1:signal=SIGKILL:when=$2"
  code=0
  # The inner shell says that it was killed.
  bash -c '"$@" >said 2>&1; exit $?' - strace -f -o /dev/null -e trace="$1" \
    -e inject="${fault}" "${qeff}" "${command[@]}" --output=at/out --threads=1 \
    "${@:3}" 2>/dev/null || code=$?
}

# A step of a recipe that was killed after its model was complete, but before its
# result was recorded and its unfinished work removed, is made again; killed at
# each removal that this takes, again.
removes() {
  name=removes
  [[ "${only}" == "  " || "${only}" == *" ${name} "* ]] || return 0
  strace -o /dev/null true 2>/dev/null || { echo "${name}: no strace"; return 0; }
  command=(optimize --model=tiny --recipe=one_step --calibration="${text}")
  begin
  run || { fail "undisturbed: ended with $?"; return 0; }
  rm -rf whole left
  mv at/out whole
  local step number
  step=$(echo at/out.work/*)
  mv at left
  begin
  killed_at renameat2 1
  [[ -d at/out.work/${step##*/}/model.partial/output ]] ||
    { fail "no unfinished step"; return 0; }
  step="left/out.work/${step##*/}"
  rm "${step}/result.json"
  cp -a "at/out.work/${step##*/}/model.partial" "${step}"
  rm -r "${step}/model.partial/output"
  for ((number = 1; ; number++)); do
    rm -rf at
    cp -a left at
    killed_at unlinkat "${number}" --resume
    [[ ${code} -eq 137 ]] || break
    run --resume || fail "removal ${number}: then ended with $?"
    check_output "removal ${number}"
  done
  [[ ${code} -eq 0 && ${number} -gt 5 ]] ||
    fail "removal ${number}: ended with ${code}"
  echo "${name}: killed at each of $((number - 1)) removals"
}

# restarts NAME COMMAND...: --restart that is killed at each removal that it makes,
# of the old work and of its own in the end; the next run, by turns with --resume
# and --restart, finishes.
restarts() {
  name="$1"
  shift
  command=("$@")
  [[ "${only}" == "  " || "${only}" == *" restart "* ]] || return 0
  strace -o /dev/null true 2>/dev/null || { echo "${name}: no strace"; return 0; }
  begin
  run || { fail "undisturbed: ended with $?"; return 0; }
  rm -rf whole left
  mv at/out whole
  # On a busy machine a run may end before it is seen to have begun, or be killed
  # between its last two acts, when its output is there.
  local tries number again
  for ((tries = 0; tries < 20; tries++)); do
    begin
    start
    await 3
    kill -KILL "${pid}" 2>/dev/null || :
    end
    [[ ${code} -ne 137 || -e at/out ]] || break
  done
  [[ ${code} -eq 137 && ! -e at/out ]] ||
    { fail "no unfinished work"; return 0; }
  cp -a at left
  for ((number = 1; ; number++)); do
    rm -rf at
    cp -a left at
    killed_at unlinkat "${number}" --restart
    [[ ${code} -eq 137 ]] || break
    again=--resume
    [[ $((number % 2)) -ne 0 || -e at/out ]] || again=--restart
    [[ -e at/out && ! -e at/out.partial ]] || run "${again}" ||
      fail "removal ${number}: ${again} ended with $?"
    check_output "removal ${number}"
  done
  [[ ${code} -eq 0 && ${number} -gt 4 ]] ||
    fail "removal ${number}: ended with ${code}"
  echo "${name}: --restart killed at each of $((number - 1)) removals"
}

text="${demo}/text.txt"
deep="${work}/deep"
prepare() { "${qeff}" "$@" >said 2>&1 || { cat said >&2; exit 1; }; }
prepare synth --shape=tiny --layers=32 --output="${deep}"
prepare synth --shape=tiny --layers=32 --seed=2 --output=other
prepare synth --shape=tiny --layers=16 --output=half
prepare synth --shape=tiny --output=tiny
prepare synth --shape=tiny --seed=2 --output=other_tiny
tr a-z b-za <"${text}" >other.txt

calibrated=(--model="${deep}" --calibration="${text}" --calibration_tokens=512
  --sequence_length=64)
gptq=(quantize "${calibrated[@]}" --scheme=int4_g32 --algorithm=gptq)
tuned=(quantize "${calibrated[@]}" --scheme=int2_g32 --iterations=2
  --algorithm=rotate,gptq,autoround)
wanda=(prune "${calibrated[@]}" --method=wanda --sparsity=0.5)
joint=(prune "${calibrated[@]}" --pattern=2:4 --scheme=int4_g32)
steps=(--data="${text}" --steps=100 --save_every=1 --batch_size=2
  --sequence_length=32 --learning_rate=0.001)
train=(train --model=tiny "${steps[@]}")
distill=(distill --teacher=tiny --student_init=prune:ffn_size=64 --loss=kl:1
  "${steps[@]}")
cache=(teacher_cache --teacher=tiny --data="${text}" --top_k=4
  --sequence_length=8)
cat >recipe <<'RECIPE'
step { prune { method: "wanda" pattern: "2:4" calibration_tokens: 512
               sequence_length: 64 } }
step { distill { steps: 10 save_every: 1 batch_size: 2 sequence_length: 32 } }
step { quantize { scheme: "int4_g32" algorithm: "gptq" calibration_tokens: 512
                  sequence_length: 64 } }
step { compile { target: "generic" } }
RECIPE

optimize=(optimize --model=half --recipe=recipe --calibration="${text}"
  --data="${text}")
cat >one_step <<'RECIPE'
step { quantize { scheme: "int4_g32" algorithm: "gptq" calibration_tokens: 512
                  sequence_length: 64 } }
RECIPE

survives gptq "${gptq[@]}"
survives tuned "${tuned[@]}"
survives wanda "${wanda[@]}"
survives joint "${joint[@]}"
survives train "${train[@]}"
survives distill "${distill[@]}"
survives teacher_cache "${cache[@]}"
survives optimize "${optimize[@]}"

removes
# With blocks enough that it is not almost done when it is killed.
restarts gptq quantize --model=half --calibration="${text}" \
  --calibration_tokens=512 --sequence_length=64 --scheme=int4_g32 \
  --algorithm=gptq
restarts train train --model=tiny --data="${text}" --steps=20 --save_every=1 \
  --batch_size=2 --sequence_length=32
restarts teacher_cache teacher_cache --teacher=tiny --data="${text}" --top_k=4 \
  --sequence_length=8

sampled=(model --model=other sample --calibration=other.txt
  sample --sequence_length=32)
stops gptq "${sampled[@]}" plan --scheme=int3_g32 -- "${gptq[@]}"
stops wanda "${sampled[@]}" plan --sparsity=0.4 method --method=sparsegpt -- \
  "${wanda[@]}"
stops joint "${sampled[@]}" plan --scheme=int3_g32 plan --pattern=1:4 -- \
  "${joint[@]}"
stops train student --model=other_tiny data --data=other.txt \
  steps --steps=99 learning_rate --learning_rate=0.1 -- "${train[@]}"
stops distill teacher --teacher=other_tiny loss --loss=js:1 -- \
  distill --teacher=tiny --student=tiny --loss=kl:1 "${steps[@]}"
stops teacher_cache teacher --teacher=other_tiny text --data=other.txt \
  top_k --top_k=5 -- "${cache[@]}"
# What differs otherwise makes another step of a recipe.
stops optimize -- "${optimize[@]}"

echo "${failed} failures"
[[ ${failed} -eq 0 ]]
