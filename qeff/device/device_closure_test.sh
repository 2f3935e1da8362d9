#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks every target that the device runtime is built from. Its argument is
# the output of the genquery rule :device_closure, one label a line.

set -euo pipefail

allowed='^//qeff/(device|device/package|tensor|spec|format|kernels/[a-z0-9_]+):'
allowed+='|^//qeff/util:(aligned|check|checked|checksum|hash_map|memory_guard|random|sigbus_guard|status)$'
allowed+='|^//qeff/util:mapped_(file|ranges)$'
allowed+='|^//qeff/parallel:thread_pool$'
# Of the tokenizer, what needs no third party but Abseil (its readers would
# bring ICU, SentencePiece or JSON).
allowed+='|^//qeff/tokenizer:'
# Of protobuf, the lite library only.
allowed+='|^@com_google_protobuf//:protobuf_lite$'
allowed+='|^@com_google_absl//|^@highway//:hwy$'

for wanted in //qeff/device:engine //qeff/kernels/matvec:matvec \
  @com_google_protobuf//:protobuf_lite; do
  if ! grep -qxF "${wanted}" "$1"; then
    echo "The query is broken: ${wanted} is not in it."
    exit 1
  fi
done
if grep -vE "${allowed}" "$1"; then
  echo "The device runtime must not be built from the targets above."
  exit 1
fi
