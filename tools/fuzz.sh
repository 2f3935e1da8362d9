#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the fuzz targets of qeff/fuzz under libFuzzer, AddressSanitizer and
# UBSan, two at a time, and stops at a finding with what reproduces it. What
# they find new is kept in ~/.cache/qeff/fuzz (XDG_CACHE_HOME), executions are
# added to qeff/fuzz/ledger.tsv.
#
#   tools/fuzz.sh                    every target for 20 seconds
#   tools/fuzz.sh --seconds=3600 --target=gguf
#   tools/fuzz.sh --no-ledger        leaves the ledger as it is
#   tools/fuzz.sh --minimize         the committed corpora anew: the seeds and
#                                    the least that covers as much as all that
#                                    was found
#   tools/fuzz.sh --coverage         the lines that all of that reaches in what
#                                    reads files, a file a line
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CORPUS=qeff/fuzz/corpus
readonly LEDGER=qeff/fuzz/ledger.tsv
FOUND="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qeff/fuzz"
readonly FOUND
readonly MAX_CORPUS_BYTES=$((300 << 10))

# What reads files, for --coverage: parts of paths.
readonly READERS=(
  io/checkpoint.cc io/checkpoint_index.cc io/config_checks.cc io/file_kind.cc
  io/gguf_file.cc io/gguf_header.cc io/gptq_awq_config.cc
  io/quantization_config.cc io/safetensors.cc io/safetensors_header.cc
  io/weight_quantization.cc util/json.cc
  transformer/model_map.cc transformer/mappings/
  tokenizer/build_from_ tokenizer/json_ tokenizer/tokenizer.cc
  tokenizer/tokenizer_json_document.cc tokenizer/validate_tables.cc
  tokenizer/darts.cc device/package/device_package.cc
  device/package/header_message.cc device/package/package_format.cc
  device/package/package_header.cc device/package/tokenizer_section.cc
  export/gguf_config.cc export/gguf_tokenizer_files.cc export/import_gguf.cc
  pipeline/recipe.cc calibration/journal.cc train/train_files.cc
  train/token_shard.cc train/token_shard_format.cc distill/teacher_cache.cc
)

# Reads lcov's format: FN has the first line of a function, which goes up to the
# next; FNDA how often it was entered, DA how often a line was.
# shellcheck disable=SC2016  # of awk
readonly COUNT_LINES='
  function print_row(name, lines, missed, entered, entered_missed) {
    printf "%-50s %5d %5d %6.2f%%  %5d %5d %6.2f%%\n", name, lines, missed,
      100 * (1 - missed / lines), entered, entered_missed,
      entered ? 100 * (1 - entered_missed / entered) : 100
  }
  BEGIN { count = split(readers, parts, " ") }
  /^SF:/ {
    file = substr($0, 4)
    sub(/^\.\//, "", file)
    wanted = 0
    for (i = 1; i <= count; i++) {
      if (index(file, parts[i]) && file ~ /\.cc$/) wanted = 1
    }
    split("", starts); split("", entries); split("", hits)
    last = 0
  }
  !wanted { next }
  /^FN:/ {
    split(substr($0, 4), f, ",")
    starts[f[2]] = f[1]
    if (!(f[1] in entries)) entries[f[1]] = 0
  }
  /^FNDA:/ {
    split(substr($0, 6), f, ",")
    entries[starts[f[2]]] += f[1]
  }
  /^DA:/ {
    split(substr($0, 4), f, ",")
    hits[f[1]] = f[2]
    if (f[1] > last) last = f[1]
  }
  /^end_of_record/ {
    lines = missed = entered = entered_missed = 0
    inside = 1
    for (line = 1; line <= last; line++) {
      if (line in entries) {
        inside = entries[line]
        if (!inside) rest[++rests] = file ":" line
      }
      if (!(line in hits)) continue
      lines++
      missed += hits[line] == 0
      if (inside) { entered++; entered_missed += hits[line] == 0 }
    }
    print_row(file, lines, missed, entered, entered_missed)
    all += lines; all_missed += missed
    all_entered += entered; all_entered_missed += entered_missed
  }
  END {
    print_row("total", all, all_missed, all_entered, all_entered_missed)
    print "\nfunctions that no input enters:"
    for (i = 1; i <= rests; i++) print rest[i]
  }'

# Bytes of an input: what most seeds have. Short ones run faster, and what a
# reader may do wrong seldom needs long ones.
max_len() {
  case "$1" in
    tokenizer_encode) echo 256 ;;
    safetensors | recipe | token_shard | train_state) echo 512 ;;
    checkpoint_index | teacher_cache) echo 1024 ;;
    config) echo 1536 ;;
    tokenizer_json | tokenizer_model) echo 4608 ;;
    gguf) echo 7168 ;;
    device_package) echo 10240 ;;
    tokenizer_section) echo 12288 ;;
    *) echo 4096 ;;
  esac
}

# binary TARGET: its path.
binary() {
  echo "${fuzz_bin}/qeff/fuzz/$1_fuzz"
}

# Adds executions and findings of a target to the ledger.
add_to_ledger() {
  local target="$1" executions="$2" findings="$3"
  awk -F '\t' -v OFS='\t' -v target="${target}" -v executions="${executions}" \
    -v findings="${findings}" -v today="$(date -u +%F)" '
    $1 == target {
      print $1, $2 + executions, today, $4 + findings
      seen = 1
      next
    }
    { print }
    END { if (!seen) print target, executions, today, findings }' \
    "${LEDGER}" >"${LEDGER}.new"
  mv "${LEDGER}.new" "${LEDGER}"
}

# Runs one target. Fails, with the end of its log, at a finding.
run_target() {
  local target="$1" status=0 executions
  local found="${FOUND}/${target}"
  local log="${found}/log"
  mkdir -p "${found}/corpus"
  "$(binary "${target}")" -max_total_time="${seconds}" -timeout=10 \
    -max_len="$(max_len "${target}")" -rss_limit_mb=1024 -malloc_limit_mb=128 \
    -print_final_stats=1 -artifact_prefix="${found}/" \
    "${found}/corpus" "${CORPUS}/${target}" >"${log}" 2>&1 || status=$?
  executions=$(awk '/^stat::number_of_executed_units:/ { print $2 }' "${log}")
  if [[ "${ledger}" == yes ]]; then
    (
      flock 9
      add_to_ledger "${target}" "${executions:-0}" $((status != 0))
    ) 9>"${FOUND}/lock"
  fi
  if [[ ${status} -ne 0 ]]; then
    tail -n 60 "${log}" >&2
    echo "fuzz: ${target} failed; again with" >&2
    echo "  $(binary "${target}")" \
      "$(sed -n 's/.*Test unit written to //p' "${log}" | tail -n 1)" >&2
    return 255  # xargs starts no other
  fi
  echo "fuzz: ${target}: ${executions} executions, no finding"
}

# Replaces the corpus of a target but for its seeds.
minimize_target() {
  local target="$1" old="${CORPUS}/$1" new largest
  new=$(mktemp -d)
  cp "${old}"/seed-* "${new}"
  # Edges alone, not how often they are taken: hundreds of files, not thousands.
  "$(binary "${target}")" -set_cover_merge=1 -use_counters=0 \
    -max_len="$(max_len "${target}")" "${new}" "${old}" \
    "${FOUND}/${target}/corpus" >"${FOUND}/${target}/log" 2>&1
  # The longest of those that are no seeds go where all are too many.
  while [[ $(cat "${new}"/* | wc -c) -gt ${MAX_CORPUS_BYTES} ]]; do
    largest=$(find "${new}" -type f ! -name 'seed-*' -printf '%s %p\n' |
      sort -n | tail -n 1 | cut -d ' ' -f 2)
    [[ -n "${largest}" ]] || break
    rm "${largest}"
  done
  rm -f "${old:?}"/*
  cp "${new}"/* "${old}"
  rm -rf "${new}"
  echo "fuzz: ${target}: $(find "${old}" -type f | wc -l) files," \
    "$(cat "${old}"/* | wc -c) bytes"
}

# Prints of each file the lines, those that no input reaches, and the share of
# the others; the same for the functions that some input enters; and then the
# rest, which should be what writes.
report_coverage() {
  local target binaries=() profiles
  profiles=$(mktemp -d)
  for target in "${targets[@]}"; do
    binaries+=("${fuzz_bin}/qeff/fuzz/${target}_replay_test")
    mkdir -p "${FOUND}/${target}/corpus"
    LLVM_PROFILE_FILE="${profiles}/${target}.profraw" "${binaries[-1]}" \
      "${CORPUS}/${target}" "${FOUND}/${target}/corpus" >/dev/null
  done
  llvm-profdata merge -o "${profiles}/all" "${profiles}"/*.profraw
  llvm-cov export -format=lcov -instr-profile="${profiles}/all" \
    "${binaries[@]/#/-object=}" 2>/dev/null >"${profiles}/lcov"
  awk -v readers="${READERS[*]}" "${COUNT_LINES}" "${profiles}/lcov"
  rm -rf "${profiles}"
}

seconds=20
ledger=yes
action=run_target
targets=()
for argument in "$@"; do
  case "${argument}" in
    --seconds=*) seconds="${argument#*=}" ;;
    --target=*) targets+=("${argument#*=}") ;;
    --no-ledger) ledger=no ;;
    --minimize) action=minimize_target ;;
    --coverage) action=report_coverage ;;
    *)
      echo "fuzz: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done
if [[ ${#targets[@]} -eq 0 ]]; then
  for source in qeff/fuzz/*_fuzz.cc; do
    targets+=("$(basename "${source}" _fuzz.cc)")
  done
fi

tools/setup.sh --fuzz
labels=("${targets[@]/#/\/\/qeff\/fuzz:}")
config=fuzz
program=_fuzz
if [[ "${action}" == report_coverage ]]; then
  config=fuzz-coverage
  program=_replay_test
fi
bazel build --config="${config}" --noshow_progress "${labels[@]/%/${program}}"
fuzz_bin=$(
  bazel info --config="${config}" --noshow_progress bazel-bin 2>/dev/null
)
mkdir -p "${FOUND}"
if [[ "${action}" == report_coverage ]]; then
  report_coverage
  exit
fi

export fuzz_bin seconds ledger CORPUS LEDGER FOUND MAX_CORPUS_BYTES
export -f max_len binary add_to_ledger run_target minimize_target
printf '%s\n' "${targets[@]}" |
  xargs -P 2 -I TARGET bash -euo pipefail -c "${action} TARGET"
