// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/token_shard_format.h"

#include <cstring>
#include <limits>

#include "absl/strings/escaping.h"
#include "qeff/util/checked.h"
#include "qeff/util/checksum.h"
#include "qeff/util/status.h"

namespace qeff {
namespace internal_token_shard {
namespace {

constexpr size_t kMagicBytes = sizeof(kMagic) - 1;
constexpr uint32_t kVersion = 1;

enum Offset : size_t {
  kVersionAt = 8,
  kBytesPerIdAt = 12,
  kVocabSizeAt = 16,
  kTokensAt = 24,
  kDocumentsAt = 32,
  kChecksumAt = 40,
  kReservedAt = 48,
  kHeaderChecksumAt = 56,
};

// Little-endian, as every machine that qeff runs on.
template <typename T>
T Load(absl::Span<const uint8_t> bytes, Offset offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <typename T>
void Store(T value, Offset offset, std::array<uint8_t, kHeaderBytes>* bytes) {
  std::memcpy(bytes->data() + offset, &value, sizeof(value));
}

template <typename T>
absl::Status FieldError(absl::string_view path, absl::string_view field,
                        absl::string_view expected, T found) {
  return InvalidInputError(path, ": token file, ", field, ": expected ",
                           expected, ", found ", found);
}

absl::Status CheckCounts(absl::string_view path, const Header& header,
                         uint64_t file_bytes) {
  constexpr uint64_t kMaxVocab = std::numeric_limits<int32_t>::max();
  if (header.vocab_size < 1 || header.vocab_size > kMaxVocab) {
    return FieldError(path, "vocabulary", absl::StrCat("1 to ", kMaxVocab),
                      header.vocab_size);
  }
  // No count is beyond the file: sums of them do not overflow below.
  if (header.tokens < 1 || header.tokens > file_bytes) {
    return FieldError(path, "tokens",
                      absl::StrCat("1 to ", file_bytes, ", the file's bytes"),
                      header.tokens);
  }
  if (header.documents < 1 || header.documents > header.tokens) {
    return FieldError(path, "documents",
                      absl::StrCat("1 to ", header.tokens, ", the tokens"),
                      header.documents);
  }
  const uint64_t expected_bytes =
      header.starts_offset() + header.documents * sizeof(uint64_t);
  if (file_bytes != expected_bytes) {
    return FieldError(
        path, "bytes of the file",
        absl::StrCat(expected_bytes, " with ", header.tokens, " tokens in ",
                     header.documents, " documents"),
        file_bytes);
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t Header::starts_offset() const {
  return RoundUp<uint64_t>(kHeaderBytes + tokens * bytes_per_id(),
                           kHeaderBytes);
}

std::array<uint8_t, kHeaderBytes> EncodeHeader(const Header& header) {
  std::array<uint8_t, kHeaderBytes> bytes = {};
  std::memcpy(bytes.data(), kMagic, kMagicBytes);
  Store(kVersion, kVersionAt, &bytes);
  Store(static_cast<uint32_t>(header.bytes_per_id()), kBytesPerIdAt, &bytes);
  Store(header.vocab_size, kVocabSizeAt, &bytes);
  Store(header.tokens, kTokensAt, &bytes);
  Store(header.documents, kDocumentsAt, &bytes);
  Store(header.checksum, kChecksumAt, &bytes);
  Store(Checksum64(absl::MakeSpan(bytes.data(), kHeaderChecksumAt)),
        kHeaderChecksumAt, &bytes);
  return bytes;
}

absl::StatusOr<Header> ParseHeader(absl::string_view path,
                                   absl::Span<const uint8_t> bytes) {
  if (bytes.size() < kHeaderBytes) {
    return FieldError(path, "bytes of the file",
                      absl::StrCat("at least ", kHeaderBytes), bytes.size());
  }
  if (std::memcmp(bytes.data(), kMagic, kMagicBytes) != 0) {
    return FieldError(
        path, "first bytes", absl::StrCat("\"", kMagic, "\""),
        absl::StrCat(
            "\"",
            absl::CHexEscape(absl::string_view(
                reinterpret_cast<const char*>(bytes.data()), kMagicBytes)),
            "\""));
  }
  const auto version = Load<uint32_t>(bytes, kVersionAt);
  if (version != kVersion) {
    return FieldError(path, "version", absl::StrCat(kVersion), version);
  }
  const uint64_t checksum =
      Checksum64(absl::MakeSpan(bytes.data(), kHeaderChecksumAt));
  const auto stored = Load<uint64_t>(bytes, kHeaderChecksumAt);
  if (stored != checksum) {
    return FieldError(path, "checksum of the header",
                      absl::StrCat(absl::Hex(checksum)),
                      absl::StrCat(absl::Hex(stored)));
  }
  Header header;
  header.vocab_size = Load<uint64_t>(bytes, kVocabSizeAt);
  header.tokens = Load<uint64_t>(bytes, kTokensAt);
  header.documents = Load<uint64_t>(bytes, kDocumentsAt);
  header.checksum = Load<uint64_t>(bytes, kChecksumAt);
  const auto bytes_per_id = Load<uint32_t>(bytes, kBytesPerIdAt);
  if (bytes_per_id != header.bytes_per_id()) {
    return FieldError(path, "bytes of an id",
                      absl::StrCat(header.bytes_per_id(), " with ",
                                   header.vocab_size, " in the vocabulary"),
                      bytes_per_id);
  }
  const auto reserved = Load<uint64_t>(bytes, kReservedAt);
  if (reserved != 0) {
    return FieldError(path, "reserved bytes", "0", reserved);
  }
  QEFF_RETURN_IF_ERROR(CheckCounts(path, header, bytes.size()));
  return header;
}

uint64_t AddPiece(uint64_t checksum, absl::Span<const uint8_t> piece) {
  const uint64_t both[] = {checksum, Checksum64(piece)};
  return Checksum64(
      absl::MakeSpan(reinterpret_cast<const uint8_t*>(both), sizeof(both)));
}

}  // namespace internal_token_shard
}  // namespace qeff
