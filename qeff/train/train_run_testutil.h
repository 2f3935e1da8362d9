// SPDX-License-Identifier: Apache-2.0
//
// A tiny model in training, for tests of steps and runs.

#ifndef QEFF_TRAIN_TRAIN_RUN_TESTUTIL_H_
#define QEFF_TRAIN_TRAIN_RUN_TESTUTIL_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "qeff/eval/kl_divergence.h"
#include "qeff/train/batch_source.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/train/model_weights.h"
#include "qeff/train/objective.h"
#include "qeff/train/token_batch.h"
#include "qeff/train/train_step.h"
#include "qeff/train/trainable_weights.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/random.h"

namespace qeff {

inline constexpr int64_t kLength = 16;
inline constexpr int64_t kVocab = 320;

inline TransformerSpec Spec(const std::string& shape = "tiny") {
  const Json config = *KnownShapeConfig(shape);
  return MapConfig(config, shape, [](absl::string_view) { return false; })
      ->spec;
}

// Counts up from a random token, in two segments.
class CountingText : public BatchSource {
 public:
  absl::Status Get(int64_t index, TokenBatch* batch) override {
    Random random(1, static_cast<uint64_t>(index));
    for (const int64_t length : {kLength - 4, int64_t{4}}) {
      batch->lengths.push_back(length);
      int32_t id = static_cast<int32_t>(random.NextBelow(64));
      for (int64_t i = 0; i < length; ++i) {
        batch->ids.push_back(id++);
        batch->labels.push_back(i + 1 < length ? id : TokenBatch::kNoLabel);
      }
      batch->counted += length - 1;
    }
    return absl::OkStatus();
  }
};

// -ln p of the label by the definition.
class CrossEntropy : public Objective, private ModelLoss {
 public:
  absl::Status Begin(const TokenBatch& batch, double scale) override {
    batch_ = &batch;
    scale_ = scale;
    return absl::OkStatus();
  }
  ModelLoss& loss() override { return *this; }
  std::vector<LossTerm> TakeTerms() override {
    return {{"loss", std::exchange(sum_, 0.0)}};
  }

  // Batches after which the gradient is NaN.
  int64_t bad_from = std::numeric_limits<int64_t>::max();
  int64_t bad_until = std::numeric_limits<int64_t>::max();

 private:
  void AtLogits(int64_t row, MatrixView<float> logits) override {
    const bool bad = batches_ >= bad_from && batches_ < bad_until;
    if (row + logits.rows() == static_cast<int64_t>(batch_->ids.size())) {
      ++batches_;
    }
    for (int64_t r = 0; r < logits.rows(); ++r) {
      float* const q = logits.row(r);
      const int32_t label = batch_->labels[static_cast<size_t>(row + r)];
      if (label < 0) {
        std::fill(q, q + logits.cols(), 0.0f);
        continue;
      }
      const LogSoftmax p(
          absl::MakeConstSpan(q, static_cast<size_t>(logits.cols())));
      sum_ -= p.LogProbability(q[label]);
      for (int64_t c = 0; c < logits.cols(); ++c) {
        q[c] = static_cast<float>(
            scale_ * (std::exp(p.LogProbability(q[c])) - (c == label)));
      }
      if (bad) q[0] = std::nanf("");
    }
  }

  const TokenBatch* batch_ = nullptr;
  double scale_ = 0, sum_ = 0;
  int64_t batches_ = 0;
};

// A model in training, and what it borrows.
struct Trained {
  TransformerSpec spec = Spec();
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<TrainableWeights> weights;
  CrossEntropy objective;
  CountingText text;
  std::unique_ptr<TrainStep> step;

  explicit Trained(const TrainableOptions& trainable = {}, int threads = 2,
                   TrainStepOptions options = Options(),
                   ModelWeights initial = InitialWeights(Spec(), 1),
                   GradientReducer* reducer = nullptr)
      : pool(*CreateThreadPool(threads)),
        weights(
            *TrainableWeights::Create(std::move(initial), trainable, *pool)),
        step(*TrainStep::Create(spec, options, weights.get(), &objective, &text,
                                reducer, pool.get())) {}

  static TrainStepOptions Options() {
    TrainStepOptions options;
    options.batch_size = 4;
    options.micro_batch_size = 2;
    options.sequence_length = kLength;
    options.schedule.peak = 3e-3;
    options.schedule.total_steps = 60;
    options.schedule.warmup_steps = 5;
    return options;
  }

  double Loss() {
    std::vector<TokenBatch> batches(1);
    EXPECT_TRUE(text.Get(1000000, &batches[0]).ok());
    return *step->HeldOutLoss(batches);
  }
};

inline std::vector<float> AllOf(const ModelWeights& weights) {
  std::vector<float> all;
  ModelWeights& values = const_cast<ModelWeights&>(weights);
  for (const Parameter& parameter : Parameters(values)) {
    all.insert(all.end(), parameter.values.begin(), parameter.values.end());
  }
  return all;
}

}  // namespace qeff

#endif  // QEFF_TRAIN_TRAIN_RUN_TESTUTIL_H_
