// SPDX-License-Identifier: Apache-2.0
//
// Documents as token ids in a mapped file, for training over texts larger than
// memory. token_shard_writer.h and tokenize_to_shard.h make such files,
// token_shard_format.h says what they look like.

#ifndef QEFF_TRAIN_TOKEN_SHARD_H_
#define QEFF_TRAIN_TOKEN_SHARD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/train/token_shard_format.h"
#include "qeff/util/mapped_file.h"

namespace qeff {

// Whether the file `path` begins as one.
bool IsTokenShard(const std::string& path);

// Thread-safe.
class TokenShard {
 public:
  // Reads the whole file once to check all of it: sizes, checksums, that ids
  // belong to the vocabulary and that documents follow one another. Cost: the
  // speed of the disk, or about 5 GB/s. Errors: those of MappedFile::Open;
  // kInvalidArgument for anything that is not as the format says, with the
  // field, what was expected and what was found.
  static absl::StatusOr<std::shared_ptr<const TokenShard>> Open(
      const std::string& path);

  const std::string& path() const { return file_->path(); }
  // The model's embedding must have at least as many rows.
  int64_t vocab_size() const {
    return static_cast<int64_t>(header_.vocab_size);
  }
  int64_t tokens() const { return static_cast<int64_t>(header_.tokens); }
  int64_t documents() const { return static_cast<int64_t>(header_.documents); }

  // Of the content: tells texts apart when work is resumed.
  uint64_t checksum() const { return header_.checksum; }

  // Copies the ids from number `begin` on. They were checked by Open, and are
  // again, because files can change. Errors: kUnavailable, when that has
  // happened. Precondition (checked): the shard has these tokens.
  absl::Status Read(int64_t begin, absl::Span<int32_t> ids) const;

  // Numbers of the tokens that documents begin with: growing, the first is 0.
  // In a file that changes they may be anything.
  absl::Span<const uint64_t> starts() const;

  // The ids of document `index`. Errors: as Read. Precondition (checked): 0 <=
  // index < documents().
  absl::StatusOr<std::vector<int32_t>> Document(int64_t index) const;

  // Errors: kUnavailable when the file is no longer the one that was opened.
  absl::Status VerifyUnchanged() const { return file_->VerifyUnchanged(); }

 private:
  TokenShard(std::shared_ptr<const MappedFile> file,
             const internal_token_shard::Header& header)
      : file_(std::move(file)), header_(header) {}

  absl::Status CheckContent() const;
  absl::Status CheckIds(uint64_t begin, uint64_t end) const;
  absl::Status CheckStarts(uint64_t begin, uint64_t end) const;
  absl::Status ChangedError() const;

  std::shared_ptr<const MappedFile> file_;
  internal_token_shard::Header header_;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_TOKEN_SHARD_H_
