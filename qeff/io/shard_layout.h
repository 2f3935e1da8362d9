// SPDX-License-Identifier: Apache-2.0
//
// Where each tensor of a checkpoint lies before any of it is written: files,
// offsets, and the safetensors headers that say so.

#ifndef QEFF_IO_SHARD_LAYOUT_H_
#define QEFF_IO_SHARD_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"

namespace qeff {

struct ShardLayout {
  struct Shard {
    std::string name;    // "model.safetensors", "model-00001-of-00002...."
    std::string header;  // the file up to its data
    uint64_t file_bytes = 0;
  };
  struct Place {
    size_t shard = 0;
    uint64_t begin_bytes = 0;  // from the start of the file
  };

  std::vector<Shard> shards;  // at least one
  std::vector<Place> places;  // one a tensor, in the order given
};

// Fills shards with `tensors` in the order given; a new one begins when the
// next tensor would exceed `max_shard_bytes`. Inside a shard, tensors are
// sorted by element size, widest first: as data begins at a multiple of 8,
// every tensor is aligned to its elements. Headers end in spaces up to that
// multiple. Errors (kInvalidArgument): a name that is empty, reserved, too
// long, not UTF-8 or given twice; a size or header beyond the format's limits.
absl::StatusOr<ShardLayout> PlanShards(absl::Span<const TensorInfo> tensors,
                                       uint64_t max_shard_bytes);

}  // namespace qeff

#endif  // QEFF_IO_SHARD_LAYOUT_H_
