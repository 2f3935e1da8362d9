// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/token_shard.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"
#include "qeff/util/vector_clones.h"

namespace qeff {

using internal_token_shard::AddPiece;
using internal_token_shard::kHeaderBytes;
using internal_token_shard::kPieceBytes;

namespace {

// Both loops return the largest id.

QEFF_VECTOR_CLONES uint32_t CopyIds(const uint16_t* __restrict from,
                                    size_t count, int32_t* __restrict to) {
  uint16_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint16_t id = from[i];
    to[i] = id;
    largest = id > largest ? id : largest;
  }
  return largest;
}

QEFF_VECTOR_CLONES uint32_t CopyIds(const uint32_t* __restrict from,
                                    size_t count, int32_t* __restrict to) {
  uint32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t id = from[i];
    to[i] = static_cast<int32_t>(id);
    largest = id > largest ? id : largest;
  }
  return largest;
}

uint32_t CopyIds(const uint8_t* ids, size_t bytes_per_id, uint64_t begin,
                 absl::Span<int32_t> to) {
  if (bytes_per_id == 2) {
    return CopyIds(reinterpret_cast<const uint16_t*>(ids) + begin, to.size(),
                   to.data());
  }
  return CopyIds(reinterpret_cast<const uint32_t*>(ids) + begin, to.size(),
                 to.data());
}

}  // namespace

bool IsTokenShard(const std::string& path) {
  const auto file = MappedFile::Open(path);
  if (!file.ok()) return false;
  const absl::Span<const uint8_t> bytes = (*file)->bytes();
  const absl::string_view magic = internal_token_shard::kMagic;
  return bytes.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin());
}

absl::StatusOr<std::shared_ptr<const TokenShard>> TokenShard::Open(
    const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file,
                        MappedFile::Open(path));
  QEFF_ASSIGN_OR_RETURN(const internal_token_shard::Header header,
                        internal_token_shard::ParseHeader(path, file->bytes()));
  std::shared_ptr<const TokenShard> shard(
      new TokenShard(std::move(file), header));
  QEFF_RETURN_IF_ERROR(shard->CheckContent());
  return shard;
}

// Piece by piece: all checks of one while it is in the cache, and none stays in
// memory.
absl::Status TokenShard::CheckContent() const {
  const absl::Span<const uint8_t> content =
      file_->bytes().subspan(kHeaderBytes);
  const uint64_t ids_bytes = header_.tokens * header_.bytes_per_id();
  const uint64_t starts_begin = header_.starts_offset() - kHeaderBytes;
  uint64_t checksum = 0;
  // Pieces hold whole ids and whole starts.
  for (uint64_t at = 0; at < content.size(); at += kPieceBytes) {
    const auto piece = content.subspan(at, kPieceBytes);
    const uint64_t end = at + piece.size();
    checksum = AddPiece(checksum, piece);
    if (at < ids_bytes) {
      QEFF_RETURN_IF_ERROR(
          CheckIds(at / header_.bytes_per_id(),
                   std::min(end, ids_bytes) / header_.bytes_per_id()));
    }
    if (end > starts_begin) {
      const uint64_t begin = std::max(at, starts_begin);
      QEFF_RETURN_IF_ERROR(
          CheckStarts((begin - starts_begin) / sizeof(uint64_t),
                      (end - starts_begin) / sizeof(uint64_t)));
    }
    file_->Release(piece);
  }
  if (checksum == header_.checksum) return absl::OkStatus();
  return InvalidInputError(path(), ": token file, checksum: expected ",
                           absl::Hex(header_.checksum), ", found ",
                           absl::Hex(checksum));
}

absl::Status TokenShard::CheckIds(uint64_t begin, uint64_t end) const {
  int32_t ids[1024];
  for (uint64_t at = begin; at < end; at += std::size(ids)) {
    const size_t count = std::min<uint64_t>(std::size(ids), end - at);
    const uint32_t largest =
        CopyIds(file_->bytes().data() + kHeaderBytes, header_.bytes_per_id(),
                at, absl::MakeSpan(ids, count));
    if (largest < header_.vocab_size) continue;
    const auto* bad =
        std::find(ids, ids + count, static_cast<int32_t>(largest));
    return InvalidInputError(path(), ": token file, id number ",
                             at + static_cast<uint64_t>(bad - ids),
                             ": expected one below ", header_.vocab_size,
                             ", found ", largest);
  }
  return absl::OkStatus();
}

absl::Status TokenShard::CheckStarts(uint64_t begin, uint64_t end) const {
  const auto starts = this->starts();
  for (uint64_t i = begin; i < end; ++i) {
    const uint64_t least = i == 0 ? 0 : starts[i - 1] + 1;
    // Room for the documents that follow; the first has no choice.
    const uint64_t most = i == 0 ? 0 : header_.tokens - header_.documents + i;
    if (least <= starts[i] && starts[i] <= most) continue;
    return InvalidInputError(path(), ": token file, beginning of document ", i,
                             ": expected ", least, " to ", most, ", found ",
                             starts[i]);
  }
  return absl::OkStatus();
}

absl::Status TokenShard::ChangedError() const {
  return absl::UnavailableError(
      absl::StrCat(path(), ": the file changed while it was read"));
}

absl::Span<const uint64_t> TokenShard::starts() const {
  return absl::MakeConstSpan(
      reinterpret_cast<const uint64_t*>(file_->bytes().data() +
                                        header_.starts_offset()),
      header_.documents);
}

absl::Status TokenShard::Read(int64_t begin, absl::Span<int32_t> ids) const {
  QEFF_CHECK(begin >= 0 && begin <= tokens());
  QEFF_CHECK(ids.size() <= static_cast<uint64_t>(tokens() - begin));
  const uint32_t largest =
      CopyIds(file_->bytes().data() + kHeaderBytes, header_.bytes_per_id(),
              static_cast<uint64_t>(begin), ids);
  // Of what was copied: the file may have changed between two looks at it.
  return largest < header_.vocab_size ? absl::OkStatus() : ChangedError();
}

absl::StatusOr<std::vector<int32_t>> TokenShard::Document(int64_t index) const {
  QEFF_CHECK(index >= 0 && index < documents());
  const auto starts = this->starts();
  const size_t i = static_cast<size_t>(index);
  const uint64_t begin = starts[i];
  const uint64_t end = i + 1 < starts.size() ? starts[i + 1] : header_.tokens;
  if (begin >= end || end > header_.tokens) return ChangedError();
  std::vector<int32_t> ids(end - begin);
  QEFF_RETURN_IF_ERROR(Read(static_cast<int64_t>(begin), absl::MakeSpan(ids)));
  return ids;
}

}  // namespace qeff
