#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
#   tools/write_faults_test.sh QEFF [--all] [COMMAND...]
#
# Every command that writes is killed before system calls that make its output
# (write, fsync, rename, close, ...), and these fail with EIO and ENOSPC, one at
# a time, by strace. Afterwards the output is the old one, the new one or none,
# never a part; a failure is said with its path and reason; and the same command
# succeeds, to the same bytes, and leaves nothing else behind.
#
# Each command gets ${FAULTS} faults (12), spread over all that there are; with
# --all every one of them. Works in ${TEST_TMPDIR}.
set -euo pipefail

qeff="$(realpath "$1")"
shift
faults="${FAULTS:-12}"
if [[ "${1:-}" == --all ]]; then
  faults=0
  shift
fi
only=" $* "
demo="$(realpath tools/demo_model)"
work="${TEST_TMPDIR:-$(mktemp -d)}/write_faults"
if ! strace -o /dev/null true 2>/dev/null; then
  echo "write_faults_test: strace cannot trace here; skipped" >&2
  exit 0
fi
rm -rf "${work}"
mkdir -p "${work}"
cd "${work}"
# What commands keep outside of their outputs lies here.
export QEFF_HOME="${work}/kept/cache" TMPDIR="${work}/kept"

readonly TRACED=openat,write,pwrite64,copy_file_range,fsync,fdatasync,sync_file_range,fallocate,ftruncate,rename,renameat,renameat2,linkat,mkdir,mkdirat,unlink,unlinkat,close

count=0
failed=0
fail() {
  failed=$((failed + 1))
  echo "FAILED: ${name}: $*" >&2
  sed 's/^/    /' said >&2 || true
  [[ ${failed} -lt 10 ]] || exit 1
}

# same PATH PATH: whether they hold the same files with the same bytes. Reports
# have times.
same() { diff -rq --exclude='report.*' "$1" "$2" >differences 2>&1; }

# begin OLD: as before the command.
begin() {
  rm -rf at kept
  mkdir at kept
  [[ -z "$1" ]] || cp -a "$1/." at
}

# points LOG: lines CALL NUMBER of the calls that a fault may hit: of the first
# process, where they make or change files.
points() {
  awk '
    { pid = $1; if (first == "") first = pid }
    pid != first { next }
    match($2, /^[a-z0-9_]+\(/) {
      call = substr($2, 1, RLENGTH - 1)
      number[call]++
      if (call == "openat" && $0 !~ /O_CREAT|O_TMPFILE/) next
      if (call == "close") {
        descriptor = $2 $3
        sub(/^close\(/, "", descriptor); sub(/\).*/, "", descriptor)
        if (!written[descriptor]) next
        written[descriptor] = 0
      }
      if (call == "openat") written[$NF] = 1
      if (call == "write" && $2 ~ /^write\([012],/) next
      print call, number[call]
    }' "$1"
}

# hit CALL NUMBER FAULT: runs the command once with a fault.
hit() {
  # The inner shell says that it was killed.
  bash -c '"$@" >said 2>&1; exit $?' - timeout -s KILL 60 \
    strace -f -o /dev/null -e trace="$1" -e inject="$1:$3:when=$2" \
    "${qeff}" "${command[@]}" --threads=1 2>/dev/null
}

# check NAME OLD COMMAND...: in a folder of its own, whose files are the output.
# With OLD, a folder whose content lies there before.
check() {
  name="$1"
  local old="$2" call number fault code list every i again
  shift 2
  command=("$@")
  [[ "${only}" == "  " || "${only}" == *" ${name} "* ]] || return 0
  rm -rf wanted
  begin "${old}"
  strace -f -o log -e trace="${TRACED}" "${qeff}" "${command[@]}" --threads=1 \
    >said 2>&1 || { fail "without a fault"; return 0; }
  cp -a at wanted
  points log | while read -r call number; do
    echo "${call} ${number} signal=SIGKILL"
    case "${call}" in
      write | pwrite64 | fallocate | ftruncate | copy_file_range)
        echo "${call} ${number} error=ENOSPC" ;;
      openat | mkdir | mkdirat | linkat)
        echo "${call} ${number} error=ENOSPC" ;;
    esac
    case "${call}" in
      write | pwrite64 | fsync | fdatasync | rename | renameat | renameat2 | close)
        echo "${call} ${number} error=EIO" ;;
    esac
  done >list
  list=$(wc -l <list)
  [[ ${list} -gt 0 ]] || { fail "no system call to hit"; return 0; }
  every=1
  [[ ${faults} -eq 0 || ${list} -le ${faults} ]] || every=$((list / faults))
  i=0
  while read -r call number fault <&3; do
    i=$((i + 1))
    # Prime steps, so that all calls have their turn.
    [[ $(((i * 7919) % every)) -eq 0 ]] || continue
    count=$((count + 1))
    begin "${old}"
    code=0
    hit "${call}" "${number}" "${fault}" || code=$?
    local what="${call} number ${number}, ${fault}"
    if [[ ${code} -eq 0 ]]; then
      # Such as a close whose error says nothing that fsync did not.
      same at wanted || fail "${what}: success, but $(head -1 differences)"
    elif [[ "${fault}" == signal=* ]]; then
      [[ ${code} -eq 137 ]] || fail "${what}: ended with ${code}"
    else
      [[ ${code} -eq 4 || ${code} -eq 5 ]] || fail "${what}: ended with ${code}"
      grep -qE 'Input/output error|No space left on device' said ||
        fail "${what}: the reason is not said"
      grep -qE '\b(at|kept)[/:]' said || fail "${what}: the path is not said"
    fi
    # What has the name of an output is complete: the new one, or the old one.
    for path in wanted/*; do
      local file="at/${path#wanted/}"
      [[ -e "${file}" ]] || continue
      same "${file}" "${path}" && continue
      [[ -n "${old}" && -e "${old}/${path#wanted/}" ]] &&
        same "${file}" "${old}/${path#wanted/}" && continue
      fail "${what}: ${file} is neither old nor new"
    done
    [[ ${code} -ne 0 ]] || continue
    # Once more, without a fault.
    again=()
    if [[ -d at/out ]] && same at wanted; then
      continue
    elif [[ "${command[0]}" == optimize ]]; then
      again=(--resume)
    elif compgen -G 'at/*.partial' >/dev/null; then
      again=(--resume)
      # Of a complete output nothing is begun anew.
      [[ $((count % 3)) -ne 0 || -e at/out ]] || again=(--restart)
    elif [[ -d at/out ]]; then
      same at wanted || fail "${what}: leaves $(head -1 differences)"
      continue
    fi
    "${qeff}" "${command[@]}" --threads=1 "${again[@]}" >said 2>&1 ||
      fail "${what}: cannot be done again ${again[*]}"
    same at wanted || fail "${what}: then $(head -1 differences)"
    if [[ -d kept/cache ]]; then
      "${qeff}" cache verify >said 2>&1 || fail "${what}: the cache is damaged"
    fi
  done 3<list
  echo "${name}: ${list} faults, every ${every}th tried"
}

text="${demo}/text.txt"
llama="${demo}/llama"
calibrated=(--calibration="${text}" --calibration_tokens=512
  --sequence_length=64)
prepare() { "${qeff}" "$@" >said 2>&1 || { cat said >&2; exit 1; }; }
prepare quantize --model="${llama}" --output=int4 --scheme=int4_g32
prepare prune --model="${llama}" --output=sparse --method=magnitude --pattern=2:4
prepare export --model="${llama}" --format=gguf --output=llama.gguf
mkdir old_file
echo "an old file" >old_file/out

check quantize '' quantize --model="${llama}" --output=at/out --scheme=int4_g32
check quantize_gptq '' quantize --model="${llama}" --output=at/out \
  --scheme=int4_g32 --algorithm=gptq "${calibrated[@]}"
check prune '' prune --model="${llama}" --output=at/out --method=wanda \
  --sparsity=0.5 "${calibrated[@]}"
check prune_structured '' prune --model="${llama}" --output=at/out \
  --method=structured --ffn_size=256 "${calibrated[@]}"
check train '' train --model="${llama}" --data="${text}" --output=at/out \
  --steps=3 --save_every=1 --batch_size=2 --sequence_length=32
check teacher_cache '' teacher_cache --teacher="${llama}" --data="${text}" \
  --output=at/out --top_k=4 --sequence_length=64
check tokenizer_train '' tokenizer_train --data="${text}" --output=at/out \
  --vocab_size=400
check synth '' synth --shape=tiny --output=at/out
check import '' import --model=llama.gguf --output=at/out
check compile old_file compile --model=int4 --output=at/out --target=x86-64
check export_gguf old_file export --model=int4 --format=gguf --output=at/out
check export_onnx '' export --model=int4 --format=onnx --output=at/out.onnx
for format in gptq awq compressed-tensors; do
  check "export_${format}" '' export --model=int4 --format="${format}" \
    --output=at/out
done
check export_sparse '' export --model=sparse --format=sparse-24-bitmask \
  --output=at/out

check compile_aic '' compile --target=aic100 --model=int4 --artifact_only \
  --ctx_len=64 --prefill_seq_len=16
cat >recipe <<'RECIPE'
step { prune { method: "magnitude" pattern: "2:4" } }
step { quantize { scheme: "int4_g32" } }
step { compile { target: "generic" } }
RECIPE
check optimize '' optimize --model="${llama}" --recipe=recipe --output=at/out \
  --work=kept/steps

echo "${count} faults, ${failed} failures"
[[ ${failed} -eq 0 && ${count} -gt 50 ]] || [[ "${only}" != "  " && ${failed} -eq 0 ]]
