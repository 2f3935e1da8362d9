// SPDX-License-Identifier: Apache-2.0
//
// Partition files: how the Cloud AI compiler spreads a graph over several
// devices. Tensor slicing splits every layer over all of them; a pipeline gives
// each group of devices layers of its own.

#ifndef QEFF_EXPORT_AIC_PARTITION_H_
#define QEFF_EXPORT_AIC_PARTITION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/util/json.h"

namespace qeff {

// A node of the graph as the compiler names it.
struct AicNode {
  std::string name;
  int64_t block = -1;  // the block that it belongs to; -1: none
};

// One partition over all `devices`, whose nodes the compiler finds itself.
// Preconditions: both at least 1.
Json TensorSlicing(int64_t devices, int64_t cores);

// Layers of each stage of a pipeline: equally many, of the rest one each to
// the stages in the middle first, and the last stage, which has lm_head to do,
// never more. (8, 3) -> 3, 3, 2; (10, 4) -> 2, 3, 3, 2; (94, 4) -> 23, 24, 24,
// 23. Precondition: 1 <= stages <= layers.
std::vector<int64_t> LayersOfStages(int64_t layers, int64_t stages);

// A pipeline of `stages` partitions with devices / stages devices each. Nodes
// of no block go with the block before them, or with the first. `nodes` are in
// topological order, without those that the compiler computes beforehand, and
// with the nodes of functions that it inlines (of less than 100 nodes) as
// CALL/NODE. Each is in one partition, in the same order.
// Errors: kInvalidArgument when there are no stages, more stages than devices
// or layers, devices that would be idle, a block out of range, a name that is
// empty or occurs twice, or a node of an earlier stage after one of a later.
absl::StatusOr<Json> Pipeline(const std::vector<AicNode>& nodes, int64_t layers,
                              int64_t stages, int64_t devices, int64_t cores);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_PARTITION_H_
