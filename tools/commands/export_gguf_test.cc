// SPDX-License-Identifier: Apache-2.0
//
// `qeff export --format=gguf` of quantized models, read by `qeff eval`.

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kText[] = "tools/demo_model/text.txt";

class ExportGgufTest : public ::testing::Test {
 protected:
  // Folder of the demo model `model`, quantized to `scheme`.
  std::string Quantize(const std::string& model, const std::string& scheme) {
    const std::string output = folder_ + "/" + model + "-" + scheme;
    const CommandOutcome outcome =
        RunQeff({"quantize", "--model=tools/demo_model/" + model,
                 "--output=" + output, "--scheme=" + scheme});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return output;
  }
  CommandOutcome Export(const std::string& model,
                        std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"export", "--format=gguf", "--model=" + model,
                                 "--output=" + file_, "--lm_head=f32"});
    return RunQeff(flags);
  }
  // Mean divergence of the file from `reference`.
  double Kl(const std::string& reference) {
    const CommandOutcome eval =
        RunQeff({"eval", "--model=" + file_, "--reference=" + reference,
                 std::string("--text=") + kText, "--context_length=64",
                 "--max_tokens=200", "--executor=host"});
    EXPECT_EQ(eval.code, 0) << eval.err;
    return eval.json["kl_mean"].get<double>();
  }

  const std::string folder_ = MakeTestFolder();
  const std::string files_ = MakeTestFolder();
  const std::string file_ = files_ + "/model.gguf";
};

TEST_F(ExportGgufTest, QuantizedLayersKeepTheirValues) {
  for (const char* scheme : {"int4_g32", "int8", "mxfp4"}) {
    SCOPED_TRACE(scheme);
    const std::string quantized = Quantize("llama", scheme);
    const CommandOutcome exported = Export(quantized);
    ASSERT_EQ(exported.code, 0) << exported.err;
    EXPECT_THAT(exported.json["kept_f16"], IsEmpty());
    EXPECT_LT(Kl(quantized), 1e-9);
  }
}

TEST_F(ExportGgufTest, OtherCodesAreRoundedOnRequest) {
  const std::string quantized = Quantize("llama", "nf4_g32");
  const CommandOutcome refused = Export(quantized);
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err,
              HasSubstr("q_proj: no block of ggml has the values "
                        "of nf4; requantize rounds the layer again"));
  EXPECT_THAT(ListTestFolder(files_), IsEmpty());
  const CommandOutcome exported =
      Export(quantized, {"--requantize", "--scheme=q8_0"});
  ASSERT_EQ(exported.code, 0) << exported.err;
  const double kl = Kl(quantized);
  EXPECT_GT(kl, 0);
  EXPECT_LT(kl, 1e-3);
}

// Blocks are what the device runs on; what changes weights asks for floats.
TEST_F(ExportGgufTest, ImportKeepsBlocksUnlessFloatsAreWanted) {
  const std::string quantized = Quantize("llama", "int4_g32");
  ASSERT_EQ(Export(quantized).code, 0);
  const std::string blocks = files_ + "/blocks", floats = files_ + "/floats";
  const CommandOutcome kept =
      RunQeff({"import", "--model=" + file_, "--output=" + blocks});
  ASSERT_EQ(kept.code, 0) << kept.err;
  EXPECT_GT(kept.json["quantized_tensors"], 0);
  const CommandOutcome decoded = RunQeff(
      {"import", "--model=" + file_, "--output=" + floats, "--dequantize"});
  ASSERT_EQ(decoded.code, 0) << decoded.err;
  EXPECT_EQ(decoded.json["quantized_tensors"], 0);

  const auto tokens = [](const std::string& model) {
    const CommandOutcome outcome =
        RunQeff({"generate", "--model=" + model, "--prompt=The whale",
                 "--max_new_tokens=12"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.json["tokens"];
  };
  EXPECT_EQ(tokens(blocks), tokens(quantized));

  const auto quantize = [&](const std::string& model) {
    return RunQeff({"quantize", "--model=" + model, "--scheme=int8",
                    "--output=" + files_ + "/again"});
  };
  const CommandOutcome refused = quantize(blocks);
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("qeff import --dequantize"));
  EXPECT_EQ(quantize(floats).code, 0);

  // Of the file itself, too, MXFP6 is made of floats.
  const CommandOutcome simulated =
      RunQeff({"eval", "--model=" + file_, std::string("--text=") + kText,
               "--context_length=64", "--max_tokens=200", "--simulate=mxfp6"});
  EXPECT_EQ(simulated.code, 0) << simulated.err;
}

}  // namespace
}  // namespace qeff
