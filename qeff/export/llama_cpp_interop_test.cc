// SPDX-License-Identifier: Apache-2.0
//
// Files of llama.cpp's own quantizer, from the npm package that
// `tools/setup.sh --interop` installs: what is imported of them is what is
// imported of files that qeff wrote in the same types, and their format is
// read. Needs QEFF_SHARED_DATA and QEFF_NODE_MODULES.

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/import_gguf.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/export/write_quantized_folder.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

// The beginning of llama.h's llama_model_quantize_params, with room for the
// rest of it.
struct QuantizeParams {
  int32_t threads;
  int32_t file_type;
  int32_t output_type;
  int32_t embedding_type;
  bool allow_requantize;
  bool quantize_output;
  bool only_copy;
  bool pure;
  uint8_t rest[236];
};

class LlamaCppInteropTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("QEFF_SHARED_DATA");
    if (data == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
    model_ = std::string(data) + "/tinystories6m";
    const char* modules = std::getenv("QEFF_NODE_MODULES");
    const std::string folder = std::string(modules == nullptr ? "" : modules) +
                               "/@node-llama-cpp/linux-x64/bins/linux-x64/";
    // In the order of what needs what; never closed, as threads may live.
    for (const char* name :
         {"libggml-base.so", "libggml.v0.5.0.so", "libllama.v0.5.0.so"}) {
      library_ = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_GLOBAL);
      if (library_ == nullptr) GTEST_SKIP() << dlerror();
    }
    Find<void(const char*)>("ggml_backend_load_all_from_path")(folder.c_str());
    Find<void()>("llama_backend_init")();
  }

  template <typename Function>
  Function* Find(const char* name) {
    void* symbol = dlsym(library_, name);
    EXPECT_NE(symbol, nullptr) << name;
    return reinterpret_cast<Function*>(symbol);
  }

  std::string Write(const GgufModelTypes& types) {
    const auto model = *Transformer::Load(*Checkpoint::Open(model_));
    const auto tokenizer = *Tokenizer::FromFolder(model_);
    const auto pool = *CreateThreadPool(2);
    std::string path = MakeTestFolder() + "/ours.gguf";
    const auto report =
        WriteGgufModel(*model, tokenizer->tables(), types, path, pool.get());
    EXPECT_TRUE(report.ok()) << report.status();
    return path;
  }

  static std::shared_ptr<const Checkpoint> Import(
      const std::string& path, GgufBlocks blocks = GgufBlocks::kKeep) {
    const std::string folder = MakeTestFolder() + "/out";
    const auto report = ImportGguf(path, folder, blocks);
    EXPECT_TRUE(report.ok()) << report.status();
    return *Checkpoint::Open(folder);
  }

  std::string model_;
  void* library_ = nullptr;
};

// The files that people have: llama.cpp's own mix of types.
TEST_F(LlamaCppInteropTest, MixedFilesKeepTheirBlocks) {
  const std::string f32 =
      Write({GgmlType::kF32, GgmlType::kF32, GgmlType::kF32});
  QuantizeParams params =
      Find<QuantizeParams()>("llama_model_quantize_default_params")();
  auto* quantize =
      Find<uint32_t(const char*, const char*, const QuantizeParams*)>(
          "llama_model_quantize");
  for (const char* name : {"Q4_0", "Q4_K_M"}) {
    SCOPED_TRACE(name);
    const bool q4_0 = name == std::string("Q4_0");
    params.threads = 1;
    params.file_type = q4_0 ? 2 : 15;
    const std::string path = MakeTestFolder() + "/theirs.gguf";
    ASSERT_EQ(quantize(f32.c_str(), path.c_str(), &params), 0u);
    const auto blocks = *Transformer::Load(Import(path));
    ASSERT_TRUE(blocks->quantization().has_value());
    // q_proj and the like, and those that get more bits.
    EXPECT_EQ(blocks->quantization()->groups().size(), 2u);
    const auto floats = *Transformer::Load(Import(path, GgufBlocks::kFloat));
    const auto expected = LinearValues(*floats);
    EXPECT_EQ(LinearValues(*blocks), expected);
    for (const QuantizedLayout layout :
         {QuantizedLayout::kAwq, QuantizedLayout::kGptq,
          QuantizedLayout::kCompressedTensors}) {
      SCOPED_TRACE(QuantizedLayoutName(layout));
      const std::string folder = MakeTestFolder() + "/out";
      const auto report = WriteQuantizedFolder(*blocks, layout, folder);
      ASSERT_EQ(report.ok(), q4_0) << report.status();
      if (!q4_0) continue;
      EXPECT_EQ(report->layers, 6 * 7);
      EXPECT_EQ(LinearValues(*LoadFolder(folder)), expected);
    }
  }
}

struct Pure {
  GgmlType type;
  int32_t file_type;
};

TEST_F(LlamaCppInteropTest, TheSameTensorsAsOfOurFiles) {
  const std::string f32 =
      Write({GgmlType::kF32, GgmlType::kF32, GgmlType::kF32});
  QuantizeParams params =
      Find<QuantizeParams()>("llama_model_quantize_default_params")();
  ASSERT_EQ(params.threads, 0);
  ASSERT_TRUE(params.quantize_output && !params.only_copy && !params.pure);
  auto* quantize =
      Find<uint32_t(const char*, const char*, const QuantizeParams*)>(
          "llama_model_quantize");
  for (const Pure& pure :
       {Pure{GgmlType::kQ8_0, 7}, Pure{GgmlType::kQ4_0, 2},
        Pure{GgmlType::kQ4_K, 14}, Pure{GgmlType::kQ5_K, 16},
        Pure{GgmlType::kQ6_K, 18}, Pure{GgmlType::kQ4_1, 3},
        Pure{GgmlType::kQ5_0, 8}, Pure{GgmlType::kQ5_1, 9}}) {
    SCOPED_TRACE(FindGgmlType(pure.type)->name);
    params.threads = 1;
    params.file_type = pure.file_type;
    params.output_type = static_cast<int32_t>(GgmlType::kQ8_0);
    params.embedding_type = params.output_type;
    params.pure = true;
    const std::string path = MakeTestFolder() + "/theirs.gguf";
    ASSERT_EQ(quantize(f32.c_str(), path.c_str(), &params), 0u);
    const auto theirs = Import(path);
    const auto ours =
        Import(Write({pure.type, GgmlType::kQ8_0, GgmlType::kQ8_0}));
    EXPECT_EQ(theirs->config(), ours->config());
    ASSERT_EQ(theirs->tensors().size(), ours->tensors().size());
    for (const TensorInfo& info : theirs->tensors()) {
      const auto found = ours->Get(info.name, info.shape);
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(found->bytes, theirs->Get(info.name)->bytes) << info.name;
    }
  }
}

}  // namespace
}  // namespace qeff
