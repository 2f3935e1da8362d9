// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/export_aic.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/aic/cache_entry.h"
#include "qeff/export/aic/param_hash.h"
#include "qeff/io/io_testutil.h"
#include "qeff/quant/quant_testutil.h"

namespace qeff {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::shared_ptr<const Transformer> Load(const std::string& folder) {
  return Transformer::Load(Checkpoint::Open(folder).value()).value();
}

class ExportAicTest : public ::testing::Test {
 protected:
  AicExport Export(const AicShapes& shapes = {}) {
    auto exported = ExportAic(*model_, shapes, "1.0", root_);
    EXPECT_TRUE(exported.ok()) << exported.status();
    return *std::move(exported);
  }
  static std::string FolderOf(const AicExport& exported) {
    return std::filesystem::path(exported.graph.onnx_path).parent_path();
  }

  const std::string folder_ = SynthModel("tiny");
  std::shared_ptr<const Transformer> model_ = Load(folder_);
  const std::string root_ = MakeTestFolder() + "/cache";
};

TEST_F(ExportAicTest, ExportsOnce) {
  const AicExport first = Export();
  EXPECT_FALSE(first.from_cache);
  const std::string folder = FolderOf(first);
  EXPECT_EQ(folder, root_ + "/LlamaForCausalLM/LlamaForCausalLM-" +
                        first.graph.identity);
  EXPECT_THAT(ListTestFolder(folder),
              ElementsAre("LlamaForCausalLM.onnx", "LlamaForCausalLM.onnx.data",
                          "hashed_export_params.json", "qeff_entry.json"));
  const auto params =
      ReadJsonFile(folder + "/hashed_export_params.json", 1 << 20);
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(*HashParams(*params), first.graph.identity);
  EXPECT_TRUE(VerifyEntry(folder).ok());
  const AicExport second = Export();
  EXPECT_TRUE(second.from_cache);
  EXPECT_EQ(second.graph.identity, first.graph.identity);
}

// The graph is what its own file says.
TEST_F(ExportAicTest, KnowsTheGraph) {
  const AicGraph graph = Export().graph;
  EXPECT_EQ(graph.layers, 2);
  EXPECT_THAT(graph.kv_inputs, ElementsAre("past_key.0", "past_value.0",
                                           "past_key.1", "past_value.1"));
  std::vector<std::string> names;
  for (const AicNode& node : graph.nodes) names.push_back(node.name);
  EXPECT_THAT(names, Contains(EndsWith("/CtxScatter/n0")));
  EXPECT_THAT(names, Contains(EndsWith("/CustomRMSNorm")));
  EXPECT_TRUE(Pipeline(graph.nodes, graph.layers, 2, 2, 16).ok());
}

TEST_F(ExportAicTest, MakesAgainWhatIsDamaged) {
  const AicExport first = Export();
  std::filesystem::resize_file(first.graph.onnx_path + ".data", 7);
  const AicExport second = Export();
  EXPECT_FALSE(second.from_cache);
  EXPECT_EQ(second.graph.onnx_path, first.graph.onnx_path);
  EXPECT_TRUE(VerifyEntry(FolderOf(second)).ok());
}

TEST_F(ExportAicTest, OptionsAndVersionsAreOtherExports) {
  const std::string base = Export().graph.identity;
  AicShapes shapes;
  shapes.ctx_len = 64;
  EXPECT_EQ(Export(shapes).graph.identity, base);  // one graph for all lengths
  shapes.full_batch_size = 4;
  const AicExport continuous = Export(shapes);
  EXPECT_NE(continuous.graph.identity, base);
  EXPECT_THAT(continuous.graph.inputs, Contains("batch_index"));
  const auto newer = ExportAic(*model_, {}, "1.1", root_);
  ASSERT_TRUE(newer.ok()) << newer.status();
  EXPECT_NE(newer->graph.identity, base);
}

TEST_F(ExportAicTest, WantsPositionsForTheContext) {
  AicShapes shapes;
  shapes.ctx_len = model_->spec().max_positions + 1;
  EXPECT_THAT(ExportAic(*model_, shapes, "1.0", root_).status().message(),
              HasSubstr("ctx_len: the model has positions for"));
}

TEST_F(ExportAicTest, WithoutAnArchitectureTheFamilyIsTheName) {
  std::string config = ReadTestFile(folder_ + "/config.json");
  const std::string key = "\"architectures\"";
  config.replace(config.find(key), key.size(), "\"_\"");
  WriteTestFile(folder_ + "/config.json", config);
  model_ = Load(folder_);
  EXPECT_THAT(Export().graph.onnx_path, EndsWith("/llama.onnx"));
}

}  // namespace
}  // namespace qeff
