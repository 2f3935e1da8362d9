// SPDX-License-Identifier: Apache-2.0
//
// onnx.checker accepts what is exported: every family, both variants, graphs
// with and without a cache, quantized weights. Needs Debian's python3-onnx,
// which `tools/setup.sh --interop` installs.

#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/export/onnx/export_onnx.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/quant/quantize_checkpoint.h"

namespace qeff {
namespace {

constexpr char kPython[] = "/usr/bin/python3";

class CheckerTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string probe = absl::StrCat(kPython, " -c 'import onnx' 2>&1");
    if (std::system(probe.c_str()) != 0) GTEST_SKIP() << "no python3-onnx";
  }

  static std::shared_ptr<const Transformer> Load(const std::string& folder) {
    return Transformer::Load(Checkpoint::Open(folder).value()).value();
  }

  void Add(const absl::StatusOr<OnnxReport>& report, const std::string& path) {
    EXPECT_TRUE(report.ok()) << report.status();
    absl::StrAppend(&paths_, " ", path);
  }

  void Check() const {
    const std::string command = absl::StrCat(
        kPython, " qeff/export/onnx/interop/check_onnx.py", paths_);
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }

  const std::string folder_ = MakeTestFolder();
  std::string paths_;
};

TEST_F(CheckerTest, EveryFamilyAndVariant) {
  for (const char* shape : {"tiny", "tiny-mistral", "tiny-qwen2", "tiny-qwen3",
                            "tiny-gpt2", "tiny-mpt"}) {
    const auto model = Load(SynthModel(shape));
    for (const OnnxVariant variant :
         {OnnxVariant::kAic, OnnxVariant::kPortable}) {
      for (const bool slots : {false, true}) {
        CausalLmOptions options;
        options.variant = variant;
        options.continuous_batching = slots;
        options.speculative_target = slots;
        options.compute_context_lengths = slots;
        const std::string path =
            absl::StrCat(folder_, "/", shape, int(variant), slots, ".onnx");
        Add(ExportCausalLmOnnx(*model, options, path), path);
      }
    }
    const std::string path = absl::StrCat(folder_, "/", shape, "h.onnx");
    Add(ExportHiddenStatesOnnx(*model, OnnxPooling::kMean, path), path);
  }
  Check();
}

TEST_F(CheckerTest, QuantizedWeights) {
  const auto pool = CreateThreadPool(2).value();
  for (const char* scheme : {"int4_g32", "int8", "w8a8", "int3_g32"}) {
    const TestModel model(SynthModel("tiny"));
    const auto plan = model.Plan(OptionsFor(scheme));
    ASSERT_TRUE(plan.ok()) << plan.status();
    const std::string folder = MakeTestFolder() + "/quantized";
    ASSERT_EQ(QuantizeCheckpoint(*model.checkpoint, *plan, folder, *pool),
              absl::OkStatus());
    const std::string path = folder + "/model.onnx";
    Add(ExportCausalLmOnnx(*Load(folder), {}, path), path);
  }
  Check();
}

}  // namespace
}  // namespace qeff
