// SPDX-License-Identifier: Apache-2.0
//
// The header of a safetensors file: its validation in full, before any byte of
// data is believed. The only place that knows the rules of the format; to open
// a file use safetensors.h.
// Source: the safetensors format description (huggingface/safetensors).

#ifndef QEFF_IO_SAFETENSORS_HEADER_H_
#define QEFF_IO_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/tensor/dtype.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Limits of a header; a file beyond them is refused before memory is spent.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr uint64_t kMaxSafetensorsTensors = 1'000'000;
inline constexpr uint64_t kMaxSafetensorsMetadata = 100'000;
inline constexpr size_t kMaxTensorNameBytes = 4096;
inline constexpr size_t kMaxTensorRank = 64;
// One name or value of __metadata__, or white space between two tokens.
inline constexpr uint64_t kMaxSafetensorsTokenBytes = uint64_t{16} << 20;

// One entry of a header. Offsets count bytes from the start of the data.
struct SafetensorsEntry {
  std::string name;
  DType dtype;
  Shape shape;
  uint64_t begin_bytes;
  uint64_t end_bytes;
};

// Parsed header of a safetensors file.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in order of begin_bytes
  std::map<std::string, std::string> metadata;
  uint64_t data_begin_bytes = 0;  // 8 + length of the header
};

// Validates and parses the header of a file whose whole content is `file`;
// `path` begins every error. Every rule of the format holds afterwards: the
// header begins with '{', keys are unique, tensors tile the data exactly.
// Errors: kInvalidArgument, or kUnimplemented for a dtype of the format that
// DType lacks. Time and memory are bounded by the header's length.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::Span<const uint8_t> file, absl::string_view path);

}  // namespace qeff

#endif  // QEFF_IO_SAFETENSORS_HEADER_H_
