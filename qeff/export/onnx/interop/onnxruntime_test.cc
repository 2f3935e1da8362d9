// SPDX-License-Identifier: Apache-2.0
//
// Exported models in ONNX Runtime (the npm package onnxruntime-node, which
// `tools/setup.sh --interop` installs) against the device engine and the host
// forward. Needs QEFF_NODE_MODULES; with QEFF_SHARED_DATA also trained models.

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/base/qeff_auto_model.h"
#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/calibration/run_testutil.h"
#include "qeff/export/onnx/export_onnx.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/util/json.h"

namespace qeff {
namespace {

constexpr int64_t kContext = 48;
constexpr int64_t kChunk = 8;
constexpr int64_t kSteps = 16;

using Prompts = std::vector<std::vector<int32_t>>;

// What the engine says to `prompt`: a row after it and after each of kSteps
// greedy tokens.
struct Continuation {
  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;
  // After each token of the prompt.
  std::vector<std::vector<float>> prompt;
};

class OnnxRuntimeTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* modules = std::getenv("QEFF_NODE_MODULES");
    struct stat found;
    if (modules == nullptr ||
        stat(absl::StrCat(modules, "/onnxruntime-node").c_str(), &found) != 0) {
      GTEST_SKIP() << "QEFF_NODE_MODULES has no onnxruntime-node";
    }
    modules_ = modules;
  }

  // A model in two chunks of prefill, the last of which is padded, and steps of
  // decoding.
  void AddCausal(const std::string& name, const std::string& folder,
                 const std::string& onnx, const CausalLmOptions& options,
                 Prompts prompts, double tolerance,
                 Activations activations = Activations::kFloat32) {
    SCOPED_TRACE(name);
    auto model = QEFFAutoModelForCausalLM::FromPretrained(folder, pool_.get());
    ASSERT_TRUE(model.ok()) << model.status();
    const auto report =
        ExportCausalLmOnnx((*model)->transformer(), options, onnx);
    ASSERT_TRUE(report.ok()) << report.status();
    const TransformerSpec& spec = (*model)->spec();
    Json test{{"kind", "causal"},
              {"model", onnx},
              {"prompts", prompts},
              {"chunk", kChunk},
              {"steps", kSteps},
              {"ctx_len", kContext},
              {"kv_heads", spec.num_kv_heads},
              {"head_dim", spec.head_dim},
              {"vocab", spec.vocab_size}};
    if (options.continuous_batching) {
      test["full_batch_size"] = prompts.size() + 1;
    }
    if (options.compute_context_lengths) test["comp_ctx_length"] = 32;
    if (options.speculative_target) test["keep"] = kKept;
    cases_.push_back(test);
    Expected expected{name, tolerance, {}, report->dequantized};
    for (const std::vector<int32_t>& prompt : prompts) {
      expected.continuations.push_back(
          Continue(model->get(), prompt, activations));
    }
    expected_.push_back(std::move(expected));
  }

  // Runs all of the cases and compares them, in order.
  void Run() {
    const std::string folder = MakeTestFolder();
    WriteTestFile(folder + "/cases.json", WriteJson(cases_));
    const std::string command =
        absl::StrCat("node qeff/export/onnx/interop/run_onnx.cjs '", modules_,
                     "' ", folder, "/cases.json ", folder, "/results.json");
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    results_ =
        ParseJson(ReadTestFile(folder + "/results.json"), "results").value();
    ASSERT_EQ(results_.size(), cases_.size());
    for (size_t i = 0; i < expected_.size(); ++i) Compare(i);
  }

  std::string NewFile() { return MakeTestFolder() + "/model.onnx"; }

  static constexpr int64_t kKept = 3;
  const std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
  Json cases_ = Json::array();
  Json results_;

 private:
  struct Expected {
    std::string name;
    double tolerance;
    std::vector<Continuation> continuations;
    std::vector<std::string> dequantized;
  };

  Continuation Continue(QEFFAutoModelForCausalLM* model,
                        const std::vector<int32_t>& prompt,
                        Activations activations) {
    CompileOptions compile;
    compile.lm_head = LmHeadRule::kKeep;
    compile.activations = activations;
    EngineOptions options;
    options.context_length = kContext;
    options.activations = activations;
    auto engine = model->CreateEngine(compile, options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    Continuation result;
    EXPECT_EQ((*engine)->Score({/*slot=*/0, prompt},
                               [&](int64_t, MatrixView<const float> rows) {
                                 for (int64_t r = 0; r < rows.rows(); ++r) {
                                   result.prompt.emplace_back(
                                       rows.row(r), rows.row(r) + rows.cols());
                                 }
                               }),
              absl::OkStatus());
    (*engine)->Reset();
    std::vector<int32_t> next = prompt;
    for (int64_t step = 0;; ++step) {
      const auto logits = (*engine)->Append(next);
      EXPECT_TRUE(logits.ok()) << logits.status();
      result.logits.emplace_back(logits->begin(), logits->end());
      if (step == kSteps) return result;
      const std::vector<float>& row = result.logits.back();
      next = {static_cast<int32_t>(std::max_element(row.begin(), row.end()) -
                                   row.begin())};
      result.tokens.push_back(next[0]);
    }
  }

  void Compare(size_t i) {
    const Expected& expected = expected_[i];
    SCOPED_TRACE(expected.name);
    double worst = 0;
    for (size_t b = 0; b < expected.continuations.size(); ++b) {
      const Continuation& want = expected.continuations[b];
      EXPECT_EQ(results_[i]["tokens"][b].get<std::vector<int32_t>>(),
                want.tokens);
      const Json& rows = results_[i]["logits"][b];
      ASSERT_EQ(rows.size(), want.logits.size());
      for (size_t t = 0; t < rows.size(); ++t) {
        const std::vector<float> row = rows[t].get<std::vector<float>>();
        // The last of those that were kept.
        const size_t vocab = want.logits[t].size();
        ASSERT_EQ(row.size() % vocab, 0U);
        for (size_t v = 0; v < vocab; ++v) {
          worst = std::max(worst, std::abs(double{row[row.size() - vocab + v]} -
                                           double{want.logits[t][v]}));
        }
      }
      if (cases_[i].contains("keep")) CompareKept(rows[0], want.prompt);
    }
    EXPECT_LE(worst, expected.tolerance);
    RecordProperty(expected.name, absl::StrCat(worst));
    std::printf("%s: largest difference of a logit %.2g%s\n",
                expected.name.c_str(), worst,
                expected.dequantized.empty() ? "" : " (weights dequantized)");
  }

  // The rows after the last tokens of a prompt.
  void CompareKept(const Json& kept,
                   const std::vector<std::vector<float>>& prompt) {
    const std::vector<float> rows = kept.get<std::vector<float>>();
    const size_t vocab = prompt[0].size();
    ASSERT_EQ(rows.size(), vocab * kKept);
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t token = prompt.size() - kKept + i / vocab;
      ASSERT_NEAR(rows[i], prompt[token][i % vocab], 1e-3) << token;
    }
  }

  std::string modules_;
  std::vector<Expected> expected_;
};

Prompts TwoPrompts() {
  return {{1, 40, 90, 33, 270, 5, 17, 201, 64, 8, 123},
          {1, 7, 300, 12, 99, 45}};
}

TEST_F(OnnxRuntimeTest, EveryFamilyAsFloats) {
  int number = 0;
  for (const char* shape : {"tiny", "tiny-mistral", "tiny-qwen2", "tiny-qwen3",
                            "tiny-gpt2", "tiny-mpt"}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const std::string folder = SynthModel(shape, dtype);
      // Beside the checkpoint, whose file it refers to, and elsewhere.
      const bool in_place = ++number % 2 == 0;
      AddCausal(absl::StrCat(shape, " ", DTypeName(dtype),
                             in_place ? " in place" : ""),
                folder, in_place ? folder + "/model.onnx" : NewFile(), {},
                TwoPrompts(), 1e-3);
    }
  }
  Run();
}

// Codes that operators take, and some that none takes.
TEST_F(OnnxRuntimeTest, QuantizedWeights) {
  for (std::string scheme :
       {"int4_g32", "int4_g32 with zeros", "int4_g64", "int4", "int8",
        "int8 with zeros", "int8_g32", "int2_g32", "int3_g32", "w8a8",
        "nf4_g32", "mxfp4", "mxint8", "q4_0"}) {
    SCOPED_TRACE(scheme);
    const std::string name = scheme;
    const size_t zeros = scheme.find(" with zeros");
    QuantizeOptions options = OptionsFor(scheme.substr(0, zeros));
    options.scheme.symmetric = zeros == std::string::npos;
    const std::string source = SynthModel("tiny-mistral", DType::kF32);
    const TestModel model(source);
    const auto plan = model.Plan(options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const std::string folder = MakeTestFolder() + "/quantized";
    ASSERT_EQ(QuantizeCheckpoint(*model.checkpoint, *plan, folder, *pool_),
              absl::OkStatus());
    AddCausal(name, folder, folder + "/model.onnx", {}, TwoPrompts(), 1e-3);
  }
  Run();
}

TEST_F(OnnxRuntimeTest, StaticInputs) {
  const std::string source = SynthModel("tiny-qwen2", DType::kF32);
  const auto model =
      Transformer::Load(Checkpoint::Open(source).value()).value();
  const auto plan = PlanQuantization(model->checkpoint(), model->map(),
                                     OptionsFor("w8a8_static"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string folder = MakeTestFolder() + "/quantized";
  const auto result = QuantizeCalibrated(
      *model, *plan, RandomTokens(model->spec()), folder, {}, *pool_);
  ASSERT_TRUE(result.ok()) << result.status();
  // A code at a border may be rounded to the other side.
  AddCausal("w8a8_static", folder, folder + "/model.onnx", {}, TwoPrompts(),
            .05, Activations::kFast);
  Run();
}

TEST_F(OnnxRuntimeTest, OtherInputs) {
  const std::string folder = SynthModel("tiny-qwen3", DType::kF32);
  CausalLmOptions options;
  options.continuous_batching = true;
  AddCausal("continuous batching", folder, NewFile(), options, TwoPrompts(),
            1e-3);
  options.compute_context_lengths = true;
  AddCausal("compute context lengths", folder, NewFile(), options, TwoPrompts(),
            1e-3);
  options = {};
  options.speculative_target = true;
  AddCausal("speculative target", folder, NewFile(), options, TwoPrompts(),
            1e-3);
  Run();
}

TEST_F(OnnxRuntimeTest, HiddenStates) {
  const Prompts prompts = TwoPrompts();
  std::vector<std::pair<std::string, OnnxPooling>> exported;
  for (const char* shape : {"tiny", "tiny-mistral", "tiny-gpt2", "tiny-mpt"}) {
    const std::string folder = SynthModel(shape, DType::kF32);
    for (const OnnxPooling pooling : {OnnxPooling::kNone, OnnxPooling::kMean,
                                      OnnxPooling::kLast, OnnxPooling::kCls}) {
      const auto model =
          Transformer::Load(Checkpoint::Open(folder).value()).value();
      const std::string onnx = NewFile();
      const auto report = ExportHiddenStatesOnnx(*model, pooling, onnx);
      ASSERT_TRUE(report.ok()) << report.status();
      cases_.push_back(
          Json{{"kind", "hidden"}, {"model", onnx}, {"prompts", prompts}});
      exported.emplace_back(folder, pooling);
    }
  }
  Run();
  for (size_t i = 0; i < exported.size(); ++i) {
    auto model = QEFFAutoModel::FromPretrained(exported[i].first, pool_.get());
    ASSERT_TRUE(model.ok()) << model.status();
    const std::vector<float> output =
        results_[i]["output"].get<std::vector<float>>();
    const size_t length = prompts[0].size();  // the longest
    for (size_t b = 0; b < prompts.size(); ++b) {
      const auto hidden = (*model)->HiddenStates(prompts[b]);
      ASSERT_TRUE(hidden.ok()) << hidden.status();
      const size_t size = static_cast<size_t>(hidden->cols());
      std::vector<float> want(hidden->data(),
                              hidden->data() + hidden->rows() * hidden->cols());
      size_t begin = b * length * size;
      if (exported[i].second != OnnxPooling::kNone) {
        want = Pool(hidden->view(),
                    exported[i].second == OnnxPooling::kMean   ? Pooling::kMean
                    : exported[i].second == OnnxPooling::kLast ? Pooling::kLast
                                                               : Pooling::kCls);
        begin = b * size;
      }
      for (size_t j = 0; j < want.size(); ++j) {
        ASSERT_NEAR(output[begin + j], want[j], 1e-3)
            << exported[i].first << ' ' << i << ' ' << b << ' ' << j;
      }
    }
  }
}

TEST_F(OnnxRuntimeTest, TrainedModels) {
  const char* data = std::getenv("QEFF_SHARED_DATA");
  if (data == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
  for (const char* name : {"tinystories6m", "stories260k"}) {
    AddCausal(name, absl::StrCat(data, "/", name), NewFile(), {}, TwoPrompts(),
              1e-3);
  }
  Run();
}

}  // namespace
}  // namespace qeff
