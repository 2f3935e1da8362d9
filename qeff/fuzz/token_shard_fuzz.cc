// SPDX-License-Identifier: Apache-2.0
//
// A file of tokens, as it is and then with checksums that fit.

#include <algorithm>
#include <cstring>
#include <string>

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/train/token_shard.h"
#include "qeff/util/checksum.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using internal_token_shard::kHeaderBytes;

// See token_shard_format.h; inputs are shorter than a piece.
std::string WithChecksums(absl::string_view bytes) {
  std::string fixed(bytes);
  if (fixed.size() <= kHeaderBytes) return fixed;
  const uint64_t pieces[] = {0,
                             Checksum64(AsBytes(bytes.substr(kHeaderBytes)))};
  const uint64_t content = Checksum64(AsBytes(absl::MakeConstSpan(pieces)));
  std::memcpy(&fixed[40], &content, sizeof(content));
  const uint64_t header =
      Checksum64(AsBytes(absl::string_view(fixed).substr(0, 56)));
  std::memcpy(&fixed[56], &header, sizeof(header));
  return fixed;
}

absl::Status Read(absl::string_view bytes) {
  static MemoryFile* const kFile = new MemoryFile;
  kFile->Write(bytes);
  QEFF_ASSIGN_OR_RETURN(const auto shard, TokenShard::Open(kFile->path()));
  for (int64_t i = 0; i < shard->documents(); ++i) {
    QEFF_RETURN_IF_ERROR(shard->Document(i).status());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadFuzzInput(absl::string_view bytes) {
  CheckFuzzResult(Read(bytes));
  return Read(WithChecksums(bytes));
}

}  // namespace qeff
