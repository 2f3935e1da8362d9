// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/custom_io.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(CustomIoYamlTest, HasQEfficientsBytes) {
  EXPECT_EQ(CustomIoYaml({"past_key.0", "past_value.0"}, KvPrecision::kMxint8),
            " - IOName: past_key.0\n"
            "   Precision: mxint8\n"
            "\n"
            " - IOName: past_key.0_RetainedState\n"
            "   Precision: mxint8\n"
            "\n"
            " - IOName: past_value.0\n"
            "   Precision: mxint8\n"
            "\n"
            " - IOName: past_value.0_RetainedState\n"
            "   Precision: mxint8\n"
            "\n");
}

TEST(CustomIoYamlTest, NamesEveryPrecision) {
  EXPECT_EQ(KvPrecisionName(KvPrecision::kFloat16), "float16");
  EXPECT_EQ(KvPrecisionName(KvPrecision::kBfloat16), "bfloat16");
  EXPECT_EQ(KvPrecisionName(KvPrecision::kMxint8), "mxint8");
}

}  // namespace
}  // namespace qeff
