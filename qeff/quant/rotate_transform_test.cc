// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/rotate_transform.h"

#include <algorithm>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/quant/quantize_transform.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// A rotation and a quantization, one after the other.
TEST(RotateTransform, AppliesAndReports) {
  const auto model =
      Transformer::Load(Checkpoint::Open(SynthModel("tiny-qwen2")).value())
          .value();
  const auto pool = CreateThreadPool(2).value();
  const std::string output = MakeTestFolder() + "/out";
  RotateTransform transform(/*seed=*/4);
  EXPECT_EQ(transform.name(), "rotate");
  const auto report = transform.Apply(*model, output, *pool);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->applied);
  // Of each block two norms, seven weights and the bias of v; the embedding,
  // the last norm and lm_head.
  EXPECT_EQ(report->tensors, 2 * 10 + 3);
  EXPECT_THAT(report->detail, HasSubstr("blocks of 64, values of each head"));
  const auto rotated = Transformer::Load(Checkpoint::Open(output).value());
  ASSERT_TRUE(rotated.ok()) << rotated.status();
  const auto quantized = QuantizeTransform(OptionsFor("int8"))
                             .Apply(**rotated, output + "8", *pool);
  ASSERT_TRUE(quantized.ok()) << quantized.status();
  const auto written = Checkpoint::Open(output + "8").value();
  EXPECT_TRUE(std::none_of(
      written->tensors().begin(), written->tensors().end(),
      [](const TensorInfo& info) { return info.dtype == DType::kF32; }));
}

TEST(RotateTransform, RefusesOtherNorms) {
  const auto model =
      Transformer::Load(Checkpoint::Open(SynthModel("tiny-gpt2")).value())
          .value();
  const auto pool = CreateThreadPool(1).value();
  EXPECT_EQ(RotateTransform()
                .Apply(*model, MakeTestFolder() + "/out", *pool)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qeff
