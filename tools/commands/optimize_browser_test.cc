// SPDX-License-Identifier: Apache-2.0
//
// The report of a run on a real model, as a browser shows it: every part is
// there, and has the values of report.json.

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/pipeline/report/browser_testutil.h"
#include "qeff/util/json.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using internal_report::ExpectProportions;
using internal_report::ExpectReadable;
using internal_report::ExpectValuesOfReport;
using internal_report::HasBrowser;
using internal_report::Measure;
using internal_report::Scheme;
using ::testing::IsSupersetOf;

constexpr char kText[] = "tools/demo_model/text.txt";

class OptimizeBrowserTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasBrowser()) GTEST_SKIP() << "SKIPPED: chromium is not installed";
  }

  // Optimizes the demo model; the report of it.
  Json Optimize(const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {
        "optimize", "--model=tools/demo_model/llama", "--output=" + output_,
        std::string("--calibration=") + kText, std::string("--text=") + kText};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const CommandOutcome outcome = RunQeff(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const auto report =
        ParseJson(ReadTestFile(output_ + "/report.json"), "report.json");
    EXPECT_TRUE(report.ok()) << report.status();
    return report.value_or(Json());
  }

  // What is drawn is what report.json has; returns the names of the charts.
  std::set<std::string> ExpectDrawn(const Json& report) {
    std::set<std::string> charts;
    const std::string page = ReadTestFile(output_ + "/report.html");
    for (const Json& view : Measure(page, Scheme::kLight, "run.html")) {
      SCOPED_TRACE(view["width"]);
      EXPECT_EQ(view["report"], report);
      ExpectValuesOfReport(view, report);
      ExpectProportions(view);
      ExpectReadable(view);
      for (const Json& chart : view["charts"]) charts.insert(chart["id"]);
    }
    return charts;
  }

  const std::string folder_ = MakeTestFolder();
  const std::string output_ = folder_ + "/out";
};

TEST_F(OptimizeBrowserTest, OfARecipe) {
  const std::string recipe = folder_ + "/recipe.textproto";
  WriteTestFile(recipe, R"(
step { prune { pattern: "2:4" calibration_tokens: 1024 sequence_length: 64 } }
step { evaluate { max_tokens: 1000 } }
step { distill { loss: "kl:1,ce:1" steps: 8 batch_size: 2 sequence_length: 64
                 eval_every: 4 } }
step { quantize { scheme: "int4_g32" algorithm: "gptq"
                  calibration_tokens: 1024 sequence_length: 64 } }
step { evaluate { max_tokens: 1000 } }
)");
  const Json report =
      Optimize({"--recipe=" + recipe, std::string("--data=") + kText});
  EXPECT_THAT(
      ExpectDrawn(report),
      IsSupersetOf(
          {"front-perplexity", "front-kl", "layers-relative_error-down",
           "layers-loss-down", "layers-sensitivity-int4_g32-qkv",
           "layers-sensitivity-int4_g32-down", "weights-q", "activations-down",
           "loss-distill_4", "steps-time", "steps-memory"}));
  EXPECT_EQ(report["models"].size(), 3U);
  EXPECT_EQ(report["samples"].size(), 1U);
  EXPECT_FALSE(report["samples"][0]["after"].get<std::string>().empty());
  EXPECT_EQ(report["sensitivities"].size(),
            4 * report["layers"].size() / 7);  // q, k, v, o, gate, up, down
}

TEST_F(OptimizeBrowserTest, OfASearch) {
  const Json report =
      Optimize({"--target_bpw=3.25", "--calibration_tokens=1024"});
  EXPECT_GE(report["front"].size(), 2U);
  EXPECT_THAT(ExpectDrawn(report),
              IsSupersetOf({"front-perplexity", "front-kl"}));
}

}  // namespace
}  // namespace qeff
