// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/partition.h"

#include <numeric>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/aic/param_json.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TensorSlicingTest, HasQEfficientsBytes) {
  EXPECT_EQ(IndentedJson(TensorSlicing(2, 16)), R"({
    "connections":[
        {
            "devices":[
                0,
                1
            ],
            "type":"p2p"
        }
    ],
    "partitions":[
        {
            "devices":[
                {
                    "deviceId":0,
                    "numCores":16
                },
                {
                    "deviceId":1,
                    "numCores":16
                }
            ],
            "name":"Partition0"
        }
    ]
})");
}

// What QEfficient's _layer_partition_bounds gives.
TEST(LayersOfStagesTest, IsQEfficients) {
  EXPECT_THAT(LayersOfStages(8, 3), ElementsAre(3, 3, 2));
  EXPECT_THAT(LayersOfStages(10, 4), ElementsAre(2, 3, 3, 2));
  EXPECT_THAT(LayersOfStages(94, 4), ElementsAre(23, 24, 24, 23));
  EXPECT_THAT(LayersOfStages(5, 2), ElementsAre(3, 2));
  EXPECT_THAT(LayersOfStages(7, 1), ElementsAre(7));
}

TEST(LayersOfStagesTest, IsBalanced) {
  for (int64_t layers = 1; layers <= 64; ++layers) {
    for (int64_t stages = 1; stages <= layers; ++stages) {
      SCOPED_TRACE(absl::StrCat(layers, " layers, ", stages, " stages"));
      const std::vector<int64_t> counts = LayersOfStages(layers, stages);
      ASSERT_EQ(counts.size(), static_cast<size_t>(stages));
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}),
                layers);
      EXPECT_EQ(counts.back(), layers / stages);
      for (const int64_t count : counts) {
        EXPECT_GE(count, layers / stages);
        EXPECT_LE(count, layers / stages + 1);
      }
    }
  }
}

// Embedding, `per_block` nodes a block with one of no block among them, head.
std::vector<AicNode> Graph(int64_t layers, int per_block) {
  std::vector<AicNode> nodes = {{"embed", -1}};
  for (int64_t block = 0; block < layers; ++block) {
    for (int i = 0; i < per_block; ++i) {
      nodes.push_back({absl::StrCat("b", block, "/", i), i == 1 ? -1 : block});
    }
  }
  nodes.push_back({"lm_head", -1});
  return nodes;
}

TEST(PipelineTest, HasEveryNodeOnceInOrder) {
  for (int64_t layers = 1; layers <= 12; ++layers) {
    for (int64_t stages = 1; stages <= layers; ++stages) {
      SCOPED_TRACE(absl::StrCat(layers, " layers, ", stages, " stages"));
      const std::vector<AicNode> nodes = Graph(layers, 3);
      const auto file = Pipeline(nodes, layers, stages, 2 * stages, 16);
      ASSERT_TRUE(file.ok()) << file.status();
      std::vector<std::string> listed, expected;
      std::vector<int64_t> devices;
      const std::vector<int64_t> counts = LayersOfStages(layers, stages);
      int64_t stage = 0;
      for (const Json& partition : (*file)["partitions"]) {
        const std::vector<std::string> list = partition["nodeList"];
        listed.insert(listed.end(), list.begin(), list.end());
        const int64_t ends = (stage == 0) + (stage == stages - 1);
        EXPECT_EQ(static_cast<int64_t>(list.size()),
                  3 * counts[static_cast<size_t>(stage)] + ends);
        for (const Json& device : partition["devices"]) {
          devices.push_back(device["deviceId"]);
        }
        EXPECT_EQ(partition["name"], absl::StrCat("Partition", stage++));
      }
      for (const AicNode& node : nodes) expected.push_back(node.name);
      EXPECT_EQ(listed, expected);
      std::vector<int64_t> all(static_cast<size_t>(2 * stages));
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(devices, all);
    }
  }
}

TEST(PipelineTest, NamesWhatIsWrong) {
  const auto error = [](std::vector<AicNode> nodes, int64_t stages,
                        int64_t devices) {
    const auto file = Pipeline(nodes, 4, stages, devices, 16);
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(file.status().message());
  };
  const std::vector<AicNode> nodes = Graph(4, 2);
  EXPECT_THAT(error(nodes, 0, 4), HasSubstr("expected 1 to 4"));
  EXPECT_THAT(error(nodes, 3, 2), HasSubstr("expected 1 to 2"));
  EXPECT_THAT(error(nodes, 5, 8), HasSubstr("expected 1 to 4"));
  EXPECT_THAT(error(nodes, 2, 3), HasSubstr("multiple of the 2 stages"));
  EXPECT_THAT(error({{"a", 0}, {"a", 1}}, 2, 2), HasSubstr("'a' twice"));
  EXPECT_THAT(error({{"", 0}}, 2, 2), HasSubstr("found ''"));
  EXPECT_THAT(error({{"a", 4}}, 2, 2), HasSubstr("a block below 4, found 4"));
  EXPECT_THAT(error({{"a", 3}, {"b", 0}}, 2, 2),
              HasSubstr("node b of block 0: expected before"));
}

}  // namespace
}  // namespace qeff
