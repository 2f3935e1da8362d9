// SPDX-License-Identifier: Apache-2.0
//
// The gradient of whole models of every family against differences of
// reference_testutil's logits, which share no code with it.

#include "qeff/train/model_gradient.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/gradient_testutil.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/peak_memory.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

const std::vector<int64_t> kLengths = {7, 2};
constexpr int64_t kTokens = 9;

std::shared_ptr<const Transformer> Load(const TestModel& model) {
  return *Transformer::Load(OpenTestModel(model));
}

std::vector<int32_t> Ids() {
  std::vector<int32_t> ids;
  for (int64_t length : kLengths) {
    for (int32_t id : TestTokens(length)) ids.push_back(id);
  }
  return ids;
}

TokenBatch Batch() {
  TokenBatch batch;
  batch.lengths = kLengths;
  batch.ids = Ids();
  return batch;
}

// sum(dlogits * logits).
class LinearLoss : public ModelLoss {
 public:
  explicit LinearLoss(MatrixView<const float> dlogits) : dlogits_(dlogits) {}

  void AtLogits(int64_t row, MatrixView<float> logits) override {
    for (int64_t r = 0; r < logits.rows(); ++r) {
      std::copy_n(dlogits_.row(row + r), logits.cols(), logits.row(r));
    }
  }

 private:
  MatrixView<const float> dlogits_;
};

ModelWeights GradientOf(const TransformerSpec& spec,
                        const ModelWeights& weights,
                        MatrixView<const float> dlogits, int threads,
                        bool recompute) {
  const auto pool = *CreateThreadPool(threads);
  ModelGradientOptions options;
  options.recompute = recompute;
  options.logit_rows = 4;
  ModelGradient model(spec, kTokens, options, pool.get());
  ModelWeights gradient = ZerosLike(weights);
  LinearLoss loss(dlogits);
  std::vector<int64_t> done;
  const absl::Status status =
      model.Run(weights, Batch(), loss, gradient,
                [&](int64_t part) { done.push_back(part); });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(done, (std::vector<int64_t>{2, 1, 0, -1}));
  return gradient;
}

double ReferenceLoss(const TestModel& model, MatrixView<const float> dlogits) {
  double loss = 0;
  int64_t row = 0;
  for (int64_t length : kLengths) {
    const Matrix<double> logits = ReferenceLogits(model, TestTokens(length));
    for (int64_t r = 0; r < length; ++r, ++row) {
      for (int64_t c = 0; c < logits.cols(); ++c) {
        loss += logits.row(r)[c] * dlogits.row(row)[c];
      }
    }
  }
  return loss;
}

// The derivative along `direction` of one tensor by the five-point rule, whose
// error is h^4/30 times the fifth derivative. Tensors hold float32: values and
// directions are multiples of 2^-15 and 2^-5 below 4, so that sums are exact.
double DerivativeAlong(TestModel model, size_t tensor,
                       const std::vector<float>& direction,
                       MatrixView<const float> dlogits) {
  const std::vector<float> values = model.tensors[tensor].values;
  const double h = std::ldexp(1.0, -8);
  const auto loss_at = [&](double steps) {
    for (size_t i = 0; i < values.size(); ++i) {
      model.tensors[tensor].values[i] =
          static_cast<float>(values[i] + steps * h * direction[i]);
    }
    return ReferenceLoss(model, dlogits);
  };
  return (8 * (loss_at(1) - loss_at(-1)) - (loss_at(2) - loss_at(-2))) /
         (12 * h);
}

float Rounded(float value, int bits) {
  return static_cast<float>(
      std::ldexp(std::nearbyint(std::ldexp(value, bits)), -bits));
}

// Loading a direction as a model brings it into the layout of the weights,
// whatever the checkpoint fuses or transposes.
void CheckModel(const std::string& family, const std::string& changes) {
  SCOPED_TRACE(family + " " + changes);
  TestModel model = MakeTestModel(family, changes);
  for (TestTensor& tensor : model.tensors) {
    for (float& value : tensor.values) value = Rounded(value, 15);
  }
  const auto loaded = Load(model);
  const TransformerSpec& spec = loaded->spec();
  const Matrix<float> dlogits = RandomMatrix(kTokens, spec.vocab_size, 5);
  const ModelWeights weights = *LoadModelWeights(*loaded);
  ModelWeights gradient = GradientOf(spec, weights, dlogits.view(), 2, false);
  ModelWeights other = GradientOf(spec, weights, dlogits.view(), 1, true);
  const std::vector<Parameter> parts = Parameters(gradient);
  const std::vector<Parameter> others = Parameters(other);
  double norm = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    EXPECT_EQ(std::memcmp(parts[p].values.data(), others[p].values.data(),
                          parts[p].values.size() * sizeof(float)),
              0)
        << parts[p].name;
    for (float value : parts[p].values) norm += value * value;
  }
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    TestModel along = model;
    const Random random(/*seed=*/3, t);
    double length = 0;
    for (TestTensor& tensor : along.tensors) {
      const bool this_one = &tensor == &along.tensors[t];
      for (size_t i = 0; i < tensor.values.size(); ++i) {
        tensor.values[i] =
            this_one ? Rounded(0.25f * random.NormalAt(i), 5) : 0.0f;
        length += tensor.values[i] * tensor.values[i];
      }
    }
    ModelWeights direction = *LoadModelWeights(*Load(along));
    const std::vector<Parameter> d = Parameters(direction);
    double actual = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
      for (size_t i = 0; i < parts[p].values.size(); ++i) {
        actual += static_cast<double>(parts[p].values[i]) * d[p].values[i];
      }
    }
    const double expected =
        DerivativeAlong(model, t, along.tensors[t].values, dlogits.view());
    // A gradient of a relative error e is off by e |gradient| |direction| at
    // most, and by far less along a random direction: a tenth of the e of
    // block_backward_test.
    EXPECT_NEAR(actual, expected, 1e-6 * std::sqrt(norm * length))
        << model.tensors[t].name;
  }
}

TEST(ModelGradientTest, WholeModelsAgreeWithDifferences) {
  CheckModel("llama", "{}");
  CheckModel("llama", R"({"tie_word_embeddings": true})");
  CheckModel("llama", R"({"rope_scaling": {"rope_type": "llama3", "factor": 4,
      "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 16}})");
  CheckModel("mistral", R"({"sliding_window": 3})");
  CheckModel("qwen2", R"({"tie_word_embeddings": true})");
  CheckModel("qwen3", "{}");
  CheckModel("gpt2", "{}");
  CheckModel("gpt2", R"({"tie_word_embeddings": false})");
  // Without clip_qkv and ReLU, whose kinks these steps would cross.
  CheckModel("mpt", "{}");
}

// Losses in the middle of a model: their gradients arrive.
class MiddleLoss : public LinearLoss {
 public:
  MiddleLoss(MatrixView<const float> zeros, int64_t layer)
      : LinearLoss(zeros), layer_(layer) {}

  bool WantsHidden(int64_t layer) const override { return layer == layer_; }
  void AtHidden(int64_t layer, MatrixView<const float> x,
                MatrixView<float> dx) override {
    EXPECT_EQ(layer, layer_);
    // Of |x|^2 / 2.
    for (int64_t r = 0; r < x.rows(); ++r) {
      for (int64_t c = 0; c < x.cols(); ++c) {
        dx.row(r)[c] += x.row(r)[c];
        value += 0.5 * x.row(r)[c] * x.row(r)[c];
      }
    }
  }
  bool WantsHeads(int64_t layer) const override { return layer == layer_; }
  void AtHeads(int64_t, MatrixView<const float> q, MatrixView<const float> k,
               MatrixView<float> dq, MatrixView<float> dk) override {
    // Of the sum of q and of twice k.
    for (int64_t r = 0; r < q.rows(); ++r) {
      for (int64_t c = 0; c < q.cols(); ++c) {
        dq.row(r)[c] += 1;
        value += q.row(r)[c];
      }
      for (int64_t c = 0; c < k.cols(); ++c) {
        dk.row(r)[c] += 2;
        value += 2 * k.row(r)[c];
      }
    }
  }

  double value = 0;

 private:
  const int64_t layer_;
};

TEST(ModelGradientTest, LossesInTheMiddleReachTheWeightsBefore) {
  const auto pool = *CreateThreadPool(2);
  const auto loaded = Load(MakeTestModel("qwen3"));
  const TransformerSpec& spec = loaded->spec();
  ModelWeights weights = *LoadModelWeights(*loaded);
  const Matrix<float> zeros(kTokens, spec.vocab_size);
  ModelGradient model(spec, kTokens, {}, pool.get());
  const auto run = [&](ModelWeights* gradient) {
    MiddleLoss loss(zeros.view(), 0);
    EXPECT_TRUE(model.Run(weights, Batch(), loss, *gradient).ok());
    return loss.value;
  };
  ModelWeights gradient = ZerosLike(weights);
  run(&gradient);
  // Nothing behind block 0 matters.
  for (const Parameter& part : Parameters(gradient)) {
    double norm = 0;
    for (const float value : part.values) norm += value * value;
    const bool behind =
        part.block == 1 || part.name == "lm_head" || part.name[0] == 'f';
    EXPECT_EQ(norm == 0, behind) << part.name;
  }
  ModelWeights unused = ZerosLike(weights);
  for (const char* name : {"tokens", "blocks.0.q.weight",
                           "blocks.0.down.weight", "blocks.0.k_norm.weight"}) {
    for (size_t p = 0; p < Parameters(weights).size(); ++p) {
      const Parameter part = Parameters(weights)[p];
      if (part.name != name) continue;
      const Random random(7);
      std::vector<float> before(part.values.begin(), part.values.end());
      double expected = 0, length = 0;
      std::vector<float> direction(before.size());
      for (size_t i = 0; i < before.size(); ++i) {
        direction[i] = random.NormalAt(i);
        expected += static_cast<double>(direction[i]) *
                    Parameters(gradient)[p].values[i];
        length += direction[i] * direction[i];
      }
      constexpr float kStep = 1.0f / 512;
      const auto at = [&](float step) {
        for (size_t i = 0; i < before.size(); ++i) {
          part.values[i] = before[i] + step * direction[i];
        }
        return run(&unused);
      };
      const double actual = (at(kStep) - at(-kStep)) / (2 * kStep);
      at(0);
      // Values of about 1000 in float32 sums: 1e-4 / kStep.
      EXPECT_NEAR(actual, expected, 0.01 * std::abs(expected) + 0.2) << name;
    }
  }
}

// What is resident while a gradient is computed, beyond what was before.
int64_t MemoryOf(const TransformerSpec& spec, const ModelWeights& weights,
                 const TokenBatch& batch, bool recompute) {
  const auto pool = *CreateThreadPool(1);
  ModelWeights gradient = ZerosLike(weights);
  const Matrix<float> zeros(static_cast<int64_t>(batch.ids.size()),
                            spec.vocab_size);
  ResetPeakMemory();
  const int64_t before = PeakMemoryBytes();
  ModelGradientOptions options;
  options.recompute = recompute;
  ModelGradient model(spec, batch.lengths[0], options, pool.get());
  LinearLoss loss(zeros.view());
  EXPECT_TRUE(model.Run(weights, batch, loss, gradient).ok());
  return PeakMemoryBytes() - before;
}

TEST(ModelGradientTest, RecomputingKeepsTheInputsOfBlocksOnly) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "what was freed stays resident here";
#endif
  TransformerSpec spec = Load(MakeTestModel("llama"))->spec();
  spec.num_layers = 24;
  const ModelWeights weights = InitialWeights(spec, /*seed=*/1);
  TokenBatch batch;
  for (int segment = 0; segment < 256; ++segment) {
    const std::vector<int32_t> ids = TestTokens(16);
    batch.lengths.push_back(16);
    batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
  }
  const int64_t less = MemoryOf(spec, weights, batch, true);
  const int64_t all = MemoryOf(spec, weights, batch, false);
  if (all == 0) GTEST_SKIP() << "this system does not say";
  // The inputs of blocks and those of what is computed in one of them.
  EXPECT_GT(all, 4 * less);
}

// Wherever it says so, and nothing is called afterwards.
TEST(ModelGradientTest, TheCheckEndsIt) {
  const auto pool = *CreateThreadPool(1);
  const auto loaded = Load(MakeTestModel("llama"));
  const TransformerSpec& spec = loaded->spec();
  const ModelWeights weights = *LoadModelWeights(*loaded);
  const Matrix<float> zeros(kTokens, spec.vocab_size);
  int until = 0, asked = 0;
  ModelGradientOptions options;
  options.logit_rows = 4;
  options.check = [&]() -> absl::Status {
    return asked++ < until ? absl::OkStatus() : absl::CancelledError("enough");
  };
  ModelGradient model(spec, kTokens, options, pool.get());
  const int pieces = (kTokens + 3) / 4, blocks = 2;
  for (const int calls : {blocks + pieces + blocks, blocks + pieces}) {
    const bool backward = calls > blocks + pieces;
    for (until = 0; until <= calls; ++until) {
      asked = 0;
      ModelWeights gradient = ZerosLike(weights);
      LinearLoss loss(zeros.view());
      const absl::Status status =
          backward ? model.Run(weights, Batch(), loss, gradient)
                   : model.Evaluate(weights, Batch(), loss);
      EXPECT_EQ(status.ok(), until == calls) << until;
      EXPECT_EQ(asked, std::min(until + 1, calls));
    }
  }
}

TEST(ModelGradientTest, NamesTheFirstBadOutput) {
  const auto pool = *CreateThreadPool(1);
  const auto loaded = Load(MakeTestModel("llama"));
  const TransformerSpec& spec = loaded->spec();
  ModelWeights weights = *LoadModelWeights(*loaded);
  const Matrix<float> zeros(kTokens, spec.vocab_size);
  ModelGradient model(spec, kTokens, {}, pool.get());
  LinearLoss loss(zeros.view());
  ASSERT_TRUE(model.Evaluate(weights, Batch(), loss).ok());
  EXPECT_EQ(model.FirstBadOutput(), "");
  weights.blocks[1].up.weight.row(0)[0] = std::nanf("");
  ASSERT_TRUE(model.Evaluate(weights, Batch(), loss).ok());
  EXPECT_EQ(model.FirstBadOutput(), "the output of block 1");
  weights.tokens.row(TestTokens(7)[3])[0] = std::nanf("");
  ASSERT_TRUE(model.Evaluate(weights, Batch(), loss).ok());
  EXPECT_EQ(model.FirstBadOutput(), "the embeddings");
}

}  // namespace
}  // namespace qeff
