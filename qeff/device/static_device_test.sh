#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the static binaries of --config=device-x86-64 and --config=device-aarch64
# on packages that the host makes. Builds nothing: tools/test.sh gives it
#
#   static_device_test.sh QEFF HOST_DEVICE X86_64_DEVICE AARCH64_DEVICE
#
# the host's qeff and qeff_device and the two binaries. Needs qemu-user, for
# aarch64 and for processors that lack what a binary was built for.
set -euo pipefail

readonly qeff="$1" host="$2"
declare -rA device=([x86-64]="$3" [aarch64]="$4")
declare -rA run=([x86-64]="$3" [aarch64]="qemu-aarch64 $4")
# glibc has its strings and mathematics several times for x86-64, for processors
# that it tells apart at run time.
declare -rA max_stripped_bytes=([x86-64]=2450000 [aarch64]=2150000)
readonly PROMPT=1,17,99,203,5,64,300,7,7,250,31,8,140

work=$(mktemp -d)
trap 'rm -rf "${work}"' EXIT

fail() {
  echo "static_device_test: $*" >&2
  exit 1
}

# expect STATUS TEXT COMMAND...: its exit code, and TEXT in what it says.
expect() {
  local wanted="$1" text="$2" status=0
  shift 2
  "$@" >"${work}/said" 2>&1 || status=$?
  [[ ${status} -eq ${wanted} ]] ||
    fail "exit code ${status}, expected ${wanted}: $*: $(<"${work}/said")"
  grep -qF -- "${text}" "${work}/said" ||
    fail "\"${text}\" is not in: $*: $(<"${work}/said")"
}

# One file without an interpreter and of the promised size.
check_binary() {
  local target="$1" strip="$2" size
  if readelf -W -l -d "${device[${target}]}" | grep -E "INTERP|NEEDED"; then
    fail "${target}: not static"
  fi
  "${strip}" -o "${work}/stripped" "${device[${target}]}"
  size=$(stat -c %s "${work}/stripped")
  echo "${target}: ${size} bytes stripped"
  [[ ${size} -lt ${max_stripped_bytes[${target}]} ]] || fail "${target}: too large"
}

# check_tokens NAME MODEL FLAGS...: the greedy tokens of all three binaries.
check_tokens() {
  local name="$1" model="$2" target tokens wanted
  shift 2
  for target in x86-64 aarch64; do
    "${qeff}" compile --model="${model}" --target="${target}" \
      --output="${work}/${name}.${target}" "$@" >"${work}/said" 2>&1 ||
      fail "compile ${name}: $(<"${work}/said")"
  done
  wanted=$("${host}" run "${work}/${name}.x86-64" --tokens="${PROMPT}" \
    --max_new_tokens=40)
  [[ "${wanted}" =~ ^[0-9]+(,[0-9]+){9} ]] || fail "${name}: ${wanted}"
  for target in x86-64 aarch64; do
    # shellcheck disable=SC2086  # the emulator and the binary
    tokens=$(${run[${target}]} run "${work}/${name}.${target}" \
      --tokens="${PROMPT}" --max_new_tokens=40 --threads=2)
    [[ "${tokens}" == "${wanted}" ]] ||
      fail "${name} on ${target}: ${tokens}, on the host: ${wanted}"
  done
  echo "${name}: $(tr -cd , <<<"${wanted}" | wc -c) tokens and one, the same"
}

check_binary x86-64 strip
check_binary aarch64 aarch64-linux-gnu-strip

"${qeff}" synth --shape=tiny --output="${work}/bf16" >/dev/null
"${qeff}" synth --shape=tiny --dtype=f32 --output="${work}/f32" >/dev/null
check_tokens bf16 "${work}/bf16" --lm_head=keep
check_tokens f32 "${work}/f32" --lm_head=keep
check_tokens f32_int8_cache "${work}/f32" --kv_cache=int8
for scheme in int8 int4_g32 int3_g32 int2_g32; do
  "${qeff}" quantize --model="${work}/f32" --scheme="${scheme}" \
    --output="${work}/${scheme}" >/dev/null
  check_tokens "${scheme}" "${work}/${scheme}"
  check_tokens "${scheme}_f32" "${work}/${scheme}" --activations=f32
done
for scheme in int8 int4_g32; do
  "${qeff}" quantize --model="${work}/f32" --scheme="${scheme}" --asymmetric \
    --output="${work}/${scheme}a" >/dev/null
  check_tokens "${scheme}_asymmetric" "${work}/${scheme}a"
done

# A package of another target is refused, with the reason.
# shellcheck disable=SC2086  # the emulator and the binary
expect 3 "target: expected aarch64 or generic, found x86-64" \
  ${run[aarch64]} run "${work}/int8.x86-64" --tokens=1
# shellcheck disable=SC2086
expect 3 "target: expected x86-64 or generic, found aarch64" \
  ${run[x86-64]} run "${work}/int8.aarch64" --tokens=1

# So is a processor that lacks what a binary uses, before it could crash.
expect 5 "built for processors with AVX2 (x86-64-v3)" \
  qemu-x86_64 -cpu Nehalem "${device[x86-64]}" info "${work}/int8.x86-64"
expect 5 "built for processors with dot products (Armv8.2 DotProd)" \
  qemu-aarch64 -cpu cortex-a53 "${device[aarch64]}" info "${work}/int8.aarch64"

echo "static_device_test: passed"
