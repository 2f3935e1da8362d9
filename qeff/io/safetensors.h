// SPDX-License-Identifier: Apache-2.0
//
// Reading one safetensors file: the header is validated in full, the data
// stays mapped and is read on use. For a model folder use checkpoint.h.
// Source: the safetensors format description (huggingface/safetensors).

#ifndef QEFF_IO_SAFETENSORS_H_
#define QEFF_IO_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/mapped_file.h"

namespace qeff {

// Limits of a header; a file beyond them is refused before memory is spent.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr uint64_t kMaxSafetensorsTensors = 1'000'000;
inline constexpr uint64_t kMaxSafetensorsMetadata = 100'000;
inline constexpr size_t kMaxTensorNameBytes = 4096;
inline constexpr size_t kMaxTensorRank = 64;

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

// An open file. Thread-safe.
class SafetensorsFile {
 public:
  // Errors as MappedFile::Open and ParseSafetensorsHeader. Files that are
  // something else (pickle, zip, HTML, Git LFS pointer) are named as such.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(
      const std::string& path);

  const std::string& path() const { return file_->path(); }
  const SafetensorsHeader& header() const { return header_; }
  const MappedFile& file() const { return *file_; }

  // The entry called `name`, or null.
  const SafetensorsEntry* Find(absl::string_view name) const;

  // The mapped bytes of an entry of this file; valid while this object lives.
  TensorView View(const SafetensorsEntry& entry) const;

 private:
  SafetensorsFile() = default;

  std::shared_ptr<const MappedFile> file_;
  SafetensorsHeader header_;
  absl::flat_hash_map<absl::string_view, size_t> index_;  // into header_
};

}  // namespace qeff

#endif  // QEFF_IO_SAFETENSORS_H_
