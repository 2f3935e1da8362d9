// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gguf_file.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/io/messages.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/ggml/ggml_rows.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {

bool CanDecodeGgml(GgmlType type) {
  return type == GgmlType::kF32 || type == GgmlType::kF16 ||
         type == GgmlType::kBF16 || FindGgmlBlockFormat(type) != nullptr;
}

int64_t GgufRowElems(const GgufTensorInfo& tensor) {
  return tensor.shape[tensor.shape.rank() - 1];
}

int64_t GgufRows(const GgufTensorInfo& tensor) {
  return static_cast<int64_t>(tensor.shape.num_elements().value()) /
         GgufRowElems(tensor);
}

absl::StatusOr<std::shared_ptr<const GgufFile>> GgufFile::Open(
    const std::string& path) {
  std::shared_ptr<GgufFile> result(new GgufFile());
  QEFF_ASSIGN_OR_RETURN(result->file_, MappedFile::Open(path));
  const absl::Span<const uint8_t> bytes = result->file_->bytes();
  QEFF_ASSIGN_OR_RETURN(result->header_,
                        ParseGgufHeader(bytes, bytes.size(), path));
  const std::vector<GgufTensorInfo>& tensors = result->header_.tensors;
  if (!tensors.empty()) {
    result->file_->Release(bytes.subspan(0, tensors[0].begin_bytes));
  }
  result->index_.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    result->index_.emplace(tensors[i].name, i);
  }
  return std::shared_ptr<const GgufFile>(std::move(result));
}

const GgufTensorInfo* GgufFile::Find(absl::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &header_.tensors[it->second];
}

absl::Status GgufFile::ReadRows(const GgufTensorInfo& tensor, int64_t begin,
                                absl::Span<float> out) const {
  const GgmlTypeTraits& traits = *FindGgmlType(tensor.type);
  if (!CanDecodeGgml(tensor.type)) {
    return absl::UnimplementedError(absl::StrCat(
        path(), ": tensor ", QuoteName(tensor.name), ": type ", traits.name,
        " is not supported; supported are F32, F16, "
        "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K and MXFP4"));
  }
  const size_t row_elems = static_cast<size_t>(GgufRowElems(tensor));
  const size_t count = out.size() / row_elems;
  QEFF_CHECK(out.size() == count * row_elems);
  QEFF_CHECK(begin >= 0 &&
             begin <= GgufRows(tensor) - static_cast<int64_t>(count));
  const size_t row_bytes = row_elems / traits.block_elems * traits.block_bytes;
  const absl::Span<const uint8_t> bytes = Bytes(tensor).subspan(
      static_cast<size_t>(begin) * row_bytes, count * row_bytes);
  switch (tensor.type) {
    case GgmlType::kF32:
      ConvertToFloat(DType::kF32, bytes, out);
      break;
    case GgmlType::kF16:
      ConvertToFloat(DType::kF16, bytes, out);
      break;
    case GgmlType::kBF16:
      ConvertToFloat(DType::kBF16, bytes, out);
      break;
    case GgmlType::kQ4_0:
      DecodeRowsQ4_0(bytes, out);
      break;
    case GgmlType::kQ8_0:
      DecodeRowsQ8_0(bytes, out);
      break;
    default:
      DecodeGgmlRow(tensor.type, bytes, out);
      break;
  }
  return absl::OkStatus();
}

}  // namespace qeff
