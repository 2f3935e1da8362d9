// SPDX-License-Identifier: Apache-2.0
//
// Quantized folders of all layouts whose quantization_config, header of tensors
// or tensors say anything: what is not refused, with an error that names the
// file, can be read and run.

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/write_quantized_folder.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/mutate_testutil.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

struct Layout {
  const char* name;
  const char* scheme;
  QuantizedLayout layout;  // kQeff: as it was quantized
};

void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }

const Layout kLayouts[] = {
    {"compressed_tensors", "int4_g32", QuantizedLayout::kCompressedTensors},
    {"signed_bytes", "w8a8", QuantizedLayout::kQeff},
    {"float8", "fp8_e4m3", QuantizedLayout::kQeff},
    {"gptq", "int4_g32", QuantizedLayout::kGptq},
    {"gptq_v2", "int3_g32", QuantizedLayout::kGptqV2},
    {"awq", "int4_g32", QuantizedLayout::kAwq},
    {"codebook", "nf4_g32", QuantizedLayout::kQeff},
    {"blocks", "q4_0", QuantizedLayout::kQeff},
};

class HostileFolderTest : public ::testing::TestWithParam<Layout> {
 protected:
  void SetUp() override {
    QuantizeOptions options;
    options.scheme = *ParseQuantScheme(GetParam().scheme);
    folder_ = QuantizedFolder(WideLlama(), options, DType::kBF16);
    if (GetParam().layout != QuantizedLayout::kQeff) {
      const std::string output = MakeTestFolder() + "/exported";
      const auto report =
          WriteQuantizedFolder(*LoadFolder(folder_), GetParam().layout, output);
      ASSERT_TRUE(report.ok()) << report.status();
      folder_ = output;
    }
    ASSERT_TRUE(Run().ok()) << Run();
  }

  // Reads all weights of the folder, and runs the model.
  absl::Status Run() const {
    QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder_));
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                          Transformer::Load(std::move(checkpoint)));
    for (int64_t b = 0; b < model->spec().num_layers; ++b) {
      QEFF_RETURN_IF_ERROR(model->LoadBlock(b).status());
    }
    QEFF_RETURN_IF_ERROR(model->LoadLinear(-1, LinearRole::kLmHead).status());
    QEFF_ASSIGN_OR_RETURN(auto forward,
                          HostForward::Create(model, pool_.get()));
    const absl::Status status = forward->LogitsOf(TestTokens(3)).status();
    // Of tokens, not of the file.
    return status.ok() ? status : absl::Status(status.code(), folder_);
  }

  // Runs the folder with each of these as the file `name`.
  int RunEach(const std::string& name, const std::vector<std::string>& files) {
    return ReadEach(files, folder_, [&](const std::string& bytes) {
      WriteTestFile(folder_ + "/" + name, bytes);
      return Run();
    });
  }

  std::string folder_;
  const std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(1);
};

TEST_P(HostileFolderTest, Config) {
  const std::string text = ReadTestFile(folder_ + "/config.json");
  const Json config = *ParseJson(text, "config.json");
  std::vector<std::string> files;
  for (const Json& variant : JsonVariants(config["quantization_config"])) {
    Json changed = config;
    changed["quantization_config"] = variant;
    files.push_back(changed.dump());
  }
  Random random(1);
  for (int i = 0; i < 100; ++i) files.push_back(Damaged(text, &random));
  const int accepted = RunEach("config.json", files);
  EXPECT_GT(accepted, 3);
  EXPECT_LT(accepted, static_cast<int>(files.size()) / 2);
}

TEST_P(HostileFolderTest, Header) {
  const std::string file = ReadTestFile(folder_ + "/model.safetensors");
  uint64_t size;
  std::memcpy(&size, file.data(), sizeof(size));
  const std::string header = file.substr(8, size);
  const std::string data = file.substr(8 + size);
  // Of a layer, not of the first tensors alone.
  Json layer = Json::object();
  Json tensors = *ParseJson(header, "header");
  std::vector<std::string> headers;
  for (const auto& item : tensors.items()) {
    if (item.key().find("layers.0.mlp.up_proj") != std::string::npos) {
      layer[item.key()] = item.value();
    }
  }
  ASSERT_GT(layer.size(), 1u);
  for (const auto& item : layer.items()) tensors.erase(item.key());
  for (Json& variant : JsonVariants(layer)) {
    if (!variant.is_object()) continue;
    Json changed = tensors;
    changed.update(variant);
    headers.push_back(changed.dump());
  }
  Random random(2);
  for (int i = 0; i < 100; ++i) headers.push_back(Damaged(header, &random));
  std::vector<std::string> files;
  for (const std::string& changed : headers) {
    files.push_back(SafetensorsBytes(changed, data));
  }
  EXPECT_LT(RunEach("model.safetensors", files),
            static_cast<int>(files.size()) / 10);
}

// What tensors hold: codes, zero points, indices, scales and shapes.
TEST_P(HostileFolderTest, Data) {
  const std::string file = ReadTestFile(folder_ + "/model.safetensors");
  uint64_t size;
  std::memcpy(&size, file.data(), sizeof(size));
  Random random(3);
  std::vector<std::string> files;
  for (int i = 0; i < 200; ++i) {
    std::string data = file.substr(8 + size);
    // Much at once, or most would fall on codes, which may be anything.
    for (int j = 0; j < 5; ++j) data = Damaged(data, &random);
    data.resize(file.size() - 8 - size);
    files.push_back(file.substr(0, 8 + size) + data);
  }
  EXPECT_LT(RunEach("model.safetensors", files), 200);
}

INSTANTIATE_TEST_SUITE_P(Layouts, HostileFolderTest,
                         ::testing::ValuesIn(kLayouts),
                         [](const ::testing::TestParamInfo<Layout>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace qeff
