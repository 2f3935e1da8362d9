// SPDX-License-Identifier: Apache-2.0
//
// Reading one safetensors file: the header is validated in full
// (safetensors_header.h), the data stays mapped and is read on use. For a model
// folder use checkpoint.h.

#ifndef QEFF_IO_SAFETENSORS_H_
#define QEFF_IO_SAFETENSORS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/safetensors_header.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/mapped_file.h"

namespace qeff {

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
  HashMap<absl::string_view, size_t> index_;  // into header_
};

}  // namespace qeff

#endif  // QEFF_IO_SAFETENSORS_H_
