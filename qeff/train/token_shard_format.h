// SPDX-License-Identifier: Apache-2.0
//
// What a file of token ids looks like: the one place that its reader
// (token_shard.h) and its writer (token_shard_writer.h) agree in.
//
//   offset  bytes  all little-endian
//        0      8  "QEFFTOKS"
//        8      4  version: 1
//       12      4  bytes of an id: 2 with up to 65536 tokens in the vocabulary,
//                  else 4
//       16      8  tokens in the vocabulary, below 2^31
//       24      8  T, tokens in the file
//       32      8  D, documents in the file
//       40      8  checksum of everything from offset 64 on
//       48      8  zero
//       56      8  checksum of bytes 0 to 55
//       64         T ids, each below the size of the vocabulary
//        S    8 D  where each document begins, as number of a token; S is the
//                  next multiple of 64, with zeros before it
//
// The first document begins at 0 and each behind the one before: none is empty.
// Checksums are XXH64 (checksum.h); that of the content goes over pieces of
// 4 MiB: c = 0, and for each piece c = XXH64(c, XXH64(piece)), both of 8 bytes.

#ifndef QEFF_TRAIN_TOKEN_SHARD_FORMAT_H_
#define QEFF_TRAIN_TOKEN_SHARD_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {
namespace internal_token_shard {

inline constexpr char kMagic[] = "QEFFTOKS";
inline constexpr size_t kHeaderBytes = 64;
inline constexpr size_t kPieceBytes = size_t{4} << 20;

struct Header {
  uint64_t vocab_size = 0;
  uint64_t tokens = 0;
  uint64_t documents = 0;
  uint64_t checksum = 0;  // of the content

  size_t bytes_per_id() const { return vocab_size <= 65536 ? 2 : 4; }
  // The offset S. Of a header that was parsed, or of one to be written.
  uint64_t starts_offset() const;
};

std::array<uint8_t, kHeaderBytes> EncodeHeader(const Header& header);

// Reads the header of a file with all its `bytes`, which are of the size that
// it says. `path` is for messages. Errors: kInvalidArgument with the field, and
// what was expected and found.
absl::StatusOr<Header> ParseHeader(absl::string_view path,
                                   absl::Span<const uint8_t> bytes);

// The checksum of the content after one more piece.
uint64_t AddPiece(uint64_t checksum, absl::Span<const uint8_t> piece);

}  // namespace internal_token_shard
}  // namespace qeff

#endif  // QEFF_TRAIN_TOKEN_SHARD_FORMAT_H_
