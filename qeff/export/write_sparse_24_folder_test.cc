// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/write_sparse_24_folder.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/read_back.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/host_forward.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Weights of the linear layers of blocks with two of each four 0, or -0.
TestModel Pruned(TestModel model) {
  for (TestTensor& tensor : model.tensors) {
    if (!absl::StrContains(tensor.name, "_proj.weight")) continue;
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      if (i % 4 == i / 4 % 4) tensor.values[i] = 0.0f;
      if (i % 4 == (i / 4 + 1) % 4) tensor.values[i] = -0.0f;
    }
  }
  return model;
}

std::string FolderOf(const TestModel& model, DType dtype) {
  return OpenTestModel(model, dtype)->folder();
}

TEST(WriteSparse24Folder, IsReadAsTheSameModel) {
  for (const char* family : {"llama", "mistral", "qwen2", "qwen3"}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      SCOPED_TRACE(family);
      const std::string source = FolderOf(Pruned(MakeTestModel(family)), dtype);
      WriteTestFile(source + "/vocab.json", "{}");
      const std::string output = MakeTestFolder() + "/sparse";
      const auto report = WriteSparse24Folder(*LoadFolder(source), output);
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(report->layers, 14);
      EXPECT_THAT(report->kept, ElementsAre("lm_head"));
      const auto model = LoadFolder(output);
      EXPECT_EQ(report->weight_bytes, model->checkpoint().weight_bytes());
      EXPECT_LT(report->weight_bytes,
                LoadFolder(source)->checkpoint().weight_bytes());
      EXPECT_FALSE(model->quantization().has_value());
      EXPECT_EQ(LinearValues(*model), LinearValues(*LoadFolder(source)));
      EXPECT_EQ(HostLogits(output), HostLogits(source));
      EXPECT_EQ(ReadTestFile(output + "/vocab.json"), "{}");
      const Json config = model->checkpoint().config()["quantization_config"];
      EXPECT_EQ(config["sparsity_config"]["format"], "sparse-24-bitmask");
      EXPECT_EQ(config["sparsity_config"]["ignore"],
                Json::parse(R"(["lm_head"])"));
    }
  }
}

TEST(WriteSparse24Folder, RefusesWhatIsNot) {
  const auto refusal = [](const std::string& folder) {
    const std::string parent = MakeTestFolder();
    const auto report =
        WriteSparse24Folder(*LoadFolder(folder), parent + "/sparse");
    EXPECT_EQ(report.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(ListTestFolder(parent), IsEmpty());
    return std::string(report.status().message());
  };
  EXPECT_THAT(refusal(FolderOf(MakeTestModel("llama"), DType::kF32)),
              HasSubstr("no linear layer is 2:4 "
                        "(model.layers.0.self_attn.q_proj: row 0 has more "
                        "than two weights that are not 0 in columns 0 to 3)"));
  EXPECT_THAT(refusal(FolderOf(MakeTestModel("gpt2"), DType::kF32)),
              HasSubstr("Conv1D"));
  QuantizeOptions options;
  options.scheme = *ParseQuantScheme("int4_g8");
  EXPECT_THAT(refusal(QuantizedFolder(MakeTestModel("llama"), options)),
              HasSubstr("floats that nothing compressed"));
  // One layer that is not stays as it is.
  TestModel model = Pruned(MakeTestModel("llama"));
  model.Find("model.layers.1.mlp.up_proj.weight")->values[5 * 24 + 9] = 1;
  model.Find("model.layers.1.mlp.up_proj.weight")->values[5 * 24 + 10] = 1;
  model.Find("model.layers.1.mlp.up_proj.weight")->values[5 * 24 + 11] = 1;
  const std::string source = FolderOf(model, DType::kF32);
  const std::string output = MakeTestFolder() + "/sparse";
  const auto report = WriteSparse24Folder(*LoadFolder(source), output);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->kept,
              ElementsAre("model.layers.1.mlp.up_proj", "lm_head"));
  EXPECT_EQ(LinearValues(*LoadFolder(output)),
            LinearValues(*LoadFolder(source)));
}

TEST(ReadBack, RemovesWhatIsAnotherModel) {
  const TestModel model = Pruned(MakeTestModel("llama"));
  const auto original = LoadFolder(FolderOf(model, DType::kF32));
  TestModel other = model;
  other.Find("model.layers.1.mlp.up_proj.weight")->values[5 * 24 + 9] += 1;
  const std::string folder = FolderOf(other, DType::kF32);
  EXPECT_TRUE(ReadBack(*LoadFolder(folder), folder).ok());
  const absl::Status status = ReadBack(*original, folder);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("layers.1.mlp.up_proj: row 5"));
  EXPECT_FALSE(Checkpoint::Open(folder).ok());
}

}  // namespace
}  // namespace qeff
