// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_transform.h"

#include "gtest/gtest.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

TEST(QuantizeTransform, AppliesAndReports) {
  const auto model =
      Transformer::Load(Checkpoint::Open(SynthModel("tiny")).value()).value();
  QuantizeTransform transform(OptionsFor("int4_g32"));
  EXPECT_EQ(transform.name(), "quantize(int4_g32)");
  QuantizeOptions searched = OptionsFor("int4_g32");
  searched.rounding = Rounding::kLeastSquares;
  EXPECT_EQ(QuantizeTransform(searched).name(), "quantize(int4_g32,mse)");
  const auto pool = CreateThreadPool(2).value();
  const std::string output = MakeTestFolder() + "/out";
  const auto report = transform.Apply(*model, output, *pool);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->applied);
  EXPECT_EQ(report->tensors, 14);
  EXPECT_EQ(report->detail,
            "14 linear layers at 4.537 bits a weight, layout qeff");
  const auto written = Transformer::Load(Checkpoint::Open(output).value());
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_TRUE((*written)->quantization().has_value());

  const auto again = transform.Apply(**written, output + "2", *pool);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qeff
