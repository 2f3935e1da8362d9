// SPDX-License-Identifier: Apache-2.0
//
// Trained models, quantized, on the device engine with 8-bit activations,
// against the host forward over the same codes. Needs QEFF_SHARED_DATA.

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/quant/quantize_plan.h"

namespace qeff {
namespace {

struct Case {
  std::string model;
  std::string scheme;
};

class QuantizedEngineTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("QEFF_SHARED_DATA");
    if (folder == nullptr || *folder == '\0') {
      GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
    }
    const auto model =
        LoadTransformer(absl::StrCat(folder, "/", GetParam().model));
    ASSERT_TRUE(model.ok()) << model.status();
    QuantizeOptions options;
    options.scheme = *ParseQuantScheme(GetParam().scheme);
    const auto plan =
        PlanQuantization((*model)->checkpoint(), (*model)->map(), options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    folder_ = MakeTestFolder() + "/quantized";
    ASSERT_TRUE(
        QuantizeCheckpoint((*model)->checkpoint(), *plan, folder_, *pool_, {})
            .ok());
  }

  // The relative error of the engine's logits over a whole text.
  double Error(QEFFAutoModelForCausalLM* model, Activations activations) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 100; ++i) tokens.push_back((i * i + 5) % 160);
    const auto expected = model->Logits(tokens);
    CompileOptions compile;
    compile.activations = activations;
    compile.lm_head = LmHeadRule::kKeep;
    EngineOptions options;
    options.context_length = 100;
    options.activations = activations;
    const auto engine = model->CreateEngine(compile, options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    double difference = 0, norm = 0;
    const absl::Status status = (*engine)->Score(
        {0, tokens}, [&](int64_t first, MatrixView<const float> logits) {
          for (int64_t r = 0; r < logits.rows(); ++r) {
            const float* row = expected->row(first + r);
            for (int64_t i = 0; i < logits.cols(); ++i) {
              difference += std::pow(logits.row(r)[i] - row[i], 2);
              norm += std::pow(row[i], 2);
            }
          }
        });
    EXPECT_TRUE(status.ok()) << status;
    return std::sqrt(difference / norm);
  }

  const std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  std::string folder_;
};

TEST_P(QuantizedEngineTest, LogitsAreThoseOfTheCodes) {
  const auto model =
      QEFFAutoModelForCausalLM::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok()) << model.status();
  const double fast = Error(model->get(), Activations::kFast);
  const double exact = Error(model->get(), Activations::kFloat32);
  RecordProperty("fast", absl::StrCat(fast));
  RecordProperty("exact", absl::StrCat(exact));
  EXPECT_LT(fast, 0.02);
  EXPECT_GT(fast, exact);
  EXPECT_LT(exact, 1e-5);  // two float32 forwards
}

INSTANTIATE_TEST_SUITE_P(Models, QuantizedEngineTest,
                         ::testing::Values(Case{"stories260k", "int8"},
                                           Case{"stories260k", "int4_g32"},
                                           Case{"tinystories6m", "int8"},
                                           Case{"tinystories6m", "int4_g64"}),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           return absl::StrCat(info.param.model, "_",
                                               info.param.scheme);
                         });

}  // namespace
}  // namespace qeff
