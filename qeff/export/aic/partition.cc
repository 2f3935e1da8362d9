// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/partition.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

Json Devices(int64_t first, int64_t count, int64_t cores) {
  Json list = Json::array();
  for (int64_t id = first; id < first + count; ++id) {
    list.push_back(Json{{"deviceId", id}, {"numCores", cores}});
  }
  return list;
}

// All devices reach each other.
Json PartitionFile(int64_t devices, Json partitions) {
  Json ids = Json::array();
  for (int64_t id = 0; id < devices; ++id) ids.push_back(id);
  return Json{
      {"connections",
       Json::array({Json{{"devices", std::move(ids)}, {"type", "p2p"}}})},
      {"partitions", std::move(partitions)}};
}

absl::Status CheckStages(int64_t layers, int64_t stages, int64_t devices) {
  if (stages < 1 || stages > devices || stages > layers) {
    return InvalidInputError(
        "stages of the pipeline: expected 1 to ", std::min(layers, devices),
        " for ", layers, " layers on ", devices, " devices, found ", stages);
  }
  if (devices % stages != 0) {
    return InvalidInputError("devices: expected a multiple of the ", stages,
                             " stages of the pipeline, found ", devices);
  }
  return absl::OkStatus();
}

// The stage of each block.
std::vector<size_t> StageOfBlocks(int64_t layers, int64_t stages) {
  std::vector<size_t> stage_of;
  size_t stage = 0;
  for (const int64_t count : LayersOfStages(layers, stages)) {
    stage_of.insert(stage_of.end(), static_cast<size_t>(count), stage++);
  }
  return stage_of;
}

}  // namespace

Json TensorSlicing(int64_t devices, int64_t cores) {
  QEFF_CHECK(devices >= 1 && cores >= 1);
  return PartitionFile(
      devices, Json::array({Json{{"name", "Partition0"},
                                 {"devices", Devices(0, devices, cores)}}}));
}

std::vector<int64_t> LayersOfStages(int64_t layers, int64_t stages) {
  QEFF_CHECK(stages >= 1 && layers >= stages);
  std::vector<int64_t> counts(static_cast<size_t>(stages), layers / stages);
  int64_t rest = layers % stages;
  // From the middle outwards, a step to the left before one to the right.
  int64_t left = (stages - 1) / 2, right = left + 1;
  while (rest > 0 && (left >= 1 || right <= stages - 2)) {
    if (left >= 1) {
      ++counts[static_cast<size_t>(left--)];
      --rest;
    }
    if (rest > 0 && right <= stages - 2) {
      ++counts[static_cast<size_t>(right++)];
      --rest;
    }
  }
  counts[0] += rest;
  return counts;
}

absl::StatusOr<Json> Pipeline(const std::vector<AicNode>& nodes, int64_t layers,
                              int64_t stages, int64_t devices, int64_t cores) {
  QEFF_RETURN_IF_ERROR(CheckStages(layers, stages, devices));
  const std::vector<size_t> stage_of = StageOfBlocks(layers, stages);
  std::vector<Json> lists(static_cast<size_t>(stages), Json::array());
  HashSet<absl::string_view> seen;
  size_t stage = 0;
  for (const AicNode& node : nodes) {
    if (node.name.empty() || !seen.insert(node.name).second) {
      return InvalidInputError(
          "nodes of the graph: expected different names, "
          "found '",
          node.name, "' ", node.name.empty() ? "" : "twice");
    }
    if (node.block < -1 || node.block >= layers) {
      return InvalidInputError("node ", node.name, ": expected a block below ",
                               layers, ", found ", node.block);
    }
    const size_t its_stage =
        node.block < 0 ? stage : stage_of[static_cast<size_t>(node.block)];
    if (its_stage < stage) {
      return InvalidInputError("node ", node.name, " of block ", node.block,
                               ": expected before the nodes of stage ", stage);
    }
    stage = its_stage;
    lists[stage].push_back(node.name);
  }
  Json partitions = Json::array();
  const int64_t each = devices / stages;
  for (int64_t i = 0; i < stages; ++i) {
    partitions.push_back(
        Json{{"name", absl::StrCat("Partition", i)},
             {"nodeList", std::move(lists[static_cast<size_t>(i)])},
             {"devices", Devices(i * each, each, cores)}});
  }
  return PartitionFile(devices, std::move(partitions));
}

}  // namespace qeff
