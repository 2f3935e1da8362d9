// SPDX-License-Identifier: Apache-2.0
//
// Writes the files that token_shard.h reads.

#ifndef QEFF_TRAIN_TOKEN_SHARD_WRITER_H_
#define QEFF_TRAIN_TOKEN_SHARD_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/train/token_shard_format.h"
#include "qeff/util/atomic_file.h"

namespace qeff {

// Takes documents one after another; the file appears when it is complete.
// Memory does not grow with it: 12 MiB. Not thread-safe. Destroying it
// uncommitted leaves nothing. After an error only that may be done.
class TokenShardWriter {
 public:
  // Begins the file `path`. Errors: those of AtomicFile::Create;
  // kInvalidArgument when vocab_size is below 1.
  static absl::StatusOr<std::unique_ptr<TokenShardWriter>> Create(
      const std::string& path, int64_t vocab_size);

  // Adds a document. Errors: kUnavailable when it cannot be written, the disk
  // being full for example; kInvalidArgument for a document without ids and for
  // an id outside the vocabulary.
  absl::Status Append(absl::Span<const int32_t> ids);

  int64_t documents() const { return static_cast<int64_t>(header_.documents); }
  int64_t tokens() const { return static_cast<int64_t>(header_.tokens); }

  // Completes the file, replacing what is at the path. At most once. Errors:
  // kUnavailable; kInvalidArgument without a document. The path is then what it
  // was before.
  absl::Status Commit();

 private:
  TokenShardWriter(const std::string& path, uint64_t vocab_size,
                   std::unique_ptr<AtomicFile> file);

  // Writes content through a buffer of one piece.
  absl::Status Put(absl::Span<const uint8_t> bytes);
  absl::Status FlushPiece();
  // Moves the starts in memory to a file beside the output.
  absl::Status SpillStarts();
  absl::Status PutStarts();

  const std::string path_;
  internal_token_shard::Header header_;
  std::unique_ptr<AtomicFile> file_;
  std::vector<uint8_t> piece_;
  uint64_t written_bytes_ = internal_token_shard::kHeaderBytes;

  std::vector<uint64_t> starts_;
  std::unique_ptr<AtomicFile> spilled_starts_;  // never committed
  uint64_t spilled_bytes_ = 0;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_TOKEN_SHARD_WRITER_H_
