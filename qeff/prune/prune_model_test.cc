// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/prune_model.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/calibration/run_testutil.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/allocation.h"
#include "qeff/prune/prune_plan.h"
#include "qeff/prune/prune_transform.h"
#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/checksum.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

// Instrumented code takes ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kKilledRuns = 2;
#else
constexpr int kKilledRuns = 20;
#endif

using ::testing::HasSubstr;

std::shared_ptr<const Transformer> LoadModel(const std::string& folder) {
  auto model = Transformer::Load(Checkpoint::Open(folder).value());
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

class PruneModelTest : public ::testing::Test {
 protected:
  void Begin(const std::string& shape, PruneMethod method,
             const std::string& pattern) {
    if (model_ == nullptr) model_ = LoadModel(SynthModel(shape));
    PruneOptions options;
    options.method = method;
    options.pattern = ParseSparsityPattern(pattern).value();
    options.ignore = ignore_;
    plan_ = PlanPruning(model_->checkpoint(), model_->map(), options).value();
    sample_ = RandomTokens(model_->spec());
  }

  absl::StatusOr<PruneResult> Prune(const std::string& output,
                                    const PruneRunOptions& options = {},
                                    int threads = 2) const {
    const auto pool = CreateThreadPool(threads).value();
    if (plan_.method == PruneMethod::kMagnitude) {
      return PruneByMagnitude(*model_, plan_, output, nullptr, *pool);
    }
    return PruneCalibrated(*model_, plan_, sample_, output, options, *pool);
  }

  // Every layer has the pattern, and nothing else was changed.
  void ExpectPruned(const std::string& folder) const {
    const auto written = LoadModel(folder);
    for (const TensorInfo& info : model_->checkpoint().tensors()) {
      if (std::any_of(plan_.layers.begin(), plan_.layers.end(),
                      [&](const PrunedLayer& layer) {
                        return layer.name == info.name;
                      })) {
        continue;
      }
      EXPECT_EQ(written->checkpoint().Get(info.name)->bytes,
                model_->checkpoint().Get(info.name)->bytes)
          << info.name;
    }
    for (const BlockNames& block : written->map().blocks) {
      for (const LinearModule& linear : block.linears) {
        const PrunedLayer* layer = plan_.Find(linear.module);
        ASSERT_EQ(
            layer == nullptr,
            !ignore_.empty() && absl::StrContains(linear.module, ignore_));
        if (layer == nullptr) continue;
        ExpectPattern(
            *layer,
            written->LoadLinear(linear.block, linear.role).value().weight);
      }
    }
    EXPECT_EQ(written->checkpoint().config().at("sparsity").at("pattern"),
              SparsityPatternName(plan_.pattern));
  }

  void ExpectPattern(const PrunedLayer& layer,
                     const Matrix<float>& weights) const {
    int64_t zeros = 0;
    const SparsityPattern& pattern = layer.pattern;
    for (int64_t r = 0; r < weights.rows(); ++r) {
      const float* row = weights.row(r);
      zeros += std::count(row, row + weights.cols(), 0.0f);
      if (!pattern.grouped()) continue;
      for (int64_t c = 0; c < weights.cols(); c += pattern.group) {
        const int64_t size =
            std::min<int64_t>(pattern.group, weights.cols() - c);
        ASSERT_GE(std::count(row + c, row + c + size, 0.0f),
                  pattern.Removed(size))
            << layer.module;
      }
    }
    const double share =
        static_cast<double>(zeros) / static_cast<double>(layer.weights());
    const double asked = static_cast<double>(pattern.Removed(layer.cols)) /
                         static_cast<double>(layer.cols);
    EXPECT_NEAR(share, asked, 0.01) << layer.module;
  }

  // All zeros of the layers of model_.
  void ExpectZerosOf(const Transformer& other) const {
    for (const BlockNames& block : model_->map().blocks) {
      for (const LinearModule& linear : block.linears) {
        const Matrix<float> before =
            model_->LoadLinear(linear.block, linear.role).value().weight;
        const Matrix<float> after =
            other.LoadLinear(linear.block, linear.role).value().weight;
        for (int64_t i = 0; i < before.rows() * before.cols(); ++i) {
          if (before.data()[i] != 0) continue;
          ASSERT_EQ(after.data()[i], 0) << linear.module;
        }
      }
    }
  }

  // As many weights as were asked for, to the side that allocation.h says.
  void ExpectRemoved(SparsityAllocation allocation, int64_t asked) const {
    const int64_t more = plan_.Removed() - asked;
    EXPECT_LE(std::abs(more), plan_.Weights() / 100);
    EXPECT_GE(allocation == SparsityAllocation::kOwl ? -more : more, 0);
  }

  std::string ignore_;
  std::shared_ptr<const Transformer> model_;
  PrunePlan plan_;
  TokenSample sample_;
  const std::string folder_ = MakeTestFolder();
  const std::string output_ = folder_ + "/out";
};

TEST_F(PruneModelTest, MethodsAndPatterns) {
  for (const PruneMethod method : {PruneMethod::kMagnitude, PruneMethod::kWanda,
                                   PruneMethod::kSparseGpt}) {
    for (const char* pattern : {"0.5", "2:4"}) {
      SCOPED_TRACE(absl::StrCat(PruneMethodName(method), " ", pattern));
      Begin("tiny", method, pattern);
      const std::string output =
          absl::StrCat(output_, PruneMethodName(method), pattern);
      const auto result = Prune(output);
      ASSERT_TRUE(result.ok()) << result.status();
      ExpectPruned(output);
      ASSERT_EQ(result->layers.size(), plan_.layers.size());
      for (const PruneReport& layer : result->layers) {
        EXPECT_EQ(layer.fallback, "");
        if (method != PruneMethod::kSparseGpt) continue;
        EXPECT_LT(layer.loss, 0.9 * layer.magnitude_loss) << layer.module;
        EXPECT_GT(layer.loss, 0) << layer.module;
      }
    }
  }
}

// Fused and transposed layers, biases, ALiBi, no gate, rows that the pattern
// does not divide.
TEST_F(PruneModelTest, Families) {
  for (const char* shape : {"tiny-gpt2", "tiny-mpt", "tiny-qwen3"}) {
    for (const PruneMethod method :
         {PruneMethod::kMagnitude, PruneMethod::kSparseGpt}) {
      SCOPED_TRACE(absl::StrCat(shape, " ", PruneMethodName(method)));
      model_ = nullptr;
      Begin(shape, method, "3:5");
      const std::string output =
          absl::StrCat(output_, shape, PruneMethodName(method));
      const auto result = Prune(output);
      ASSERT_TRUE(result.ok()) << result.status();
      ExpectPruned(output);
    }
  }
}

TEST_F(PruneModelTest, SameBytesForThreads) {
  Begin("tiny", PruneMethod::kSparseGpt, "2:4");
  ASSERT_TRUE(Prune(output_).ok());
  ASSERT_TRUE(Prune(output_ + "1", {}, 1).ok());
  EXPECT_EQ(FolderFingerprint(output_ + "1"), FolderFingerprint(output_));
}

TEST_F(PruneModelTest, KilledAtRandomPointsAndResumed) {
  Begin("tiny", PruneMethod::kSparseGpt, "0.5");
  PruneRunOptions resuming;
  resuming.unfinished = PartialWork::kResume;
  const auto run = [&](const std::string& output) {
    return [&, output] {
      const auto result = Prune(output, resuming);
      // Killed after the last thing that it had to do.
      return result.ok() ||
             (result.status().code() == absl::StatusCode::kAlreadyExists &&
              access((output + ".partial").c_str(), F_OK) != 0);
    };
  };
  const absl::Time start = absl::Now();
  ASSERT_EQ(RunProcess(run(output_), -1), 0);
  const int64_t whole_us =
      absl::ToInt64Microseconds(absl::Now() - start) + 1000;
  const std::string expected = FolderFingerprint(output_);
  Random random(12);
  for (int i = 0; i < kKilledRuns; ++i) {
    const std::string output = absl::StrCat(output_, i);
    RunProcess(run(output), static_cast<int64_t>(random.NextBelow(
                                static_cast<uint64_t>(whole_us))));
    ASSERT_EQ(RunProcess(run(output), -1), 0) << i;
    EXPECT_EQ(FolderFingerprint(output), expected) << i;
    EXPECT_NE(access((output + ".partial").c_str(), F_OK), 0);
  }
}

// A run with another plan, and a model that changed meanwhile, are refused.
TEST_F(PruneModelTest, OtherRunsAreNotResumed) {
  Begin("tiny", PruneMethod::kSparseGpt, "2:4");
  PruneRunOptions options;
  int64_t steps = 0;
  options.progress = [&](int64_t done, int64_t) { steps = done; };
  options.check = [&] {
    return steps > 0 ? absl::CancelledError("stop") : absl::OkStatus();
  };
  EXPECT_THAT(Prune(output_, options).status().message(),
              HasSubstr("--resume"));
  Begin("tiny", PruneMethod::kSparseGpt, "1:4");
  PruneRunOptions resuming;
  resuming.unfinished = PartialWork::kResume;
  EXPECT_THAT(Prune(output_, resuming).status().message(), HasSubstr("plan"));
  Begin("tiny", PruneMethod::kSparseGpt, "2:4");
  EXPECT_TRUE(Prune(output_, resuming).ok());
  ExpectPruned(output_);
}

// Quantizing a pruned model keeps its zeros, whatever the algorithm.
TEST_F(PruneModelTest, QuantizingKeepsZeros) {
  Begin("tiny", PruneMethod::kSparseGpt, "2:4");
  ASSERT_TRUE(Prune(output_).ok());
  model_ = LoadModel(output_);
  const auto pool = CreateThreadPool(2).value();
  for (const char* scheme :
       {"int4_g32", "int3_g32", "nf4", "fp8_e4m3", "q4_0", "mxfp4", "int8"}) {
    for (const int tuned : {0, 3}) {
      if (tuned != 0 && !absl::StartsWith(scheme, "int")) continue;
      SCOPED_TRACE(absl::StrCat(scheme, " ", tuned));
      QuantizeOptions options = OptionsFor(scheme);
      const QuantizePlan plan =
          PlanQuantization(model_->checkpoint(), model_->map(), options)
              .value();
      EXPECT_EQ(plan.config.at("sparsity").at("pattern"), "2:4");
      CalibratedQuantizeOptions run;
      run.autoround_iterations = tuned;
      if (tuned != 0) run.solver.folds = FoldSearch::kAwq;
      const std::string output = absl::StrCat(folder_, "/", scheme, tuned);
      const auto result =
          QuantizeCalibrated(*model_, plan, sample_, output, run, *pool);
      ASSERT_TRUE(result.ok()) << result.status();
      ExpectZerosOf(*LoadModel(output));
    }
  }
}

TEST_F(PruneModelTest, PrunesAndQuantizesInOneRun) {
  Begin("tiny", PruneMethod::kSparseGpt, "2:4");
  const auto pool = CreateThreadPool(2).value();
  const QuantizePlan plan =
      PlanQuantization(model_->checkpoint(), model_->map(), OptionsFor("int8"))
          .value();
  CalibratedQuantizeOptions run;
  run.solver.pruner = SparseGptRowPruner(plan_, {}, *pool);
  const auto result =
      QuantizeCalibrated(*model_, plan, sample_, output_, run, *pool);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto written = LoadModel(output_);
  for (const BlockNames& block : written->map().blocks) {
    for (const LinearModule& linear : block.linears) {
      const Matrix<float> weights =
          written->LoadLinear(linear.block, linear.role).value().weight;
      for (int64_t r = 0; r < weights.rows(); ++r) {
        for (int64_t c = 0; c + 4 <= weights.cols(); c += 4) {
          ASSERT_GE(
              std::count(weights.row(r) + c, weights.row(r) + c + 4, 0.0f), 2);
        }
      }
    }
  }
}

// What all layers give together is what was asked for.
TEST_F(PruneModelTest, AllocationsKeepTheSum) {
  const auto pool = CreateThreadPool(2).value();
  for (const SparsityAllocation allocation :
       {SparsityAllocation::kOwl, SparsityAllocation::kBudget}) {
    Begin("tiny", PruneMethod::kWanda, "0.5");
    const int64_t asked = plan_.Removed();
    ASSERT_TRUE(
        AllocateSparsity(model_, allocation, sample_, {}, &plan_, *pool).ok());
    ExpectRemoved(allocation, asked);
    EXPECT_EQ(plan_.config.at("sparsity").at("allocation"),
              std::string(SparsityAllocationName(allocation)));
    bool differ = false;
    for (const PrunedLayer& layer : plan_.layers) {
      differ |= layer.pattern.sparsity != 0.5;
    }
    EXPECT_TRUE(differ);
  }
  Begin("tiny", PruneMethod::kWanda, "2:4");
  EXPECT_EQ(AllocateSparsity(model_, SparsityAllocation::kBudget, sample_, {},
                             &plan_, *pool)
                .code(),
            absl::StatusCode::kInvalidArgument);
}

// A share is one of the layers that are not ignored, which stay as they are.
TEST_F(PruneModelTest, AllocationsLeaveIgnoredLayersAlone) {
  const auto pool = CreateThreadPool(2).value();
  Begin("tiny", PruneMethod::kWanda, "0.5");
  const int64_t all = plan_.Weights();
  for (const char* ignored : {"down_proj", "layers.0."}) {
    for (const SparsityAllocation allocation :
         {SparsityAllocation::kOwl, SparsityAllocation::kBudget}) {
      SCOPED_TRACE(
          absl::StrCat(ignored, " ", SparsityAllocationName(allocation)));
      ignore_ = ignored;
      Begin("tiny", PruneMethod::kWanda, "0.5");
      const int64_t asked = plan_.Removed();
      EXPECT_LT(plan_.Weights(), all);
      EXPECT_EQ(asked, plan_.Weights() / 2);
      const absl::Status status =
          AllocateSparsity(model_, allocation, sample_, {}, &plan_, *pool);
      ASSERT_TRUE(status.ok()) << status;
      ExpectRemoved(allocation, asked);
      const std::string output =
          absl::StrCat(output_, ignored, SparsityAllocationName(allocation));
      ASSERT_TRUE(Prune(output).ok());
      ExpectPruned(output);
    }
  }
}

// At shares that are smaller than what blocks differ by.
TEST_F(PruneModelTest, SmallSharesKeepTheSum) {
  const auto pool = CreateThreadPool(2).value();
  Begin("tiny", PruneMethod::kWanda, "0.05");
  const int64_t asked = plan_.Removed();
  ASSERT_TRUE(AllocateSparsity(model_, SparsityAllocation::kOwl, sample_, {},
                               &plan_, *pool)
                  .ok());
  EXPECT_LE(plan_.Removed(), asked);
  EXPECT_GT(plan_.Removed(), asked / 2);
}

TEST_F(PruneModelTest, Transform) {
  Begin("tiny", PruneMethod::kSparseGpt, "2:4");
  const auto pool = CreateThreadPool(2).value();
  PruneOptions options;
  options.pattern = plan_.pattern;
  PruneTransform transform(options, sample_);
  EXPECT_EQ(transform.name(), "prune(sparsegpt,2:4)");
  const auto report = transform.Apply(*model_, output_, *pool);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->applied);
  EXPECT_EQ(report->tensors, static_cast<int64_t>(plan_.layers.size()));
  ExpectPruned(output_);
  // An error leaves nothing.
  TokenSample bad = sample_;
  bad.sequences[0][0] = -1;
  EXPECT_FALSE(
      PruneTransform(options, bad).Apply(*model_, output_ + "2", *pool).ok());
  EXPECT_FALSE(
      PruneTransform(options).Apply(*model_, output_ + "2", *pool).ok());
  EXPECT_THAT(ListTestFolder(folder_), ::testing::ElementsAre("out"));
}

TEST_F(PruneModelTest, BadInput) {
  Begin("tiny", PruneMethod::kSparseGpt, "0.5");
  PruneOptions options;
  options.pattern = plan_.pattern;
  options.ignore = ".*";
  EXPECT_EQ(
      PlanPruning(model_->checkpoint(), model_->map(), options).status().code(),
      absl::StatusCode::kInvalidArgument);
  options.ignore = "(";
  EXPECT_EQ(
      PlanPruning(model_->checkpoint(), model_->map(), options).status().code(),
      absl::StatusCode::kInvalidArgument);
  // A quantized model.
  const auto pool = CreateThreadPool(1).value();
  const QuantizePlan plan =
      PlanQuantization(model_->checkpoint(), model_->map(), OptionsFor("int8"))
          .value();
  ASSERT_TRUE(
      QuantizeCheckpoint(model_->checkpoint(), plan, output_, *pool).ok());
  const auto quantized = LoadModel(output_);
  options.ignore = "";
  EXPECT_THAT(PlanPruning(quantized->checkpoint(), quantized->map(), options)
                  .status()
                  .message(),
              HasSubstr("prune the original"));
  // A weight that is not a number.
  const std::string bad = SynthModel("tiny");
  PoisonTestTensor(bad, "model.layers.1.mlp.up_proj.weight", 3);
  for (const PruneMethod method :
       {PruneMethod::kMagnitude, PruneMethod::kWanda}) {
    model_ = LoadModel(bad);
    Begin("tiny", method, "0.5");
    const absl::Status status = Prune(output_ + "bad").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(status.message(),
                HasSubstr("model.layers.1.mlp.up_proj.weight"));
  }
}

}  // namespace
}  // namespace qeff
