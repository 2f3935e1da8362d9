// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/read_graph.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "onnx/onnx.pb.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void AddNode(onnx::ModelProto* model, const std::string& name,
             const std::string& op, const std::vector<std::string>& inputs,
             const std::string& output, const std::string& domain = "") {
  onnx::NodeProto* const node = model->mutable_graph()->add_node();
  node->set_name(name);
  node->set_op_type(op);
  node->set_domain(domain);
  for (const std::string& input : inputs) node->add_input(input);
  node->add_output(output);
}

void AddFunction(onnx::ModelProto* model, const std::string& name, int nodes) {
  onnx::FunctionProto* const function = model->add_functions();
  function->set_domain("d");
  function->set_name(name);
  for (int i = 0; i < nodes; ++i) {
    function->add_node()->set_name("n" + std::to_string(i));
  }
}

onnx::ModelProto Model() {
  onnx::ModelProto model;
  for (const char* name : {"input_ids", "past_key.0", "past_value.0"}) {
    model.mutable_graph()->add_input()->set_name(name);
  }
  for (const char* name :
       {"logits", "past_key.0_RetainedState", "past_value.0_RetainedState"}) {
    model.mutable_graph()->add_output()->set_name(name);
  }
  model.mutable_graph()->add_initializer()->set_name("w");
  AddFunction(&model, "Small", 2);
  AddFunction(&model, "Large", 100);
  AddFunction(&model, "CustomRMSNorm", 2);
  AddNode(&model, "/Constant", "Constant", {}, "c");
  AddNode(&model, "/Folded", "Cast", {"w"}, "w16");
  AddNode(&model, "/FoldedToo", "Add", {"w16", "c"}, "sum");
  AddNode(&model, "/Kept", "Identity", {"w"}, "w2");
  AddNode(&model, "/Embed", "Gather", {"w2", "input_ids"}, "x");
  AddNode(&model, "/blocks.0/Norm", "CustomRMSNorm", {"x", "sum"}, "n", "d");
  AddNode(&model, "/blocks.0/Call", "Small", {"n"}, "s", "d");
  AddNode(&model, "/m/layers.1/Call", "Large", {"s"}, "l", "d");
  AddNode(&model, "", "Relu", {"l"}, "r");
  AddNode(&model, "/transformer/h.2/Relu", "Relu", {"r", ""}, "q");
  AddNode(&model, "/head.7/MatMul", "MatMul", {"q", "w"}, "logits");
  return model;
}

absl::StatusOr<AicGraph> Read(const std::string& bytes) {
  const std::string path = MakeTestFolder() + "/m.onnx";
  WriteTestFile(path, bytes);
  return ReadAicGraph(path);
}

TEST(ReadAicGraphTest, ReadsNamesAndBlocks) {
  const auto graph = Read(Model().SerializeAsString());
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_THAT(graph->inputs,
              ElementsAre("input_ids", "past_key.0", "past_value.0"));
  EXPECT_EQ(graph->outputs.size(), 3u);
  EXPECT_THAT(graph->kv_inputs, ElementsAre("past_key.0", "past_value.0"));
  EXPECT_EQ(graph->layers, 3);
  std::vector<std::string> names;
  std::vector<int64_t> blocks;
  for (const AicNode& node : graph->nodes) {
    names.push_back(node.name);
    blocks.push_back(node.block);
  }
  EXPECT_THAT(names, ElementsAre("/Constant", "/Kept", "/Embed",
                                 "/blocks.0/Norm", "/blocks.0/Call/n0",
                                 "/blocks.0/Call/n1", "/m/layers.1/Call",
                                 "/transformer/h.2/Relu", "/head.7/MatMul"));
  EXPECT_THAT(blocks, ElementsAre(-1, -1, -1, 0, 0, 0, 1, 2, -1));
}

TEST(ReadAicGraphTest, RefusesOtherFiles) {
  const std::string bytes = Model().SerializeAsString();
  for (const std::string& other : {std::string(), std::string("text"),
                                   bytes.substr(0, bytes.size() / 2)}) {
    EXPECT_EQ(Read(other).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(ReadAicGraph("/none.onnx").status().code(),
            absl::StatusCode::kNotFound);
}

// Whatever stands in the file, it is read or refused.
TEST(ReadAicGraphTest, SurvivesDamage) {
  const std::string bytes = Model().SerializeAsString();
  for (size_t i = 0; i < bytes.size(); ++i) {
    (void)Read(bytes.substr(0, i));
    for (const int bit : {0, 3, 7}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      const auto graph = Read(damaged);
      if (graph.ok()) {
        EXPECT_GE(graph->layers, 0);
      }
    }
  }
}

TEST(ReadAicGraphTest, WantsTopologicalOrder) {
  onnx::ModelProto model = Model();
  model.mutable_graph()->mutable_node()->SwapElements(4, 5);
  EXPECT_THAT(Read(model.SerializeAsString()).status().message(),
              HasSubstr("node /blocks.0/Norm: expected input x from a node"));
}

}  // namespace
}  // namespace qeff
