#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
#   tools/same_bytes_test.sh QEFF USER_LOCALE_LIBRARY [ENVIRONMENT...]
#
# Every command that writes gives the same bytes whatever it is run in: locales
# with a decimal comma or a dotless i, umask, HOME, TMPDIR, time zone, working
# folder, number of threads, standard streams that are closed or full. Each
# environment has its own folder and a later time, so that a path or a date in
# an output is a difference. Files have the modes that the umask leaves.
#
# What may differ: times and paths in reports and in the folder that optimize
# keeps steps in, and times of files in the cache of exports.
set -euo pipefail

qeff="$(realpath "$1")"
user_locale="$(realpath "$2")"
shift 2
only=" $* "
demo="$(realpath tools/demo_model)"
work="${TEST_TMPDIR:-$(mktemp -d)}/same_bytes"
rm -rf "${work}"
mkdir -p "${work}"
cd "${work}"

failed=0
fail() {
  echo "FAILED: $*" >&2
  failed=$((failed + 1))
}

# What the inputs are called in the environment at hand, and its --threads.
model="${demo}/llama"
text="${demo}/text.txt"
out=""
threads=1
# Exit codes that are right beside 0.
also=""

# Runs a command in the environment at hand; what it says goes to ${said}.
command_in() { "${qeff}" "$@" >"${said}" 2>&1; }

# Makes $1 by a command; ARGUMENTS without --output and --threads.
make_one() {
  local name="$1" code=0
  shift
  command_in "$@" --output="${out}${name}" --threads="${threads}" || code=$?
  [[ ${code} -eq 0 || " ${also} " == *" ${code} "* ]] && return
  fail "${environment}: $1 ended with ${code}"
  sed 's/^/    /' "${said}" >&2
}

# Every kind of output.
make_all() {
  local calibrated=(--calibration="${text}" --calibration_tokens=512
    --sequence_length=64)
  local steps=(--steps=2 --batch_size=2 --sequence_length=32)
  make_one synth synth --shape=tiny --outliers
  make_one rtn quantize --model="${model}" --scheme=int4_g32
  make_one nf4 quantize --model="${model}" --scheme=nf4 --lm_head=int8
  make_one gptq quantize --model="${model}" --scheme=int4_g32 \
    --algorithm=gptq "${calibrated[@]}"
  make_one best quantize --model="${model}" --scheme=int3_g64 \
    --algorithm=best --iterations=2 "${calibrated[@]}"
  make_one budget quantize --model="${model}" --budget=4.5bpw "${calibrated[@]}"
  make_one sparse prune --model="${model}" --method=sparsegpt --pattern=2:4 \
    "${calibrated[@]}"
  make_one small prune --model="${model}" --method=structured --ffn_size=256 \
    "${calibrated[@]}"
  make_one trained train --model="${model}" --data="${text}" "${steps[@]}"
  make_one cached teacher_cache --teacher="${model}" --data="${text}" \
    --top_k=4 --sequence_length=64
  make_one student distill --teacher="${model}" --student="${out}small" \
    --data="${text}" "${steps[@]}"
  make_one tokenizer tokenizer_train --data="${text}" --vocab_size=400
  make_one gguf.gguf export --model="${out}rtn" --format=gguf
  make_one imported import --model="${out}gguf.gguf"
  make_one onnx export --model="${out}rtn" --format=onnx
  make_one exported export --model="${out}rtn" --format=gptq
  make_one bitmask export --model="${out}sparse" --format=sparse-24-bitmask
  make_one package compile --model="${out}gptq" --target=x86-64 \
    --kv_cache=int8 --calibration="${text}"
  make_one aic compile --target=aic100 --model="${out}rtn" --artifact_only \
    --ctx_len=64 --prefill_seq_len=16
  cat >"${out}recipe" <<RECIPE
step { prune { method: "magnitude" pattern: "2:4" } }
step { quantize { scheme: "int4_g32" } }
step { compile { target: "generic" } }
RECIPE
  make_one optimized optimize --model="${model}" --recipe="${out}recipe"
}

# The cache of exports knows files by the times of their own.
without_times() {
  find "$1" -name qeff_entry.json -exec sed -i '/"modified_ns"/d' {} +
}

# modes_besides UMASK FOLDER: what has others than the umask leaves.
modes_besides() {
  local files folders
  files=$(printf %o $((0666 & ~8#$1)))
  folders=$(printf %o $((0777 & ~8#$1)))
  find "$2" -mindepth 1 '(' -type f ! -name '*.sh' ! -perm "${files}" -o \
    -type f -name '*.sh' ! -perm "${folders}" -o \
    -type d ! -perm "${folders}" ')' -printf '%m %p '
}

# run ENVIRONMENT UMASK FUNCTION: all outputs once, by a function that sets the
# variables above and what else the environment is, in a process of its own.
run() {
  environment="$1"
  local mask="$2" wrong
  [[ "${only}" == "  " || "${environment}" == base ||
    "${only}" == *" ${environment} "* ]] || return 0
  mkdir -p "${work}/${environment}/home" "${work}/${environment}/temporary" \
    "${work}/${environment}/made"
  said="${work}/${environment}/said"
  out="${work}/${environment}/made/"
  (
    export HOME="${work}/${environment}/home" TZ=UTC LC_ALL=C
    export TMPDIR="${work}/${environment}/temporary"
    unset XDG_CACHE_HOME QEFF_HOME
    umask "${mask}"
    "$3"
    make_all
    [[ ${failed} -eq 0 ]]
  ) || failed=$((failed + 1))
  cd "${work}"
  wrong=$(modes_besides "${mask}" "${environment}/made")
  [[ -z "${wrong}" ]] || fail "${environment}: modes of" ${wrong}
  wrong=$(ls "${environment}/temporary")
  [[ -z "${wrong}" ]] || fail "${environment}: leaves ${wrong} in TMPDIR"
  without_times "${environment}/made"
  [[ "${environment}" == base ]] && return
  wrong=$(diff -rq --exclude=report.{json,html} --exclude=optimized.work \
    base/made "${environment}/made" || true)
  [[ -z "${wrong}" ]] || fail "${environment}:"$'\n'"${wrong}"
  echo "${environment}: $(find "${environment}/made" -type f | wc -l) files"
  rm -rf "${environment}"
}

as_it_is() { :; }

# locale_of NAME: compiled here, whatever is installed.
locale_of() {
  export LOCPATH="${work}/locales"
  mkdir -p "${LOCPATH}"
  localedef -i "$1" -f UTF-8 "${LOCPATH}/$1.UTF-8"
  export LC_ALL="$1.UTF-8"
  [[ $(locale decimal_point) == , ]] || fail "${environment}: no such locale"
  command_in() {
    LD_PRELOAD="${user_locale}" "${qeff}" "$@" >"${said}" 2>&1
  }
}
german() { locale_of de_DE; }
turkish() {
  locale_of tr_TR
  export TZ=Asia/Kathmandu
}
two_threads() { threads=2; }
private() { :; }
no_home() {
  unset HOME
  # What is in the cache otherwise.
  export QEFF_HOME="${out}../home/cache"
}
# With another folder for the cache, and none for temporary files.
no_temporary_folder() {
  export TMPDIR=/nonexistent/folder XDG_CACHE_HOME="${work}/${environment}/xdg"
}
relative_paths() {
  cd "${out}"
  out=./
  ln -s "${demo}" ../given
  model=../given/llama/
  text=../given/text.txt
}
no_input() { command_in() { "${qeff}" "$@" <&- >"${said}" 2>&1; }; }
# What nobody can read is an error, after the work.
no_streams() {
  also=4
  : >"${said}"
  command_in() { "${qeff}" "$@" <&- >&- 2>&-; }
}
full_stdout() {
  also=4
  command_in() { "${qeff}" "$@" >/dev/full 2>"${said}"; }
}
closed_pipe() {
  also=4
  command_in() {
    local pipe code=0
    # A pipe whose reader has gone.
    exec {pipe}> >(exec <&-)
    wait $!
    "${qeff}" "$@" >&"${pipe}" 2>"${said}" || code=$?
    exec {pipe}>&-
    return ${code}
  }
}

run base 022 as_it_is
run german 022 german
run turkish 022 turkish
run two_threads 002 two_threads
run private 077 private
run no_home 022 no_home
run no_temporary_folder 022 no_temporary_folder
run relative_paths 022 relative_paths
run no_input 022 no_input
run no_streams 022 no_streams
run full_stdout 022 full_stdout
run closed_pipe 022 closed_pipe

[[ ${failed} -eq 0 ]]
