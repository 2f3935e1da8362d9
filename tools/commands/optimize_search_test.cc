// SPDX-License-Identifier: Apache-2.0
//
// `qeff optimize` with a limit of a device package, on the demo model.

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/io/io_testutil.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// Of the text, so that the searches take seconds.
constexpr size_t kTextBytes = 10000;

class OptimizeSearchTest : public testing::Test {
 protected:
  void SetUp() override {
    WriteTestFile(
        text_, ReadTestFile("tools/demo_model/text.txt").substr(0, kTextBytes));
  }

  CommandOutcome Search(const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {"optimize",
                                          "--model=tools/demo_model/llama",
                                          "--output=" + output_,
                                          "--target=generic",
                                          "--calibration_tokens=1024",
                                          "--calibration=" + text_,
                                          "--text=" + text_};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunQeff(arguments);
  }

  // The package that the output has.
  std::string Package() const {
    for (const std::string& name : ListTestFolder(output_)) {
      if (name.rfind("compile_", 0) == 0) {
        return output_ + "/" + name + "/model.qpk";
      }
    }
    return "";
  }

  // Every layer of the blocks has an integer product.
  static void ExpectIntegers(const std::string& path) {
    const auto package = DevicePackage::Open(path);
    ASSERT_TRUE(package.ok()) << package.status();
    VisitMatrices(package->model().get(), [](const TensorId& id,
                                             const DeviceMatrix* matrix) {
      if (!IsInBlock(id.role) || matrix->rows == 0) return;
      EXPECT_TRUE(std::holds_alternative<PackedIntLayout>(matrix->layout))
          << TensorName(id);
    });
  }

  // What was chosen.
  static Json Chosen(const Json& report) {
    for (const Json& seen : report["front"]) {
      if (seen["chosen"]) return seen;
    }
    return Json();
  }

  const std::string folder_ = MakeTestFolder();
  const std::string text_ = folder_ + "/text.txt";
  const std::string output_ = folder_ + "/out";
};

TEST_F(OptimizeSearchTest, OfAPackageOfSoManyBits) {
  const CommandOutcome found = Search({"--target_bpw=5.5"});
  ASSERT_EQ(found.code, 0) << found.err;
  ExpectIntegers(Package());
  const Json chosen = Chosen(found.json);
  EXPECT_LE(chosen["bits_per_weight"].get<double>(), 5.5);
  EXPECT_EQ(chosen["bytes"], std::filesystem::file_size(Package()));
  EXPECT_THAT(ReadTestFile(output_ + "/recipe.textproto"),
              HasSubstr("target: \"generic\""));
  EXPECT_GE(found.json["front"].size(), 2U);
}

// With fewer weights, too.
TEST_F(OptimizeSearchTest, OfAPackageOfSoManyBytes) {
  const CommandOutcome found = Search({"--target_size=2.4MB"});
  ASSERT_EQ(found.code, 0) << found.err;
  ExpectIntegers(Package());
  EXPECT_LE(std::filesystem::file_size(Package()), 2400000U);
  ASSERT_GE(found.json["front"].size(), 3U);
  const Json sparse = found.json["front"].back();
  EXPECT_THAT(sparse["name"].get<std::string>(), HasSubstr(" of int4_g128"));
  EXPECT_LE(sparse["bytes"].get<int64_t>(), 2400000);
  EXPECT_THAT(sparse["recipe"].get<std::string>(), HasSubstr("sparsegpt"));
  EXPECT_THAT(found.out, HasSubstr("of int4_g128: ruled out by a probe"));
}

TEST_F(OptimizeSearchTest, ATargetIsNotOfARecipe) {
  EXPECT_EQ(Search({"--recipe=any"}).code, 2);
  EXPECT_EQ(Search({"--target_bpw=3", "--target=vax"}).code, 2);
}

}  // namespace
}  // namespace qeff
