// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/io/messages.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr uint32_t kVersion = 3;

// Appends values as the format stores them, little-endian as this machine.
class Sink {
 public:
  template <typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>>
  void Put(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
  }
  void Put(absl::string_view text) {
    Put<uint64_t>(text.size());
    bytes_.append(text.data(), text.size());
  }
  void Put(const std::string& text) { Put(absl::string_view(text)); }
  void Put(const GgufArray& array) {
    Put<uint32_t>(static_cast<uint32_t>(array.index()));
    std::visit([this](const auto& values) { PutElements(values); }, array);
  }

  std::string Take() { return std::move(bytes_); }

 private:
  template <typename T>
  void PutElements(const std::vector<T>& values) {
    Put<uint64_t>(values.size());
    for (const T value : values) Put<T>(value);
  }
  void PutElements(const GgufStrings& strings) {
    Put<uint64_t>(strings.size());
    for (size_t i = 0; i < strings.size(); ++i) Put(strings[i]);
  }
  void PutElements(std::monostate) { Put<uint64_t>(0); }

  std::string bytes_;
};

// What a header declares, before it is known whether it may.
struct Plan {
  std::string header;
  CheckedU64 data_bytes = 0;  // of all tensors with their padding
  uint64_t alignment = kGgufDefaultAlignment;
};

// Size of a tensor; invalid when it overflows. Anything else that is wrong
// with it is found when the header is parsed.
CheckedU64 SizeBytes(const GgufTensorInfo& tensor) {
  const GgmlTypeTraits* traits = FindGgmlType(tensor.type);
  const CheckedU64 elems = tensor.shape.num_elements();
  if (traits == nullptr || !elems.valid()) return elems;
  return CheckedU64(elems.value() / traits->block_elems) * traits->block_bytes;
}

absl::StatusOr<Plan> PlanFile(const GgufMetadata& metadata,
                              const std::vector<GgufTensorInfo>& tensors) {
  Plan plan;
  Sink sink;
  for (const char c : {'G', 'G', 'U', 'F'}) sink.Put(c);
  sink.Put<uint32_t>(kVersion);
  sink.Put<uint64_t>(tensors.size());
  sink.Put<uint64_t>(metadata.size());
  for (const auto& entry : metadata) {
    sink.Put(entry.first);
    sink.Put<uint32_t>(static_cast<uint32_t>(entry.second.index()));
    std::visit([&](const auto& value) { sink.Put(value); }, entry.second);
  }
  const auto* alignment = FindGgufValue<uint32_t>(metadata, kGgufAlignmentKey);
  if (alignment != nullptr) plan.alignment = std::max(*alignment, 1u);
  for (const GgufTensorInfo& tensor : tensors) {
    sink.Put(tensor.name);
    sink.Put<uint32_t>(static_cast<uint32_t>(tensor.shape.rank()));
    for (size_t i = tensor.shape.rank(); i-- > 0;) {
      sink.Put<int64_t>(tensor.shape[i]);
    }
    sink.Put<uint32_t>(static_cast<uint32_t>(tensor.type));
    sink.Put<uint64_t>(plan.data_bytes.value());
    const CheckedU64 end = plan.data_bytes + SizeBytes(tensor);
    if (!(end + plan.alignment).AtMost(INT64_MAX)) {
      return InvalidInputError("tensor ", QuoteName(tensor.name), ": shape ",
                               tensor.shape.ToString(),
                               ": the file would exceed 2^63 bytes");
    }
    plan.data_bytes = RoundUp(end.value(), plan.alignment);
  }
  plan.header = sink.Take();
  return plan;
}

}  // namespace

GgufWriter::GgufWriter(std::unique_ptr<AtomicFile> file,
                       std::vector<GgufTensorInfo> tensors, uint64_t file_bytes,
                       std::string path)
    : file_(std::move(file)),
      tensors_(std::move(tensors)),
      file_bytes_(file_bytes),
      path_(std::move(path)),
      written_bytes_(tensors_.size()) {}

absl::StatusOr<std::unique_ptr<GgufWriter>> GgufWriter::Create(
    const std::string& path, const GgufMetadata& metadata,
    const std::vector<GgufTensorInfo>& tensors) {
  QEFF_ASSIGN_OR_RETURN(const Plan plan, PlanFile(metadata, tensors), path);
  const CheckedU64 file_bytes =
      plan.data_bytes + RoundUp<uint64_t>(plan.header.size(), plan.alignment);
  if (!file_bytes.AtMost(INT64_MAX)) {
    return InvalidInputError(path, ": the file would exceed 2^63 bytes");
  }
  QEFF_ASSIGN_OR_RETURN(
      GgufHeader header,
      ParseGgufHeader(AsBytes(plan.header), file_bytes.value(), path));
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file,
                        AtomicFile::Create(path));
  QEFF_RETURN_IF_ERROR(CheckFreeSpace(ParentFolder(path), file_bytes.value()));
  QEFF_RETURN_IF_ERROR(file->Resize(file_bytes.value()));
  QEFF_RETURN_IF_ERROR(file->Write(0, AsBytes(plan.header)));
  return std::unique_ptr<GgufWriter>(new GgufWriter(
      std::move(file), std::move(header.tensors), file_bytes.value(), path));
}

absl::Status GgufWriter::Write(size_t index, uint64_t offset_bytes,
                               absl::Span<const uint8_t> bytes) {
  QEFF_CHECK(index < tensors_.size());
  const GgufTensorInfo& tensor = tensors_[index];
  if (!(CheckedU64(offset_bytes) + bytes.size()).AtMost(tensor.size_bytes)) {
    return InvalidInputError(path_, ": tensor ", QuoteName(tensor.name),
                             ": expected at most ", tensor.size_bytes,
                             " bytes, found ", bytes.size(), " at ",
                             offset_bytes);
  }
  QEFF_RETURN_IF_ERROR(file_->Write(tensor.begin_bytes + offset_bytes, bytes));
  written_bytes_[index].fetch_add(bytes.size(), std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status GgufWriter::Commit() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (written_bytes_[i] == tensors_[i].size_bytes) continue;
    return absl::InternalError(
        absl::StrCat(path_, ": tensor ", QuoteName(tensors_[i].name),
                     ": expected ", tensors_[i].size_bytes, " bytes, ",
                     written_bytes_[i].load(), " were written"));
  }
  return file_->Commit();
}

}  // namespace qeff
