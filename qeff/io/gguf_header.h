// SPDX-License-Identifier: Apache-2.0
//
// The header of a GGUF file, version 2 or 3, little-endian: its validation in
// full, before any byte of data is believed. The only place that knows the
// rules of the format; the writer (gguf_writer.h) checks what it makes here.
// Source: ggml's docs/gguf.md and gguf.cpp.

#ifndef QEFF_IO_GGUF_HEADER_H_
#define QEFF_IO_GGUF_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/io/gguf_metadata.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Limits of a header; a file beyond them is refused before memory is spent.
inline constexpr uint64_t kMaxGgufTensors = 262'144;
inline constexpr uint64_t kMaxGgufMetadata = 65'536;
inline constexpr uint64_t kMaxGgufKeyBytes = 65'535;
inline constexpr uint64_t kMaxGgufTensorNameBytes = 63;
inline constexpr uint64_t kMaxGgufRank = 4;
inline constexpr uint64_t kMaxGgufAlignment = uint64_t{1} << 20;

// The key of the alignment of data, and its value where the key is missing.
inline constexpr absl::string_view kGgufAlignmentKey = "general.alignment";
inline constexpr uint64_t kGgufDefaultAlignment = 32;

// One tensor. `shape` is outermost first, as in all of qeff: a linear layer's
// is [out, in], which the file lists as in, out.
struct GgufTensorInfo {
  std::string name;
  GgmlType type;
  Shape shape;
  uint64_t begin_bytes = 0;  // from the start of the file
  uint64_t size_bytes = 0;   // without padding
};

struct GgufHeader {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<GgufTensorInfo> tensors;  // in the order of the data
  uint64_t data_begin_bytes = 0;
};

// Validates and parses the header of a file of `file_bytes` bytes that begins
// with `bytes` (all of it, or at least the header); `path` begins every error.
// Every rule of the format holds afterwards: keys and names are unique, types
// are known, rows are whole blocks, tensors lie end to end, each padded to the
// alignment (the last may lack its padding), and the file ends with them.
// Strings are any bytes: whoever uses one checks that it is UTF-8.
// Errors: kInvalidArgument naming the key or tensor, what was expected and
// what was found. Time and memory are bounded by the header's length.
absl::StatusOr<GgufHeader> ParseGgufHeader(absl::Span<const uint8_t> bytes,
                                           uint64_t file_bytes,
                                           absl::string_view path);

}  // namespace qeff

#endif  // QEFF_IO_GGUF_HEADER_H_
