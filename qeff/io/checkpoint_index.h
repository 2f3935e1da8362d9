// SPDX-License-Identifier: Apache-2.0
//
// model.safetensors.index.json: which shard holds which tensor.
// Source: the sharded layout of Hugging Face Transformers.

#ifndef QEFF_IO_CHECKPOINT_INDEX_H_
#define QEFF_IO_CHECKPOINT_INDEX_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace qeff {

inline constexpr absl::string_view kIndexFileName =
    "model.safetensors.index.json";
// 180,000 tensors (a large mixture of experts, quantized) take 18 MB.
inline constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;
inline constexpr size_t kMaxShards = 10'000;

struct CheckpointIndex {
  struct Location {
    std::string tensor;
    size_t shard;  // index into `shards`
  };

  std::vector<std::string> shards;  // plain file names, in order of first use
  std::vector<Location> tensors;    // in the order of the file
  absl::optional<uint64_t> total_size;  // as stated; not to be trusted
};

// Parses the text of an index; `path` begins every error. Unknown members are
// ignored. Errors (kInvalidArgument): not JSON, no weight_map, a duplicate
// tensor, a shard name that is not one plain file name, or more tensors or
// shards than the limits. Time and memory are linear in the text.
absl::StatusOr<CheckpointIndex> ParseCheckpointIndex(absl::string_view text,
                                                     absl::string_view path);

// The text of an index, ending in a newline. Names must be valid UTF-8.
std::string WriteCheckpointIndex(const CheckpointIndex& index);

// `text` as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD.
std::string JsonQuote(absl::string_view text);

}  // namespace qeff

#endif  // QEFF_IO_CHECKPOINT_INDEX_H_
