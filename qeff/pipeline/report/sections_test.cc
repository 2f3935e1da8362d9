// SPDX-License-Identifier: Apache-2.0
//
// What parts of the page make of cases that ExampleReport has not; browser_test
// compares the rest with what is drawn.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/pipeline/report/histogram_section.h"
#include "qeff/pipeline/report/layer_section.h"
#include "qeff/pipeline/report/loss_section.h"
#include "qeff/pipeline/report/step_section.h"
#include "qeff/pipeline/report/summary.h"

namespace qeff::internal_report {
namespace {

using absl::StrContains;
using ::testing::ElementsAre;

// The values of an attribute, in order.
std::vector<std::string> ValuesOf(const std::string& html,
                                  const std::string& attribute) {
  std::vector<std::string> values;
  const std::vector<std::string> parts =
      absl::StrSplit(html, " " + attribute + "=\"");
  for (size_t i = 1; i < parts.size(); ++i) {
    values.push_back(parts[i].substr(0, parts[i].find('"')));
  }
  return values;
}

TEST(LayerSectionTest, StepsAndRolesInTheirOrder) {
  const std::string html = LayerSection(
      {{"layers",
        {{{"name", "l0"}, {"role", "v"}, {"step", "b"}, {"loss", 1}},
         {{"name", "l1"}, {"role", "q"}, {"step", "b"}, {"loss", 2}},
         {{"name", "l2"}, {"role", "v"}, {"step", "a"}, {"loss", 3}},
         {{"name", "head"}, {"block", -1}, {"relative_error", 4}}}}});
  EXPECT_THAT(ValuesOf(html, "data-chart"),
              ElementsAre("layers-loss-b-v", "layers-loss-b-q",
                          "layers-loss-a-v", "layers-relative_error-head"));
  EXPECT_THAT(ValuesOf(html, "data-value"),
              ElementsAre("1.0", "2.0", "3.0", "4.0"));
}

// Also where nothing is known of layers.
TEST(LayerSectionTest, SensitivitiesByRoleAndScheme) {
  const std::string html = LayerSection({{"sensitivities",
                                          {{{"name", "block 0 qkv"},
                                            {"role", "qkv"},
                                            {"block", 0},
                                            {"scheme", "int4_g32"},
                                            {"sensitivity", .25}},
                                           {{"name", "block 0 o"},
                                            {"role", "o"},
                                            {"block", 0},
                                            {"scheme", "int4_g32"},
                                            {"sensitivity", .5}}}}});
  EXPECT_THAT(ValuesOf(html, "data-chart"),
              ElementsAre("layers-sensitivity-int4_g32-qkv",
                          "layers-sensitivity-int4_g32-o"));
  EXPECT_THAT(ValuesOf(html, "data-value"), ElementsAre("0.25", "0.5"));
  EXPECT_TRUE(StrContains(html, "int4_g32: sensitivity"));
  EXPECT_TRUE(StrContains(html, "All parts (2)"));
}

// A block that is not given is the next one of its role.
TEST(LayerSectionTest, LayersWithoutBlocks) {
  const std::string given = LayerSection(
      {{"layers",
        {{{"name", "a"}, {"role", "q"}, {"block", 0}, {"relative_error", 1}},
         {{"name", "b"},
          {"role", "q"},
          {"block", 1},
          {"relative_error", 2}}}}});
  const std::string counted =
      LayerSection({{"layers",
                     {{{"name", "a"}, {"role", "q"}, {"relative_error", 1}},
                      {{"name", "b"}, {"role", "q"}, {"relative_error", 2}}}}});
  EXPECT_EQ(given, counted);
}

TEST(HistogramSectionTest, WritesTheShareOfABinThatDoesNotFit) {
  Json histogram = {{"role", "q"},
                    {"low", -1},
                    {"high", 1},
                    {"before", {1, 1, 2, 2, 1, 1}},
                    {"after", {0, 0, 9, 1, 0, 0}}};
  const std::string cut =
      HistogramSection({{"weight_histograms", {histogram}}});
  EXPECT_TRUE(StrContains(cut, "↑ 90\u00A0%"));
  EXPECT_THAT(ValuesOf(cut, "data-after"),
              ElementsAre("0.0", "0.0", "9.0", "1.0", "0.0", "0.0"));
  histogram["after"] = {1, 1, 1, 1, 1, 1};
  EXPECT_FALSE(
      StrContains(HistogramSection({{"weight_histograms", {histogram}}}), "↑"));
  // One that has no width or no values is none.
  histogram["high"] = -1;
  EXPECT_EQ(HistogramSection({{"weight_histograms", {histogram}}}), "");
  histogram["high"] = 1;
  histogram["before"] = histogram["after"] = {0, 0};
  EXPECT_EQ(HistogramSection({{"weight_histograms", {histogram}}}), "");
}

TEST(LossSectionTest, LinesHaveAllPointsAndMarksAsManyAsAreSeen) {
  Json points = Json::array();
  for (int i = 0; i < 1000; ++i) points.push_back({{"step", i}, {"loss", i}});
  const std::string html = LossSection(
      {{"loss_curves", {{{"step", "distill_1"}, {"points", points}}}}});
  const std::vector<std::string> lines = ValuesOf(html, "points");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(std::count(lines[0].begin(), lines[0].end(), ','), 1000);
  EXPECT_EQ(ValuesOf(html, "data-step").size(), 334u);
  EXPECT_FALSE(StrContains(html, "held-out"));
}

TEST(StepSectionTest, SaysWhatAStepMade) {
  const std::string html = StepSection(
      {{"steps",
        {{{"name", "quantize_1"},
          {"kind", "quantize"},
          {"arguments", {"--scheme=int4_g32", "--text=<x>"}},
          {"hash", "0123"},
          {"from_cache", true},
          {"seconds", 12.5},
          {"bytes", 5e6},
          {"bits_per_weight", 4.5},
          {"result", {{"tokens", 7}, {"layers", {1}}, {"a<b", "c&d"}}}}}}});
  for (const char* part :
       {"<code>--scheme=int4_g32</code>", "<code>--text=&lt;x&gt;</code>",
        "5\u00A0MB · 4.5 bits a weight · 12.5\u00A0s · 0123", "from the cache",
        "<dt>tokens</dt><dd>7</dd>", "<dt>a&lt;b</dt><dd>c&amp;d</dd>",
        "bar cached"}) {
    EXPECT_TRUE(StrContains(html, part)) << part << html;
  }
  EXPECT_FALSE(StrContains(html, "<dt>layers"));
  EXPECT_FALSE(StrContains(html, "steps-memory"));
}

TEST(SummaryTest, FromTheFirstModelToTheLast) {
  const std::string html = Summary(
      {{"model", "dir/<m>/"},
       {"models",
        {{{"bytes", 8e6}, {"perplexity", 10}},
         {{"bytes", 3e6}, {"perplexity", 11}},
         {{"bytes", 2e6}, {"perplexity", 10.5}, {"kl_mean", 0.25}}}},
       {"steps", {{{"seconds", 30}}, {{"seconds", 60}, {"peak_bytes", 1e9}}}}});
  for (const char* part :
       {"<h1>&lt;m&gt;</h1>", "dir/&lt;m&gt;/</p>", "2\u00A0MB",
        "from 8\u00A0MB (÷\u00A04)", "10.5", "from 10 (+5\u00A0%)", "0.25",
        "1.5\u00A0min", "1\u00A0GB of memory"}) {
    EXPECT_TRUE(StrContains(html, part)) << part;
  }
}

TEST(SummaryTest, OfStepsWhereNothingWasEvaluated) {
  EXPECT_TRUE(StrContains(
      Summary(
          {{"steps", {{{"name", "a"}}, {{"bytes", 4e6}}, {{"bytes", 1e6}}}}}),
      "from 4\u00A0MB (÷\u00A04)"));
}

}  // namespace
}  // namespace qeff::internal_report
