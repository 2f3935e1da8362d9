// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/awq_folds.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 40;

// Normal, with a channel in eight that is ten times as large.
Matrix<float> Inputs(int64_t cols, uint64_t seed) {
  Matrix<float> x(kRows, cols);
  const Random random(seed);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      x.row(r)[c] = random.NormalAt(static_cast<uint64_t>(r * cols + c)) *
                    (c % 8 == 5 ? 10.0f : 1.0f);
    }
  }
  return x;
}

struct Case {
  const char* shape;
  DType dtype;
  FoldSearch search = FoldSearch::kAwq;
};

class AwqFoldsTest : public ::testing::TestWithParam<Case> {
 protected:
  void Load(const std::string& ignore) {
    model_ = Transformer::Load(Checkpoint::Open(SynthModel(GetParam().shape,
                                                           GetParam().dtype))
                                   .value())
                 .value();
    QuantizeOptions options = OptionsFor(
        GetParam().search == FoldSearch::kAwq ? "int3_g32" : "w8a8_static");
    options.ignore = ignore;
    plan_ =
        PlanQuantization(model_->checkpoint(), model_->map(), options).value();
    if (model_->spec().position == PositionKind::kRope) {
      rope_ = RopeTable(model_->spec(), kRows);
    } else if (model_->spec().position == PositionKind::kAlibi) {
      for (double slope : AlibiSlopes(model_->spec())) {
        alibi_.push_back(static_cast<float>(slope));
      }
    }
  }

  // With `bad_ffn_` those of gate and up are not finite.
  BlockInputs SomeInputs(const StatisticsOptions& wanted) {
    const TransformerSpec& spec = model_->spec();
    BlockInputs inputs{InputStatistics(spec.hidden_size, wanted),
                       InputStatistics(spec.q_size(), wanted),
                       InputStatistics(spec.hidden_size, wanted),
                       InputStatistics(spec.ffn_size, wanted)};
    uint64_t seed = 10;
    for (InputStatistics* part :
         {&inputs.qkv, &inputs.o, &inputs.ffn, &inputs.down}) {
      Matrix<float> rows = Inputs(part->features(), seed++);
      if (bad_ffn_ && part == &inputs.ffn) {
        rows.row(7)[3] = std::numeric_limits<float>::infinity();
      }
      part->Add(rows.view(), *pool_);
    }
    return inputs;
  }

  // Block 1, with `folds` or without; `norms` are set to its norms.
  Matrix<float> RunBlock(AwqFolds* folds, BlockWeights* norms) {
    HostBlock block = HostBlock::LoadNorms(*model_, 1).value();
    if (folds != nullptr) {
      BlockInputs inputs = SomeInputs(folds->Wanted());
      const absl::Status status = folds->Search(1, &inputs, &block.norms());
      EXPECT_TRUE(status.ok()) << status;
    }
    for (const LinearModule& module : model_->map().blocks[1].linears) {
      CalibratedLinear layer{&module,
                             model_->LoadLinear(1, module.role).value()};
      if (folds != nullptr) {
        folds->Apply(&layer);
        changed_ += layer.weights.weight.row(0)[5] !=
                    model_->LoadLinear(1, module.role)->weight.row(0)[5];
      }
      EXPECT_TRUE(block.SetLinear(module, layer.weights, *pool_).ok());
    }
    norms->attention_norm = block.norms().attention_norm;
    norms->ffn_norm = block.norms().ffn_norm;
    HostScratch scratch;
    HostBlockContext context;
    context.spec = &model_->spec();
    context.pool = pool_.get();
    context.scratch = &scratch;
    context.rope = &rope_;
    context.alibi = alibi_;
    Matrix<float> x = Inputs(model_->spec().hidden_size, 3);
    EXPECT_TRUE(block.Run(context, {kRows}, x.view()).ok());
    return x;
  }

  std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
  std::shared_ptr<const Transformer> model_;
  QuantizePlan plan_;
  RopeTable rope_;
  std::vector<float> alibi_;
  int changed_ = 0;  // layers
  bool bad_ffn_ = false;
};

// The block computes the same to float32's rounding, whatever type its norms
// are stored in.
TEST_P(AwqFoldsTest, LeavesTheBlockAsItIs) {
  Load("");
  AwqFolds folds(*model_, plan_, *pool_, FoldOptions{GetParam().search});
  BlockWeights norms;
  const Matrix<float> expected = RunBlock(nullptr, &norms);
  const std::vector<float> before = norms.attention_norm.weight;
  const Matrix<float> found = RunBlock(&folds, &norms);
  double difference = 0, size = 0;
  for (int64_t i = 0; i < expected.rows() * expected.cols(); ++i) {
    const double d = static_cast<double>(found.data()[i]) -
                     static_cast<double>(expected.data()[i]);
    difference += d * d;
    size += static_cast<double>(expected.data()[i]) *
            static_cast<double>(expected.data()[i]);
  }
  EXPECT_LT(std::sqrt(difference / size), 1e-5);
  EXPECT_NE(norms.attention_norm.weight, before);
  EXPECT_GE(changed_, 3);

  // Everything that has to be written, as it is read again.
  const auto tensors = folds.Changed(norms);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ(tensors->size(), folds.NamesOf(1).size());
  EXPECT_GE(tensors->size(), 2u);
  const std::string& norm = model_->map().blocks[1].attention_norm.weight;
  for (const AwqFolds::ChangedTensor& tensor : *tensors) {
    const TensorView view = model_->checkpoint().Get(tensor.name).value();
    ASSERT_EQ(tensor.bytes.size(), view.bytes.size());
    if (tensor.name != norm) continue;
    std::vector<float> stored(norms.attention_norm.weight.size());
    ReadFloats({view.dtype, view.shape, tensor.bytes}, 0,
               absl::MakeSpan(stored));
    EXPECT_EQ(stored, norms.attention_norm.weight);
  }
}

// What is not to be quantized is not to be scaled either.
TEST_P(AwqFoldsTest, IgnoredLayersStay) {
  Load("attn|attention");
  AwqFolds folds(*model_, plan_, *pool_, FoldOptions{GetParam().search});
  BlockWeights original, norms;
  RunBlock(nullptr, &original);
  RunBlock(&folds, &norms);
  EXPECT_EQ(norms.attention_norm.weight, original.attention_norm.weight);
  EXPECT_NE(norms.ffn_norm.weight, original.ffn_norm.weight);
}

TEST_P(AwqFoldsTest, InputsThatAreNotFiniteStay) {
  Load("");
  AwqFolds folds(*model_, plan_, *pool_, FoldOptions{GetParam().search});
  BlockWeights original, norms;
  RunBlock(nullptr, &original);
  bad_ffn_ = true;
  RunBlock(&folds, &norms);
  EXPECT_EQ(norms.ffn_norm.weight, original.ffn_norm.weight);
  EXPECT_NE(norms.attention_norm.weight, original.attention_norm.weight);
  for (const LinearModule& module : model_->map().blocks[1].linears) {
    EXPECT_EQ(folds.Skipped(module.module), module.role == LinearRole::kGate ||
                                                module.role == LinearRole::kUp)
        << module.module;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, AwqFoldsTest,
                         ::testing::Values(Case{"tiny", DType::kF32},
                                           Case{"tiny", DType::kBF16},
                                           Case{"tiny", DType::kF16},
                                           Case{"tiny-qwen2", DType::kF32},
                                           Case{"tiny-qwen3", DType::kBF16},
                                           Case{"tiny-gpt2", DType::kF32},
                                           Case{"tiny-mpt", DType::kF32}));
INSTANTIATE_TEST_SUITE_P(
    SmoothQuant, AwqFoldsTest,
    ::testing::Values(Case{"tiny", DType::kBF16, FoldSearch::kSmoothQuant},
                      Case{"tiny-qwen2", DType::kF32, FoldSearch::kSmoothQuant},
                      Case{"tiny-gpt2", DType::kF32, FoldSearch::kSmoothQuant},
                      Case{"tiny-mpt", DType::kF32, FoldSearch::kSmoothQuant}));

}  // namespace
}  // namespace qeff
