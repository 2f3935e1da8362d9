// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/calibrated_quantize.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <limits>
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
#include "qeff/io/quantized_tensor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/checksum.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

// Which of the places where a run looks for signals stop one, and how many runs
// are killed. Instrumented code takes ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kStopStep = 24, kKilledRuns = 4;
constexpr const char* kGgmlSchemes[] = {"q4_0", "q4_k"};
#else
constexpr int kStopStep = 3, kKilledRuns = 25;
constexpr const char* kGgmlSchemes[] = {"q8_0", "q4_0", "q4_k", "q5_k", "q6_k"};
#endif

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::shared_ptr<const Transformer> LoadModel(const std::string& folder) {
  auto model = Transformer::Load(Checkpoint::Open(folder).value());
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

// A model, what is to be done with it, and where.
class CalibratedQuantizeTest : public ::testing::Test {
 protected:
  void Begin(const std::string& shape, const std::string& scheme,
             bool lm_head = true, bool symmetric = true) {
    model_ = LoadModel(SynthModel(shape));
    QuantizeOptions options = OptionsFor(scheme);
    options.scheme.symmetric = symmetric;
    if (lm_head) options.lm_head = options.scheme;
    plan_ =
        PlanQuantization(model_->checkpoint(), model_->map(), options).value();
    sample_ = RandomTokens(model_->spec());
  }

  absl::StatusOr<CalibratedQuantizeResult> Quantize(
      const std::string& output, const CalibratedQuantizeOptions& options = {},
      int threads = 2) const {
    const auto pool = CreateThreadPool(threads).value();
    return QuantizeCalibrated(*model_, plan_, sample_, output, options, *pool);
  }

  static CalibratedQuantizeOptions Resuming() {
    CalibratedQuantizeOptions options;
    options.unfinished = PartialWork::kResume;
    return options;
  }

  std::shared_ptr<const Transformer> model_;
  QuantizePlan plan_;
  TokenSample sample_;
  const std::string folder_ = MakeTestFolder();
  const std::string output_ = folder_ + "/out";
};

TEST_F(CalibratedQuantizeTest, EveryLayerIsBetterThanRounded) {
  Begin("tiny", "int3_g32");
  const auto result = Quantize(output_);
  ASSERT_TRUE(result.ok()) << result.status();
  const int64_t blocks = model_->spec().num_layers;
  ASSERT_EQ(result->layers.size(), static_cast<size_t>(7 * blocks + 1));
  for (const LayerReport& layer : result->layers) {
    EXPECT_LT(layer.loss, layer.rounding_loss) << layer.module;
    EXPECT_GT(layer.damping, 0) << layer.module;
    EXPECT_EQ(layer.tokens, sample_.tokens) << layer.module;
    // At most some rows.
    EXPECT_THAT(layer.fallback, Not(HasSubstr("Hessian"))) << layer.module;
  }
  EXPECT_EQ(result->layers.front().module, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(result->layers.back().module, "lm_head");
  EXPECT_THAT(result->estimate.warning, HasSubstr("tokens are needed"));

  // A model that loads, and in which nothing else was changed.
  const auto written = LoadModel(output_);
  EXPECT_TRUE(written->quantization().has_value());
  for (const TensorInfo& info : model_->checkpoint().tensors()) {
    if (!written->checkpoint().Has(info.name)) continue;
    EXPECT_EQ(written->checkpoint().Get(info.name)->bytes,
              model_->checkpoint().Get(info.name)->bytes)
        << info.name;
  }
  EXPECT_THAT(ListTestFolder(folder_), ::testing::ElementsAre("out"));
}

// Fused and transposed layers, biases, learned positions and ALiBi, no gate,
// rows that groups do not divide, zero points.
TEST_F(CalibratedQuantizeTest, Families) {
  for (const char* shape : {"tiny-gpt2", "tiny-mpt", "tiny-qwen3"}) {
    SCOPED_TRACE(shape);
    Begin(shape, "int4_g24", /*lm_head=*/false, /*symmetric=*/false);
    const std::string output = absl::StrCat(output_, shape);
    const auto result = Quantize(output);
    ASSERT_TRUE(result.ok()) << result.status();
    for (const LayerReport& layer : result->layers) {
      EXPECT_LT(layer.loss, layer.rounding_loss) << layer.module;
    }
    LoadModel(output);
  }
}

TEST_F(CalibratedQuantizeTest, SameBytesForThreadsAndMemory) {
  Begin("tiny", "int4_g32");
  ASSERT_TRUE(Quantize(output_).ok());
  ASSERT_TRUE(Quantize(output_ + "1", {}, /*threads=*/1).ok());
  EXPECT_EQ(FolderFingerprint(output_), FolderFingerprint(output_ + "1"));

  CalibratedQuantizeOptions options;
  bool spilled = false;
  uint64_t needed = 0;
  options.planned = [&](const RunEstimate& estimate) {
    spilled = estimate.walk.spill;
    needed = estimate.walk.peak_bytes;
  };
  ASSERT_TRUE(Quantize(output_ + "2", options).ok());
  EXPECT_FALSE(spilled);
  options.memory_limit_bytes = needed - 1;
  // Files hold one chunk in memory: with so few tokens that is all of them.
  const auto refused = Quantize(output_ + "3", options);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.status().message(), HasSubstr("memory limit"));
  for (int i = 0; i < 200; ++i) {
    sample_.sequences.push_back(sample_.sequences[0]);
    sample_.tokens += static_cast<int64_t>(sample_.sequences[0].size());
  }
  options.memory_limit_bytes = 0;
  ASSERT_TRUE(Quantize(output_ + "4", options).ok());
  options.memory_limit_bytes = needed - 1;
  const auto result = Quantize(output_ + "5", options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(spilled);
  EXPECT_EQ(FolderFingerprint(output_ + "4"), FolderFingerprint(output_ + "5"));
}

// All algorithms, with biases.
TEST_F(CalibratedQuantizeTest, Awq) {
  Begin("tiny-qwen2", "int3_g32");
  CalibratedQuantizeOptions options;
  options.solver.folds = FoldSearch::kAwq;
  options.solver.propagate = false;
  const auto rounded = Quantize(output_ + "1", options);
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  for (const LayerReport& layer : rounded->layers) {
    EXPECT_LE(layer.loss, layer.rounding_loss) << layer.module;
    EXPECT_THAT(layer.fallback, IsEmpty()) << layer.module;
  }
  options.solver.propagate = true;
  const auto both = Quantize(output_ + "2", options);
  ASSERT_TRUE(both.ok()) << both.status();
  const auto a = LoadModel(output_ + "1"), b = LoadModel(output_ + "2");
  const std::string norm = "model.layers.0.input_layernorm.weight";
  for (const auto& model : {a, b}) {
    EXPECT_NE(model->checkpoint().Get(norm)->bytes,
              model_->checkpoint().Get(norm)->bytes);
    EXPECT_EQ(model->checkpoint().Get("model.norm.weight")->bytes,
              model_->checkpoint().Get("model.norm.weight")->bytes);
  }
}

// Static inputs, smoothed, with biases and a head of its own.
TEST_F(CalibratedQuantizeTest, W8A8Static) {
  Begin("tiny-qwen2", "w8a8_static");
  CalibratedQuantizeOptions options;
  options.solver.folds = FoldSearch::kSmoothQuant;
  std::vector<double> minmax;
  for (const Observer observer :
       {Observer::kMinMax, Observer::kPercentile, Observer::kMse}) {
    SCOPED_TRACE(ObserverName(observer));
    options.solver.observer = observer;
    const std::string output = absl::StrCat(output_, ObserverName(observer));
    const auto result = Quantize(output, options);
    ASSERT_TRUE(result.ok()) << result.status();
    const auto written = LoadModel(output);
    ASSERT_EQ(result->layers.size(),
              static_cast<size_t>(7 * model_->spec().num_layers + 1));
    for (size_t i = 0; i < result->layers.size(); ++i) {
      const LayerReport& layer = result->layers[i];
      SCOPED_TRACE(layer.module);
      const auto matrix = ReadQuantizedMatrix(
          written->checkpoint(), layer.module, *written->quantization());
      ASSERT_TRUE(matrix.ok()) << matrix.status();
      EXPECT_EQ(static_cast<double>(matrix->input_scale), layer.input_scale);
      if (observer == Observer::kMinMax) {
        minmax.push_back(layer.input_scale);
      } else if (i < 3) {  // later inputs depend on what came before
        EXPECT_LE(layer.input_scale, minmax[i]);
      }
      // Layers with the same inputs.
      if (i % 7 == 1 || i % 7 == 2 || i % 7 == 5) {
        EXPECT_EQ(layer.input_scale, result->layers[i - 1].input_scale);
      }
    }
    EXPECT_NE(written->checkpoint()
                  .Get("model.layers.0.input_layernorm.weight")
                  ->bytes,
              model_->checkpoint()
                  .Get("model.layers.0.input_layernorm.weight")
                  ->bytes);
  }
  // Resumed, with another number of threads.
  int steps = 0;
  options.progress = [&](int64_t done, int64_t) { steps = int(done); };
  options.check = [&] {
    return steps == 1 ? absl::CancelledError("interrupted") : absl::OkStatus();
  };
  EXPECT_FALSE(Quantize(output_, options).ok());
  options.check = nullptr;
  options.unfinished = PartialWork::kResume;
  options.solver.observer = Observer::kMinMax;
  EXPECT_THAT(Quantize(output_, options).status().message(),
              HasSubstr("another observer"));
  options.solver.observer = Observer::kMse;
  ASSERT_TRUE(Quantize(output_, options, /*threads=*/1).ok());
  EXPECT_EQ(FolderFingerprint(output_), FolderFingerprint(output_ + "mse"));
}

// Stopped at every place where a signal is looked at.
TEST_F(CalibratedQuantizeTest, StopsAndResumesAnywhere) {
  Begin("tiny", "int4_g32");
  int checks = 0;
  CalibratedQuantizeOptions options;
  options.solver.folds = FoldSearch::kAwq;
  options.check = [&] {
    ++checks;
    return absl::OkStatus();
  };
  ASSERT_TRUE(Quantize(output_, options).ok());
  const std::string expected = FolderFingerprint(output_);
  const int total = checks;
  ASSERT_GT(total, 20);
  for (int stop = 0; stop < total; stop += kStopStep) {
    const std::string output = absl::StrCat(output_, stop);
    options = CalibratedQuantizeOptions();
    options.solver.folds = FoldSearch::kAwq;
    checks = 0;
    options.check = [&] {
      return checks++ == stop ? absl::CancelledError("interrupted")
                              : absl::OkStatus();
    };
    const auto stopped = Quantize(output, options);
    EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
    const bool kept = absl::StrContains(stopped.status().message(), "--resume");
    if (kept) {
      EXPECT_EQ(Quantize(output).status().code(),
                absl::StatusCode::kAlreadyExists);
    } else {
      EXPECT_NE(access((output + ".partial").c_str(), F_OK), 0);
    }
    int64_t done = -1;
    options = Resuming();
    options.solver.folds = FoldSearch::kAwq;
    options.planned = [&](const RunEstimate& estimate) {
      done = estimate.steps_done;
    };
    const auto result = Quantize(output, options);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(done > 0, kept);
    EXPECT_EQ(FolderFingerprint(output), expected) << stop;
    EXPECT_EQ(result->layers.size(),
              static_cast<size_t>(7 * model_->spec().num_layers + 1));
  }
}

TEST_F(CalibratedQuantizeTest, KilledAtRandomPointsAndResumed) {
  Begin("tiny", "int4_g32");
  const auto run = [&](const std::string& output) {
    return [this, output] {
      const auto result = Quantize(output, Resuming());
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
  Random random(11);
  int killed = 0;
  for (int i = 0; i < kKilledRuns; ++i) {
    const std::string output = absl::StrCat(output_, i);
    // Up to three times in a row.
    for (int times = i % 3; times >= 0; --times) {
      killed += WIFSIGNALED(RunProcess(
          run(output), static_cast<int64_t>(
                           random.NextBelow(static_cast<uint64_t>(whole_us)))));
    }
    ASSERT_EQ(RunProcess(run(output), -1), 0) << i;
    EXPECT_EQ(FolderFingerprint(output), expected) << i;
    EXPECT_NE(access((output + ".partial").c_str(), F_OK), 0);
  }
  EXPECT_GE(killed, kKilledRuns * 4 / 5);
}

TEST_F(CalibratedQuantizeTest, OtherArgumentsAreNotResumed) {
  Begin("tiny", "int4_g32");
  int steps = 0;
  CalibratedQuantizeOptions options;
  options.progress = [&](int64_t done, int64_t) { steps = int(done); };
  options.check = [&] {
    return steps == 1 ? absl::CancelledError("interrupted") : absl::OkStatus();
  };
  ASSERT_FALSE(Quantize(output_, options).ok());
  sample_.sequences[0][0] ^= 1;
  const auto other = Quantize(output_, Resuming());
  EXPECT_EQ(other.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(other.status().message(), HasSubstr("another sample"));
  sample_.sequences[0][0] ^= 1;

  // What was written is checked before it is taken for finished.
  const std::string shard = output_ + ".partial/output/model.safetensors";
  std::string bytes = ReadFileToString(shard, 1 << 30).value();
  const size_t header = 8 + static_cast<uint8_t>(bytes[0]) +
                        256u * static_cast<uint8_t>(bytes[1]);
  const auto touch = [&](uint8_t mask) {
    // All bytes but the header: some are of the first block.
    for (size_t i = header; i < bytes.size(); i += 64) bytes[i] ^= mask;
    WriteTestFile(shard, bytes);
  };
  touch(1);
  EXPECT_THAT(Quantize(output_, Resuming()).status().message(),
              HasSubstr("damaged"));
  touch(1);
  EXPECT_TRUE(Quantize(output_, Resuming()).ok());
}

TEST_F(CalibratedQuantizeTest, BadInput) {
  Begin("tiny", "int4_g32");
  sample_.sequences[1][2] = static_cast<int32_t>(model_->spec().vocab_size);
  EXPECT_EQ(Quantize(output_).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
}

TEST_F(CalibratedQuantizeTest, NanIsNamed) {
  const std::string folder = SynthModel("tiny", DType::kF32);
  const std::string path = folder + "/model.safetensors";
  const auto poison = [&](const std::string& name) {
    const auto checkpoint = Checkpoint::Open(folder).value();
    const auto view = checkpoint->Get(name).value();
    std::string bytes = ReadFileToString(path, 1 << 30).value();
    const std::string old(reinterpret_cast<const char*>(view.bytes.data()),
                          view.bytes.size());
    const size_t at = bytes.find(old);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(&bytes[at + 4 * 9], &nan, sizeof(nan));
    WriteTestFile(path, bytes);
    return old;
  };
  const auto status = [&] {
    model_ = LoadModel(folder);
    plan_ = PlanQuantization(model_->checkpoint(), model_->map(),
                             OptionsFor("int4_g32"))
                .value();
    sample_ = RandomTokens(model_->spec());
    return Quantize(output_).status();
  };
  poison("model.layers.1.mlp.up_proj.weight");
  absl::Status found = status();
  EXPECT_EQ(found.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(found.message(), HasSubstr("model.layers.1.mlp.up_proj.weight"));
  EXPECT_THAT(found.message(), HasSubstr("[0, 9]"));
  EXPECT_THAT(found.message(), HasSubstr("--resume"));

  poison("model.layers.0.input_layernorm.weight");
  CalibratedQuantizeOptions options;
  options.unfinished = PartialWork::kRestart;
  model_ = LoadModel(folder);
  found = Quantize(output_, options).status();
  EXPECT_EQ(found.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(found.message(), HasSubstr("inputs of model.layers.0."));
  EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
}

TEST_F(CalibratedQuantizeTest, BlocksOfGgml) {
  for (const char* scheme : kGgmlSchemes) {
    SCOPED_TRACE(scheme);
    model_ = LoadModel(SynthBlockModel());
    QuantizeOptions options = OptionsFor(scheme);
    options.lm_head = options.scheme;
    plan_ =
        PlanQuantization(model_->checkpoint(), model_->map(), options).value();
    sample_ = RandomTokens(model_->spec());
    const std::string output = absl::StrCat(output_, scheme);
    const auto result = Quantize(output, {});
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->layers.size(),
              static_cast<size_t>(6 * model_->spec().num_layers + 1));
    for (const LayerReport& layer : result->layers) {
      EXPECT_LT(layer.loss, layer.rounding_loss) << layer.module;
      EXPECT_EQ(layer.scheme, scheme);
    }
    // Interrupted after the first block, with another number of threads.
    const std::string resumed = output + "-resumed";
    CalibratedQuantizeOptions interrupted;
    int64_t steps = 0;
    interrupted.progress = [&](int64_t done, int64_t) { steps = done; };
    interrupted.check = [&] {
      return steps > 0 ? absl::CancelledError("stop") : absl::OkStatus();
    };
    EXPECT_FALSE(Quantize(resumed, interrupted).ok());
    const auto again = Quantize(resumed, Resuming(), 1);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(FolderFingerprint(resumed), FolderFingerprint(output));
    EXPECT_TRUE(LoadModel(output)->quantization().has_value());
  }
}

// A bad weight keeps its layer, and what it spoils is rounded, with no scales
// folded in; the same when the run is interrupted.
TEST_F(CalibratedQuantizeTest, SkipsBadTensors) {
  const std::string model = SynthModel("tiny");
  PoisonTestTensor(model, "model.layers.0.self_attn.q_proj.weight", 130);
  model_ = LoadModel(model);
  QuantizeOptions plan_options = OptionsFor("int4_g32");
  plan_options.lm_head = plan_options.scheme;
  const auto plan = [&] {
    return PlanQuantization(model_->checkpoint(), model_->map(), plan_options)
        .value();
  };
  plan_ = plan();
  sample_ = RandomTokens(model_->spec());
  EXPECT_THAT(Quantize(output_).status().message(),
              HasSubstr("--skip_bad_tensors"));
  plan_options.skip_bad_tensors = true;
  plan_ = plan();
  EXPECT_THAT(Quantize(output_).status().message(),
              HasSubstr("the inputs of model.layers.0.self_attn.o_proj are not "
                        "finite; --skip_bad_tensors"));

  const std::pair<const char*, absl::optional<FoldSearch>> searches[] = {
      {"none", absl::nullopt},
      {"awq", FoldSearch::kAwq},
      {"smoothquant", FoldSearch::kSmoothQuant}};
  for (const auto& [name, folds] : searches) {
    SCOPED_TRACE(name);
    CalibratedQuantizeOptions options;
    options.allow_bad_inputs = true;
    options.solver.folds = folds;
    int checks = 0, last = 0;
    options.check = [&]() -> absl::Status {
      return ++checks == last ? absl::CancelledError("stop") : absl::OkStatus();
    };
    const std::string output = output_ + name;
    const auto result = Quantize(output, options);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->layers.size(), 14u);  // q is kept, lm_head comes last
    for (const LayerReport& layer : result->layers) {
      const bool before = layer.module == "model.layers.0.self_attn.k_proj" ||
                          layer.module == "model.layers.0.self_attn.v_proj";
      const bool scaled = folds.has_value() && layer.module != "lm_head";
      const std::string bad =
          absl::StrCat(kBadInputs, scaled ? kNotScaled : "");
      EXPECT_EQ(layer.fallback == bad, !before) << layer.module;
    }
    LoadModel(output);

    last = checks * 3 / 4;
    checks = 0;
    const std::string again = folder_ + "/again" + name;
    EXPECT_TRUE(absl::IsCancelled(Quantize(again, options, 1).status()));
    EXPECT_EQ(UnfinishedRunTunes(again), false);
    EXPECT_EQ(UnfinishedRunTunes(output), absl::nullopt);
    options.unfinished = PartialWork::kResume;
    ASSERT_TRUE(Quantize(again, options, 1).ok());
    EXPECT_EQ(FolderFingerprint(again), FolderFingerprint(output));
  }
}

}  // namespace
}  // namespace qeff
