// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/token_shard_writer.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {

using internal_token_shard::kHeaderBytes;
using internal_token_shard::kPieceBytes;

namespace {

constexpr size_t kStartsInMemory = size_t{1} << 20;

}  // namespace

TokenShardWriter::TokenShardWriter(const std::string& path, uint64_t vocab_size,
                                   std::unique_ptr<AtomicFile> file)
    : path_(path), file_(std::move(file)) {
  header_.vocab_size = vocab_size;
  piece_.reserve(kPieceBytes);
}

absl::StatusOr<std::unique_ptr<TokenShardWriter>> TokenShardWriter::Create(
    const std::string& path, int64_t vocab_size) {
  constexpr int64_t kMaxVocab = std::numeric_limits<int32_t>::max();
  if (vocab_size < 1 || vocab_size > kMaxVocab) {
    return InvalidInputError(path, ": vocabulary: expected 1 to ", kMaxVocab,
                             " tokens, found ", vocab_size);
  }
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file,
                        AtomicFile::Create(path));
  return std::unique_ptr<TokenShardWriter>(new TokenShardWriter(
      path, static_cast<uint64_t>(vocab_size), std::move(file)));
}

absl::Status TokenShardWriter::Append(absl::Span<const int32_t> ids) {
  if (ids.empty()) {
    return InvalidInputError(path_, ": document ", header_.documents,
                             " has no tokens");
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && static_cast<uint64_t>(ids[i]) < header_.vocab_size) {
      continue;
    }
    return InvalidInputError(path_, ": document ", header_.documents,
                             ", token ", i, ": expected an id below ",
                             header_.vocab_size, ", found ", ids[i]);
  }
  if (starts_.size() == kStartsInMemory) QEFF_RETURN_IF_ERROR(SpillStarts());
  starts_.push_back(header_.tokens);
  header_.documents += 1;
  header_.tokens += ids.size();
  if (header_.bytes_per_id() == 4) {
    return Put(AsBytes(ids));
  }
  std::array<uint16_t, 4096> narrow;
  while (!ids.empty()) {
    const size_t count = std::min(ids.size(), narrow.size());
    for (size_t i = 0; i < count; ++i) {
      narrow[i] = static_cast<uint16_t>(ids[i]);
    }
    QEFF_RETURN_IF_ERROR(
        Put(AsBytes(absl::MakeConstSpan(narrow.data(), count))));
    ids.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status TokenShardWriter::Put(absl::Span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const auto part = bytes.subspan(0, kPieceBytes - piece_.size());
    piece_.insert(piece_.end(), part.begin(), part.end());
    if (piece_.size() == kPieceBytes) QEFF_RETURN_IF_ERROR(FlushPiece());
    bytes.remove_prefix(part.size());
  }
  return absl::OkStatus();
}

absl::Status TokenShardWriter::FlushPiece() {
  header_.checksum = internal_token_shard::AddPiece(header_.checksum, piece_);
  QEFF_RETURN_IF_ERROR(file_->Write(written_bytes_, piece_));
  written_bytes_ += piece_.size();
  piece_.clear();
  return absl::OkStatus();
}

absl::Status TokenShardWriter::SpillStarts() {
  if (spilled_starts_ == nullptr) {
    QEFF_ASSIGN_OR_RETURN(spilled_starts_,
                          AtomicFile::Create(absl::StrCat(path_, ".starts")));
  }
  const auto bytes = AsBytes(absl::MakeConstSpan(starts_));
  QEFF_RETURN_IF_ERROR(spilled_starts_->Write(spilled_bytes_, bytes));
  spilled_bytes_ += bytes.size();
  starts_.clear();
  return absl::OkStatus();
}

absl::Status TokenShardWriter::PutStarts() {
  if (spilled_starts_ != nullptr) {
    QEFF_ASSIGN_OR_RETURN(const auto spilled,
                          MappedFile::Open(spilled_starts_->temporary_path()));
    for (uint64_t at = 0; at < spilled_bytes_; at += kPieceBytes) {
      const auto part = spilled->bytes().subspan(at, kPieceBytes);
      QEFF_RETURN_IF_ERROR(Put(part));
      spilled->Release(part);
    }
  }
  return Put(AsBytes(absl::MakeConstSpan(starts_)));
}

absl::Status TokenShardWriter::Commit() {
  if (header_.documents == 0) {
    return InvalidInputError(path_, ": there are no documents to write");
  }
  const std::array<uint8_t, kHeaderBytes> zeros = {};
  const uint64_t ids_end = written_bytes_ + piece_.size();
  QEFF_RETURN_IF_ERROR(
      Put(absl::MakeSpan(zeros.data(), header_.starts_offset() - ids_end)));
  QEFF_RETURN_IF_ERROR(PutStarts());
  if (!piece_.empty()) QEFF_RETURN_IF_ERROR(FlushPiece());
  QEFF_RETURN_IF_ERROR(
      file_->Write(0, internal_token_shard::EncodeHeader(header_)));
  return file_->Commit();
}

}  // namespace qeff
