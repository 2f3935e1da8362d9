// SPDX-License-Identifier: Apache-2.0
//
// Exported folders, decoded by PyTorch: decode_folder.py.

#include <sys/wait.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/write_quantized_folder.h"
#include "qeff/export/write_sparse_24_folder.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/model_map.h"

namespace qeff {
namespace {

constexpr char kScript[] = "qeff/export/decode_folder.py";

// Whether PyTorch has decoded the models in `folders`.
bool Decode(const std::vector<std::string>& folders) {
  std::string command = std::string("/usr/bin/python3 ") + kScript;
  for (const std::string& folder : folders) command += " '" + folder + "'";
  const int status = std::system(command.c_str());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return false;
  EXPECT_EQ(status, 0) << command;
  return true;
}

// Compares every quantized layer of the model in `folder`, of which there are
// `layers`.
void Compare(const std::string& folder, int layers = 14) {
  const auto model = LoadFolder(folder);
  int compared = 0;
  for (const LinearModule& module : model->map().Linears()) {
    if (module.block < 0) continue;
    const std::string bytes =
        ReadTestFile(folder + "/" + module.module + ".f32");
    const auto weights = model->LoadLinear(module.block, module.role);
    ASSERT_TRUE(weights.ok()) << weights.status();
    const auto values = weights->weight.span();
    ASSERT_EQ(bytes.size(), values.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(bytes.data(), values.data(), bytes.size()), 0)
        << module.module;
    ++compared;
  }
  EXPECT_EQ(compared, layers);
}

TEST(QuantizedFolderInteropTest, PyTorchDecodesGptqAndAwq) {
  std::vector<std::string> folders;
  for (const char* scheme :
       {"int2_g32", "int3_g32", "int4_g32", "int4", "int8_g32"}) {
    for (const bool symmetric : {true, false}) {
      QuantizeOptions options;
      options.scheme = *ParseQuantScheme(scheme);
      options.scheme.symmetric = symmetric;
      const auto model = LoadFolder(QuantizedFolder(WideLlama(), options));
      for (const QuantizedLayout layout :
           {QuantizedLayout::kGptq, QuantizedLayout::kGptqV2,
            QuantizedLayout::kAwq}) {
        if (layout == QuantizedLayout::kAwq && options.scheme.bits != 4) {
          continue;
        }
        SCOPED_TRACE(testing::Message() << scheme << " " << symmetric << " "
                                        << QuantizedLayoutName(layout));
        const std::string folder = MakeTestFolder() + "/exported";
        const auto report = WriteQuantizedFolder(*model, layout, folder);
        ASSERT_TRUE(report.ok()) << report.status();
        folders.push_back(folder);
      }
    }
  }
  if (!Decode(folders)) GTEST_SKIP() << "python3-torch is not installed";
  for (const std::string& folder : folders) {
    SCOPED_TRACE(LoadFolder(folder)->checkpoint().config().dump());
    Compare(folder);
  }
}

TEST(QuantizedFolderInteropTest, PyTorchDecodesCompressedTensors) {
  std::vector<std::string> folders;
  for (const char* scheme : {"int2_g32", "int4_g32", "int4", "int8_g32", "int8",
                             "fp8_e4m3", "mxfp4", "w8a8"}) {
    for (const bool symmetric : {true, false}) {
      QuantizeOptions options;
      options.scheme = *ParseQuantScheme(scheme);
      const bool integers = absl::StartsWith(scheme, "int");
      if (!symmetric && !integers) continue;
      options.scheme.symmetric = symmetric;
      const std::string folder = MakeTestFolder() + "/exported";
      const auto report = WriteQuantizedFolder(
          *LoadFolder(QuantizedFolder(WideLlama(), options)),
          QuantizedLayout::kCompressedTensors, folder);
      ASSERT_TRUE(report.ok()) << report.status();
      folders.push_back(folder);
    }
  }
  if (!Decode(folders)) GTEST_SKIP() << "python3-torch is not installed";
  for (const std::string& folder : folders) {
    SCOPED_TRACE(LoadFolder(folder)->checkpoint().config().dump());
    Compare(folder);
  }
}

TEST(QuantizedFolderInteropTest, PyTorchDecodesEveryFamily) {
  std::vector<std::pair<std::string, int>> folders;  // and layers
  std::vector<std::string> paths;
  for (const std::string& family : SupportedModelTypes()) {
    SCOPED_TRACE(family);
    // Heads for whole words of k and v.
    const bool one_kind_of_head = family == "gpt2" || family == "mpt";
    QuantizeOptions options;
    options.scheme = *ParseQuantScheme("int4_g8");
    const auto model = LoadFolder(QuantizedFolder(
        MakeTestModel(
            family, one_kind_of_head ? "{}" : R"({"num_key_value_heads": 6})"),
        options));
    const int layers =
        static_cast<int>(2 * model->map().blocks[0].linears.size());
    for (const QuantizedLayout layout :
         {QuantizedLayout::kGptq, QuantizedLayout::kAwq,
          QuantizedLayout::kCompressedTensors}) {
      if (layout == QuantizedLayout::kCompressedTensors && family == "gpt2") {
        continue;  // which does not know its layers
      }
      const std::string folder = MakeTestFolder() + "/exported";
      const auto report = WriteQuantizedFolder(*model, layout, folder);
      ASSERT_TRUE(report.ok()) << report.status();
      folders.emplace_back(folder, layers);
      paths.push_back(folder);
    }
  }
  if (!Decode(paths)) GTEST_SKIP() << "python3-torch is not installed";
  for (const auto& [folder, layers] : folders) {
    SCOPED_TRACE(LoadFolder(folder)->checkpoint().config().dump());
    Compare(folder, layers);
  }
}

// 2:4, whose floats are what they were.
TEST(QuantizedFolderInteropTest, PyTorchDecodesSparseFolders) {
  TestModel pruned = WideLlama();
  for (TestTensor& tensor : pruned.tensors) {
    if (!absl::StrContains(tensor.name, "_proj.weight")) continue;
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      if (i / 2 % 2 == i / 4 % 2) tensor.values[i] = 0;
    }
  }
  const std::string folder = MakeTestFolder() + "/exported";
  const auto report = WriteSparse24Folder(
      *LoadFolder(OpenTestModel(pruned, DType::kBF16)->folder()), folder);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->layers, 14);
  if (!Decode({folder})) GTEST_SKIP() << "python3-torch is not installed";
  Compare(folder);
}

TEST(QuantizedFolderInteropTest, PyTorchDecodesActivationOrder) {
  QuantizeOptions options;
  options.scheme = *ParseQuantScheme("int4_g32");
  options.scheme.symmetric = false;
  const auto model = LoadFolder(QuantizedFolder(WideLlama(), options));
  const std::string folder = MakeTestFolder() + "/exported";
  ASSERT_TRUE(
      WriteQuantizedFolder(*model, QuantizedLayout::kGptq, folder).ok());
  std::vector<int32_t> groups;
  for (int32_t c = 0; c < 96; ++c) groups.push_back(c * 5 % 3);
  std::string bytes(groups.size() * 4, '\0');
  std::memcpy(&bytes[0], groups.data(), bytes.size());
  const std::string ordered =
      FolderWith(folder, {{"model.layers.0.self_attn.q_proj.g_idx", bytes},
                          {"model.layers.1.mlp.up_proj.g_idx", bytes}});
  if (!Decode({ordered})) GTEST_SKIP() << "python3-torch is not installed";
  Compare(ordered);
}

}  // namespace
}  // namespace qeff
