// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/safetensors.h"

#include <utility>
#include <vector>

#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  std::shared_ptr<SafetensorsFile> result(new SafetensorsFile());
  QEFF_ASSIGN_OR_RETURN(result->file_, MappedFile::Open(path));
  const absl::Span<const uint8_t> bytes = result->file_->bytes();
  QEFF_ASSIGN_OR_RETURN(result->header_, ParseSafetensorsHeader(bytes, path));
  result->file_->Release(bytes.subspan(0, result->header_.data_begin_bytes));
  const std::vector<SafetensorsEntry>& entries = result->header_.entries;
  result->index_.reserve(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    result->index_.emplace(entries[i].name, i);
  }
  return std::shared_ptr<const SafetensorsFile>(std::move(result));
}

const SafetensorsEntry* SafetensorsFile::Find(absl::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &header_.entries[it->second];
}

TensorView SafetensorsFile::View(const SafetensorsEntry& entry) const {
  return TensorView{
      entry.dtype, entry.shape,
      file_->bytes().subspan(header_.data_begin_bytes + entry.begin_bytes,
                             entry.end_bytes - entry.begin_bytes)};
}

}  // namespace qeff
