// SPDX-License-Identifier: Apache-2.0
//
// What is in the files. That other programs compute the model with them is
// shown by interop/onnxruntime_test.

#include "qeff/export/onnx/export_onnx.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "onnx/onnx.pb.h"
#include "qeff/io/io_testutil.h"
#include "qeff/quant/quant_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::shared_ptr<const Transformer> Load(const std::string& folder) {
  return Transformer::Load(Checkpoint::Open(folder).value()).value();
}

onnx::ModelProto Read(const std::string& path) {
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(ReadTestFile(path)));
  return model;
}

std::map<std::string, std::string> ExternalOf(const onnx::TensorProto& tensor) {
  std::map<std::string, std::string> data;
  for (const auto& entry : tensor.external_data()) {
    data[entry.key()] = entry.value();
  }
  return data;
}

TEST(ExportOnnxTest, HasQEfficientsInputsAndOutputs) {
  const std::string folder = SynthModel("tiny");
  const std::string path = folder + "/model.onnx";
  const auto report = ExportCausalLmOnnx(*Load(folder), {}, path);
  ASSERT_TRUE(report.ok()) << report.status();
  const onnx::ModelProto model = Read(path);
  std::vector<std::string> inputs, outputs;
  for (const auto& input : model.graph().input())
    inputs.push_back(input.name());
  for (const auto& output : model.graph().output()) {
    outputs.push_back(output.name());
  }
  EXPECT_THAT(inputs,
              ElementsAre("input_ids", "position_ids", "past_key.0",
                          "past_value.0", "past_key.1", "past_value.1"));
  EXPECT_THAT(outputs, ElementsAre("logits", "past_key.0_RetainedState",
                                   "past_value.0_RetainedState",
                                   "past_key.1_RetainedState",
                                   "past_value.1_RetainedState"));
  std::set<std::string> functions;
  for (const auto& function : model.functions()) {
    functions.insert(absl::StrCat(function.domain(), "::", function.name()));
  }
  EXPECT_THAT(functions,
              UnorderedElementsAre("com.qualcomm.cloud::CtxScatter",
                                   "com.qualcomm.cloud::CtxGather",
                                   "com.qti.aisw.onnx::CustomRMSNorm"));
  EXPECT_EQ(model.opset_import(0).version(), 17);
  EXPECT_THAT(report->operators,
              UnorderedElementsAre(Pair("CtxScatter", 4), Pair("CtxGather", 4),
                                   Pair("CustomRMSNorm", 5)));
}

// Nodes in topological order, each value made once, blocks in order.
TEST(ExportOnnxTest, NodesAreInOrder) {
  for (const char* shape : {"tiny", "tiny-gpt2", "tiny-mpt", "tiny-qwen3"}) {
    SCOPED_TRACE(shape);
    const std::string path = MakeTestFolder() + "/model.onnx";
    const auto report = ExportCausalLmOnnx(*Load(SynthModel(shape)), {}, path);
    ASSERT_TRUE(report.ok()) << report.status();
    const onnx::GraphProto graph = Read(path).graph();
    std::set<std::string> made;
    for (const auto& input : graph.input()) made.insert(input.name());
    for (const auto& tensor : graph.initializer()) made.insert(tensor.name());
    std::set<std::string> names;
    ASSERT_EQ(report->nodes.size(), static_cast<size_t>(graph.node_size()));
    int64_t block = -1;
    for (int i = 0; i < graph.node_size(); ++i) {
      const onnx::NodeProto& node = graph.node(i);
      for (const std::string& input : node.input()) {
        EXPECT_EQ(made.count(input), 1U) << node.name() << ' ' << input;
      }
      for (const std::string& output : node.output()) {
        EXPECT_TRUE(made.insert(output).second) << output;
      }
      EXPECT_TRUE(names.insert(node.name()).second) << node.name();
      const OnnxNodePlace& place = report->nodes[static_cast<size_t>(i)];
      EXPECT_EQ(place.name, node.name());
      if (place.block < 0) continue;
      EXPECT_GE(place.block, block);
      block = place.block;
    }
    EXPECT_EQ(block, 1);
    for (const auto& output : graph.output()) {
      EXPECT_EQ(made.count(output.name()), 1U);
    }
  }
}

TEST(ExportOnnxTest, RefersToTheCheckpointBesideIt) {
  const std::string folder = SynthModel("tiny");
  const auto source = Load(folder);
  const std::string path = folder + "/model.onnx";
  const auto report = ExportCausalLmOnnx(*source, {}, path);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->in_place);
  const onnx::ModelProto model = Read(path);
  const std::string weights = ReadTestFile(folder + "/model.safetensors");
  size_t found = 0;
  for (const auto& tensor : model.graph().initializer()) {
    if (tensor.data_location() != onnx::TensorProto::EXTERNAL) continue;
    auto data = ExternalOf(tensor);
    if (data["location"] != "model.safetensors") {
      EXPECT_EQ(data["location"], "model.onnx.data");
      EXPECT_THAT(tensor.name(), HasSubstr("rope_"));
      continue;
    }
    const auto view = source->checkpoint().Get(tensor.name());
    ASSERT_TRUE(view.ok()) << view.status();
    uint64_t offset, length;
    ASSERT_TRUE(absl::SimpleAtoi(data["offset"], &offset));
    ASSERT_TRUE(absl::SimpleAtoi(data["length"], &length));
    ASSERT_EQ(length, view->bytes.size());
    EXPECT_EQ(std::memcmp(weights.data() + offset, view->bytes.data(), length),
              0);
    ++found;
  }
  EXPECT_EQ(found, source->checkpoint().tensors().size());

  // Elsewhere, and where the weights are links, they are copied.
  const std::string other = MakeTestFolder();
  const auto copied = ExportCausalLmOnnx(*source, {}, other + "/model.onnx");
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_FALSE(copied->in_place);
  EXPECT_GT(copied->data_bytes, source->checkpoint().weight_bytes());
  EXPECT_THAT(ListTestFolder(other),
              ElementsAre("model.onnx", "model.onnx.data"));
  const std::string linked = MakeTestFolder();
  for (const char* name : {"config.json", "model.safetensors"}) {
    ASSERT_EQ(symlink(absl::StrCat(folder, "/", name).c_str(),
                      absl::StrCat(linked, "/", name).c_str()),
              0);
  }
  const auto of_links =
      ExportCausalLmOnnx(*Load(linked), {}, linked + "/model.onnx");
  ASSERT_TRUE(of_links.ok()) << of_links.status();
  EXPECT_FALSE(of_links->in_place);
}

// Values of integer scalars that are constants, in the order of their use.
std::vector<int64_t> WithoutScalars(onnx::GraphProto* graph) {
  std::map<std::string, int64_t> scalars;
  for (auto& tensor : *graph->mutable_initializer()) {
    if (tensor.dims_size() != 0 ||
        tensor.data_type() != onnx::TensorProto::INT64) {
      continue;
    }
    int64_t value;
    std::memcpy(&value, tensor.raw_data().data(), sizeof(value));
    scalars[tensor.name()] = value;
  }
  std::vector<int64_t> used;
  for (auto& node : *graph->mutable_node()) {
    for (std::string& input : *node.mutable_input()) {
      const auto it = scalars.find(input);
      if (it == scalars.end()) continue;
      used.push_back(it->second);
      input = "scalar";
    }
  }
  return used;
}

TEST(ExportOnnxTest, VariantsDifferInConstantsOnly) {
  const auto source = Load(SynthModel("tiny-qwen2"));
  for (const bool slots : {false, true}) {
    const std::string folder = MakeTestFolder();
    CausalLmOptions options;
    options.continuous_batching = slots;
    const std::string portable = folder + "/portable.onnx";
    ASSERT_TRUE(ExportCausalLmOnnx(*source, options, portable).ok());
    options.variant = OnnxVariant::kAic;
    const std::string aic = folder + "/aic.onnx";
    ASSERT_TRUE(ExportCausalLmOnnx(*source, options, aic).ok());
    onnx::GraphProto a = Read(portable).graph(), b = Read(aic).graph();
    const std::vector<int64_t> of_a = WithoutScalars(&a);
    const std::vector<int64_t> of_b = WithoutScalars(&b);
    ASSERT_EQ(of_a.size(), of_b.size());
    int differ = 0;
    for (size_t i = 0; i < of_a.size(); ++i) {
      if (of_a[i] == of_b[i]) continue;
      EXPECT_EQ(of_b[i], std::numeric_limits<int32_t>::max());
      ++differ;
    }
    EXPECT_EQ(differ, slots ? 2 : 1);
    a.clear_initializer();
    b.clear_initializer();
    EXPECT_EQ(a.SerializeAsString(), b.SerializeAsString());
  }
}

TEST(ExportOnnxTest, SameBytesEachTime) {
  const auto source = Load(SynthModel("tiny-mpt"));
  const std::string folder = MakeTestFolder();
  std::string first;
  for (int i = 0; i < 2; ++i) {
    const std::string path = folder + "/model.onnx";
    ASSERT_TRUE(ExportCausalLmOnnx(*source, {}, path).ok());
    const std::string both = ReadTestFile(path) + ReadTestFile(path + ".data");
    if (i == 0) first = both;
    EXPECT_EQ(both, first);
  }
}

TEST(ExportOnnxTest, LeavesNothingWhereItCannotWrite) {
  const auto source = Load(SynthModel("tiny"));
  const auto missing =
      ExportCausalLmOnnx(*source, {}, "/nonexistent/model.onnx");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kUnavailable)
      << missing.status();
  EXPECT_THAT(std::string(missing.status().message()),
              HasSubstr("/nonexistent"));
  // The data file's name is a folder's.
  const std::string folder = MakeTestFolder();
  ASSERT_EQ(mkdir((folder + "/model.onnx.data").c_str(), 0700), 0);
  EXPECT_FALSE(ExportCausalLmOnnx(*source, {}, folder + "/model.onnx").ok());
  EXPECT_THAT(ListTestFolder(folder), ElementsAre("model.onnx.data"));
}

}  // namespace
}  // namespace qeff
