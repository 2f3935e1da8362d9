// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/onnx_data.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// What readers map well, and ONNX's documents recommend.
constexpr uint64_t kPageBytes = 4096;
// Initializers below this are packed more densely.
constexpr uint64_t kSmallBytes = 65536;
constexpr uint64_t kLineBytes = 64;
// Bytes that are mapped at a time.
constexpr size_t kChunkBytes = size_t{4} << 20;

}  // namespace

OnnxExternalData OnnxData::AddProduced(uint64_t size_bytes, Producer producer) {
  const uint64_t alignment = size_bytes < kSmallBytes ? kLineBytes : kPageBytes;
  const uint64_t offset = (size_bytes_ + alignment - 1) / alignment * alignment;
  size_bytes_ = offset + size_bytes;
  parts_.push_back({offset, std::move(producer)});
  return {file_, offset, size_bytes};
}

OnnxExternalData OnnxData::Add(absl::Span<const uint8_t> bytes,
                               std::shared_ptr<const void> owner) {
  if (in_place_) {
    if (const auto range = checkpoint_->Find(bytes)) {
      return {range->file, range->offset_bytes, bytes.size()};
    }
  }
  const auto producer = [checkpoint = checkpoint_, bytes,
                         owner = std::move(owner)](const Sink& sink) {
    for (size_t begin = 0; begin < bytes.size(); begin += kChunkBytes) {
      const absl::Span<const uint8_t> chunk =
          bytes.subspan(begin, std::min(kChunkBytes, bytes.size() - begin));
      QEFF_RETURN_IF_ERROR(sink(begin, chunk));
      checkpoint->Release({DType::kU8, Shape(), chunk});
    }
    return absl::OkStatus();
  };
  return AddProduced(bytes.size(), producer);
}

OnnxExternalData OnnxData::AddCopy(absl::Span<const uint8_t> bytes) {
  const auto copy =
      std::make_shared<std::vector<uint8_t>>(bytes.begin(), bytes.end());
  return AddProduced(copy->size(),
                     [copy](const Sink& sink) { return sink(0, *copy); });
}

absl::Status OnnxData::Write(AtomicFile* file) const {
  QEFF_RETURN_IF_ERROR(file->Resize(size_bytes_));
  for (const Part& part : parts_) {
    QEFF_RETURN_IF_ERROR(
        part.producer([&](uint64_t offset, absl::Span<const uint8_t> bytes) {
          return file->Write(part.offset_bytes + offset, bytes);
        }));
  }
  return absl::OkStatus();
}

absl::Status OnnxData::ReadBack(const std::string& temporary,
                                const std::string& path) const {
  QEFF_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(temporary));
  const absl::Span<const uint8_t> all = file->bytes();
  for (const Part& part : parts_) {
    QEFF_RETURN_IF_ERROR(part.producer(
        [&](uint64_t offset, absl::Span<const uint8_t> bytes) -> absl::Status {
          const uint64_t begin = part.offset_bytes + offset;
          if (begin + bytes.size() > all.size() ||
              std::memcmp(all.data() + begin, bytes.data(), bytes.size()) !=
                  0) {
            return absl::UnavailableError(
                absl::StrCat(path, ": what is read back at ", begin,
                             " is not what was written"));
          }
          file->Release(all.subspan(begin, bytes.size()));
          return absl::OkStatus();
        }));
  }
  return absl::OkStatus();
}

}  // namespace qeff
