// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/autoround_solver.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::shared_ptr<const Transformer> LoadModel(const std::string& folder) {
  return Transformer::Load(Checkpoint::Open(folder).value()).value();
}

TokenSample RandomTokens(const TransformerSpec& spec) {
  TokenSample sample;
  Random random(5);
  for (const int length : {40, 7, 64, 33}) {
    std::vector<int32_t> sequence;
    for (int i = 0; i < length; ++i) {
      sequence.push_back(static_cast<int32_t>(
          random.NextBelow(static_cast<uint64_t>(spec.vocab_size))));
    }
    sample.tokens += length;
    sample.sequences.push_back(std::move(sequence));
  }
  return sample;
}

class AutoRoundSolverTest : public ::testing::Test {
 protected:
  void Begin(const std::string& model, const std::string& scheme,
             bool symmetric = true) {
    model_ = LoadModel(model);
    QuantizeOptions options = OptionsFor(scheme);
    options.scheme.symmetric = symmetric;
    plan_ =
        PlanQuantization(model_->checkpoint(), model_->map(), options).value();
    sample_ = RandomTokens(model_->spec());
  }

  static CalibratedQuantizeOptions Options(bool awq = false) {
    CalibratedQuantizeOptions options;
    if (awq) options.solver.folds = FoldSearch::kAwq;
    options.autoround_iterations = 30;
    return options;
  }

  absl::StatusOr<CalibratedQuantizeResult> Quantize(
      const std::string& name, const CalibratedQuantizeOptions& options,
      int threads = 2) const {
    const auto pool = CreateThreadPool(threads).value();
    return QuantizeCalibrated(*model_, plan_, sample_, folder_ + name, options,
                              *pool);
  }

  // The bytes of all tensors.
  std::string BytesOf(const std::string& name) const {
    return ReadFileToString(folder_ + name + "/model.safetensors", 1 << 30)
        .value();
  }

  std::shared_ptr<const Transformer> model_;
  QuantizePlan plan_;
  TokenSample sample_;
  const std::string folder_ = MakeTestFolder() + "/";
};

// From rounding, where codes change, too, and from GPTQ; with fused, transposed
// and biased layers, groups that do not divide the rows, and zero points.
TEST_F(AutoRoundSolverTest, BlocksAreNeverWorse) {
  struct Case {
    std::string shape, scheme;
    bool symmetric, gptq;
  };
  for (const Case& c :
       {Case{"tiny", "int2_g32", true, false},
        Case{"tiny", "int4_g32", true, true},
        Case{"tiny-gpt2", "int3_g40", false, true},
        Case{"blocks", "q4_0", true, true}, Case{"blocks", "q4_k", true, true},
        Case{"blocks", "q6_k", true, false},
        Case{"tiny", "nf4_g32", true, true},
        Case{"tiny", "mxfp4", true, false}}) {
    SCOPED_TRACE(c.scheme);
    Begin(c.shape == "blocks" ? SynthBlockModel() : SynthModel(c.shape),
          c.scheme, c.symmetric);
    CalibratedQuantizeOptions options = Options();
    options.solver.propagate = c.gptq;
    const auto result = Quantize(c.scheme, options);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->blocks.size(),
              static_cast<size_t>(model_->spec().num_layers));
    double before = 0, after = 0;
    for (const BlockReport& block : result->blocks) {
      EXPECT_GT(block.loss_after, 0);
      EXPECT_LE(block.loss_after, block.loss_before);
      before += block.loss_before;
      after += block.loss_after;
    }
    EXPECT_LT(after, before);
    EXPECT_GT(result->estimate.tune_flops, 0);
    EXPECT_TRUE(LoadModel(folder_ + c.scheme)->quantization().has_value());
  }
}

// Interrupted after the first block, and with another number of threads; norms
// are written here, and with AWQ's scales by GptqSolver.
TEST_F(AutoRoundSolverTest, SameBytes) {
  Begin(SynthModel("tiny"), "int4_g32");
  for (const bool awq : {false, true}) {
    SCOPED_TRACE(awq);
    const std::string whole = absl::StrCat("whole", awq);
    const std::string resumed = absl::StrCat("resumed", awq);
    const auto result = Quantize(whole, Options(awq));
    ASSERT_TRUE(result.ok()) << result.status();
    const auto written = LoadModel(folder_ + whole);
    const std::string norm = model_->map().blocks[0].ffn_norm.weight;
    EXPECT_NE(written->checkpoint().Get(norm)->bytes,
              model_->checkpoint().Get(norm)->bytes);

    CalibratedQuantizeOptions options = Options(awq);
    int64_t steps = 0;
    options.progress = [&](int64_t done, int64_t) { steps = done; };
    options.check = [&] {
      return steps > 0 ? absl::CancelledError("stop") : absl::OkStatus();
    };
    EXPECT_EQ(Quantize(resumed, options).status().code(),
              absl::StatusCode::kCancelled);
    options = Options(awq);
    options.unfinished = PartialWork::kResume;
    const auto again = Quantize(resumed, options, /*threads=*/1);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(BytesOf(resumed) == BytesOf(whole));
    ASSERT_EQ(again->blocks.size(), result->blocks.size());
    for (size_t i = 0; i < again->blocks.size(); ++i) {
      EXPECT_EQ(again->blocks[i].loss_after, result->blocks[i].loss_after);
    }
  }
}

// What is rounded to 8 bits needs what goes in as it will be.
TEST_F(AutoRoundSolverTest, InputCodesAreRefused) {
  Begin(SynthModel("tiny"), "w8a8");
  const absl::Status status = Quantize("out", Options()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("w8a8"));
  EXPECT_THAT(status.message(), HasSubstr("float inputs"));
  EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
}

}  // namespace
}  // namespace qeff
