// SPDX-License-Identifier: Apache-2.0
//
// What a search tries, with commands that only say what they would lose;
// tools/commands/optimize_test.cc runs it with the real ones.

#include "qeff/pipeline/search.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/quant/quant_testutil.h"

namespace qeff {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr double kNllBefore = 2;

// Those of quantize but for 5 and 6 bits, by size.
constexpr char kDeviceSchemes[] =
    "int2_g64,int2_g32,int3_g128,int3_g64,int3_g32,int4_g128,int4_g64,int4_g32,"
    "int8";

class SearchTest : public testing::Test {
 protected:
  SearchTest() {
    inputs_.model = SynthModel("tiny");
    inputs_.calibration = inputs_.text = folder_ + "/text.txt";
    WriteTestFile(inputs_.text, "text");
    options_.work = folder_ + "/work";
    options_.run = [this](const std::vector<std::string>& arguments) {
      return Run(arguments);
    };
  }

  // Nats a token that a scheme loses calibrated; rounded it is three times
  // that.
  std::map<std::string, double> losses_ = {{"int2_g64", .4},
                                           {"int2_g32", .3},
                                           {"int3_g64", .03},
                                           {"int3_g32", .025},
                                           {"int4_g128", .01}};

  // Of sparse models, in probes as in full runs.
  double sparse_loss_ = .3;

  absl::StatusOr<SearchResult> Search() {
    return SearchRecipe(inputs_, limits_, options_, {});
  }

  const std::string folder_ = MakeTestFolder();
  RecipeInputs inputs_;
  RecipeRunOptions options_;
  SearchLimits limits_;
  std::vector<std::string> quantized_;  // "SCHEME ALGORITHM" of every run
  // What a package is said to have, one after another; then 3.
  std::vector<double> package_bits_;

 private:
  static std::string Flag(const std::vector<std::string>& arguments,
                          const std::string& name) {
    for (absl::string_view argument : arguments) {
      if (absl::ConsumePrefix(&argument, absl::StrCat("--", name, "="))) {
        return std::string(argument);
      }
    }
    return "";
  }

  absl::StatusOr<Json> Run(const std::vector<std::string>& arguments) {
    const std::string model = Flag(arguments, "model");
    if (arguments[0] == "quantize") {
      const std::string scheme = Flag(arguments, "scheme");
      const std::string algorithm = Flag(arguments, "algorithm");
      const std::string budget = Flag(arguments, "budget");
      quantized_.push_back(absl::StrCat(scheme, " ", budget,
                                        budget.empty() ? "" : " ", algorithm));
      const std::string output = Flag(arguments, "output");
      std::filesystem::copy(model, output);
      const double loss = budget.empty() ? losses_.at(scheme) : .5;
      WriteTestFile(output + "/loss",
                    absl::StrCat(loss * (algorithm == "mse" ? 3 : 1)));
      const double bits = budget.empty() ? scheme[3] - '0' + .25 : 3;
      return Json{{"quantized_bits_per_weight", bits}};
    }
    if (arguments[0] == "prune") {
      const std::string what =
          absl::StrCat(Flag(arguments, "sparsity"), Flag(arguments, "pattern"),
                       " of ", Flag(arguments, "scheme"));
      const bool full = Flag(arguments, "calibration_tokens") == "65536";
      quantized_.push_back(absl::StrCat(what, full ? "" : " probe"));
      const std::string output = Flag(arguments, "output");
      std::filesystem::copy(model, output);
      WriteTestFile(output + "/loss", absl::StrCat(sparse_loss_));
      return Json::object();
    }
    if (arguments[0] == "distill") {
      const std::string output = Flag(arguments, "output");
      std::filesystem::copy(Flag(arguments, "student"), output);
      WriteTestFile(output + "/loss", "0.001");
      return Json::object();
    }
    if (arguments[0] == "compile") {
      EXPECT_EQ(Flag(arguments, "target"), limits_.target);
      WriteTestFile(Flag(arguments, "output"), "package");
      double bits = 3;
      if (!package_bits_.empty()) {
        bits = package_bits_.front();
        package_bits_.erase(package_bits_.begin());
      }
      return Json{{"bits_per_weight", bits}};
    }
    EXPECT_EQ(arguments[0], "eval");
    const double loss = std::filesystem::exists(model + "/loss")
                            ? std::stod(ReadTestFile(model + "/loss"))
                            : 0;
    return Json{{"nll", kNllBefore + loss},
                {"perplexity", std::exp(kNllBefore + loss)},
                {"kl_mean", loss}};
  }
};

TEST_F(SearchTest, OfASizeASchemeThatIsFarBehindIsNotRunInFull) {
  limits_.bits_per_weight = 3.3;
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->ruled_out, ElementsAre("int2_g32"));
  EXPECT_THAT(quantized_, ElementsAre("int3_g64 gptq", "int3_g64 mse",
                                      "int2_g32 mse", " 3.3bpw gptq"));
  EXPECT_EQ(found->recipe.step(0).quantize().scheme(), "int3_g64");
}

TEST_F(SearchTest, OfASizeBothThatAreCloseAreRun) {
  limits_.bits_per_weight = 3.3;
  losses_["int2_g32"] = .06;  // twice that of int3_g64
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->ruled_out, IsEmpty());
  EXPECT_THAT(quantized_, Contains("int2_g32 best"));
}

// 5 % are .0488 nats: three times .3 are more than ten times that.
TEST_F(SearchTest, OfAPerplexityWhatIsHopelessIsNotRunInFull) {
  limits_.perplexity_increase = .05;
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->ruled_out, ElementsAre("int2_g64", "int2_g32"));
  EXPECT_THAT(quantized_, Not(Contains("int2_g32 best")));
  EXPECT_THAT(quantized_, Contains("int3_g64 gptq"));
  ASSERT_FALSE(found->seen.empty());
  EXPECT_EQ(found->seen[0].name, "int3_g64");
  EXPECT_TRUE(found->seen[0].chosen);
}

// What rounding loses says too little here: all are run until one fits.
TEST_F(SearchTest, OfAPerplexityWhatMayFitIsRun) {
  limits_.perplexity_increase = .02;
  losses_["int2_g64"] = losses_["int2_g32"] = .06;
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->ruled_out, IsEmpty());
  EXPECT_THAT(quantized_, Contains("int2_g64 best"));
  EXPECT_EQ(found->recipe.step(0).quantize().scheme(), "int4_g128");
}

// Neither has a scheme that would be float32 there: of the tiny model's layers,
// whose rows have 64 and 172 weights, int3_g64 takes 3.4 bits.
TEST_F(SearchTest, ForADeviceSizesAreThoseOfThePackage) {
  limits_.target = "generic";
  limits_.bits_per_weight = 3.3;
  losses_["int2_g32"] = .06;
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  // Masks of so small layers would take more than they save.
  EXPECT_THAT(quantized_,
              ElementsAre("int2_g32 best", "int2_g64 best",
                          absl::StrCat(kDeviceSchemes, " 3.3bpw gptq")));
  for (const Candidate& seen : found->seen) {
    EXPECT_EQ(seen.bytes, 7U);  // of the file
    EXPECT_EQ(seen.bits_per_weight, 3);
  }
  const auto& steps = found->recipe.step();
  ASSERT_EQ(steps.size(), 3);
  EXPECT_TRUE(steps[1].has_evaluate());
  EXPECT_EQ(steps[2].compile().target(), "generic");
}

// quantize counts without padding: what comes out too large is tried smaller.
TEST_F(SearchTest, ForADeviceABudgetIsWhatFits) {
  limits_.target = "generic";
  limits_.bits_per_weight = 3.3;
  losses_["int2_g32"] = .06;
  package_bits_ = {2.6, 2.3, 3.6, 3.3};
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(quantized_.size(), 4U);
  EXPECT_EQ(quantized_[2], absl::StrCat(kDeviceSchemes, " 3.3bpw gptq"));
  EXPECT_EQ(quantized_[3], absl::StrCat(kDeviceSchemes, " 3.00987bpw gptq"));
}

// Its probe is calibrated: it has to lose clearly less than what is rounded.
TEST_F(SearchTest, ForADeviceASparseModelThatIsCloseIsRunInFull) {
  limits_.target = "generic";
  inputs_.model = SynthBlockModel();
  limits_.bits_per_weight = 3.3;
  losses_["int2_g32"] = .06;
  sparse_loss_ = .05;
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  // Of those that lose the same, one.
  EXPECT_THAT(found->ruled_out, ElementsAre("2:4 of int4_g128"));
  EXPECT_EQ(quantized_.back(), "0.53 of int4_g128");
  EXPECT_TRUE(found->seen.back().chosen);
  const auto& steps = found->recipe.step();
  ASSERT_EQ(steps.size(), 3);
  EXPECT_EQ(steps[0].prune().scheme(), "int4_g128");
  EXPECT_EQ(steps[2].compile().sparse(), "smaller");
}

// With data it is taught, too, and may be further behind before.
TEST_F(SearchTest, ForADeviceSparseModelsAreTaught) {
  limits_.target = "generic";
  inputs_.model = SynthBlockModel();
  limits_.bits_per_weight = 3.3;
  inputs_.data = {inputs_.text};
  losses_["int2_g32"] = .06;
  sparse_loss_ = .4;
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->seen.back().name, "0.53 of int4_g128, distilled");
  sparse_loss_ = .5;
  options_.work += "2";
  const auto other = Search();
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_THAT(other->ruled_out,
              ElementsAre("0.53 of int4_g128", "2:4 of int4_g128"));
}

// Smaller than the budgets that keep to it.
TEST_F(SearchTest, ForADeviceOfAPerplexitySparseModelsAreSmaller) {
  limits_.target = "generic";
  inputs_.model = SynthBlockModel();
  limits_.perplexity_increase = .05;
  sparse_loss_ = .04;
  const auto found = Search();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->seen.back().name, "0.64 of int4_g128");
}

// Zeros take the place of any other code.
TEST_F(SearchTest, OfAFolderNoSparseModelIsTried) {
  limits_.bits_per_weight = 3.3;
  ASSERT_TRUE(Search().ok());
  EXPECT_THAT(quantized_, Not(Contains(HasSubstr("of int4_g128"))));
}

}  // namespace
}  // namespace qeff
