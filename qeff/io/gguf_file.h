// SPDX-License-Identifier: Apache-2.0
//
// Reading one GGUF file: the header is validated in full (gguf_header.h), the
// data stays mapped and is decoded on use. A file as a model is in
// gguf_model.h; writing is in gguf_writer.h.
//
//   QEFF_ASSIGN_OR_RETURN(auto file, GgufFile::Open("model.gguf"));
//   const GgufTensorInfo* tensor = file->Find("blk.0.ffn_up.weight");
//   std::vector<float> row(tensor->shape[1]);
//   QEFF_RETURN_IF_ERROR(file->ReadRows(*tensor, 17, absl::MakeSpan(row)));

#ifndef QEFF_IO_GGUF_FILE_H_
#define QEFF_IO_GGUF_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/io/gguf_header.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/mapped_file.h"

namespace qeff {

// Whether ReadRows decodes tensors of `type`: those that GgmlType names.
bool CanDecodeGgml(GgmlType type);

// Elements of a row, and rows: a tensor is a matrix of its innermost dimension.
int64_t GgufRowElems(const GgufTensorInfo& tensor);
int64_t GgufRows(const GgufTensorInfo& tensor);

// An open file. Thread-safe.
class GgufFile {
 public:
  // Errors as MappedFile::Open and ParseGgufHeader.
  static absl::StatusOr<std::shared_ptr<const GgufFile>> Open(
      const std::string& path);

  const std::string& path() const { return file_->path(); }
  const GgufHeader& header() const { return header_; }
  const MappedFile& file() const { return *file_; }

  // The tensor called `name`, or null.
  const GgufTensorInfo* Find(absl::string_view name) const;

  // The mapped bytes of a tensor of this file; valid while this object lives.
  absl::Span<const uint8_t> Bytes(const GgufTensorInfo& tensor) const {
    return file_->bytes().subspan(tensor.begin_bytes, tensor.size_bytes);
  }

  // Decodes whole rows of a tensor of this file, from row `begin` on, as many
  // as `out` has room for, to the bits that ggml gives. Values are not checked:
  // NaN and infinity pass through. Errors: kUnimplemented, naming file, tensor
  // and type, unless CanDecodeGgml. Precondition (checked): the rows exist,
  // and out.size() is a whole number of them.
  absl::Status ReadRows(const GgufTensorInfo& tensor, int64_t begin,
                        absl::Span<float> out) const;

 private:
  GgufFile() = default;

  std::shared_ptr<const MappedFile> file_;
  GgufHeader header_;
  HashMap<absl::string_view, size_t> index_;  // into header_
};

}  // namespace qeff

#endif  // QEFF_IO_GGUF_FILE_H_
