// SPDX-License-Identifier: Apache-2.0
//
// Exported folders, decoded by PyTorch: decode_gptq_awq.py.

#include <sys/wait.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/write_quantized_folder.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

constexpr char kScript[] = "qeff/export/decode_gptq_awq.py";

// Whether PyTorch has decoded the models in `folders`.
bool Decode(const std::vector<std::string>& folders) {
  std::string command = std::string("/usr/bin/python3 ") + kScript;
  for (const std::string& folder : folders) command += " '" + folder + "'";
  const int status = std::system(command.c_str());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return false;
  EXPECT_EQ(status, 0) << command;
  return true;
}

// Compares every quantized layer of the model in `folder`.
void Compare(const std::string& folder) {
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
  EXPECT_EQ(compared, 14);
}

TEST(GptqAwqInteropTest, PyTorchDecodesTheSameBits) {
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

TEST(GptqAwqInteropTest, PyTorchDecodesActivationOrder) {
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
