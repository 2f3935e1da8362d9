// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/package_size.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>

#include "gtest/gtest.h"
#include "qeff/compile/package_writer.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/reference_model.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

TEST(PackageSizeTest, IsThatOfTheFile) {
  const std::string path = MakeTestFolder() + "/model.qeff";
  const TokenizerTables tables = FullTables();
  const auto model = RandomModel(SmallSpec(), 5, DType::kBF16);
  for (const TokenizerTables* tokenizer :
       {&tables, static_cast<const TokenizerTables*>(nullptr)}) {
    ASSERT_TRUE(WritePackage(*model, tokenizer, {}, path).ok());
    const auto planned = PlannedFileBytes(*model, tokenizer);
    ASSERT_TRUE(planned.ok()) << planned.status();
    EXPECT_LE(std::abs(static_cast<int64_t>(*planned) -
                       static_cast<int64_t>(std::filesystem::file_size(path))),
              64);
  }
}

// Rows of 32 make a panel, groups of int3 steps of 32 columns.
TEST(PackageSizeTest, BlocksCountPaddingAndScales) {
  DeviceModel plan;
  plan.blocks.resize(1);
  const auto set = [](DeviceMatrix* matrix, WeightLayout layout, int64_t rows,
                      int64_t cols) {
    matrix->layout = layout;
    matrix->rows = rows;
    matrix->cols = cols;
  };
  set(&plan.token_embedding, FloatRows{DType::kF32}, 100, 64);  // not of it
  DeviceMatrix* const q = &plan.blocks[0].q.weight;
  set(q, *PackedIntLayout::Create(4, 32, 64, 64, DType::kBF16), 32, 64);
  EXPECT_EQ(SizeOfBlocks(plan).weights, 32 * 64);
  EXPECT_EQ(SizeOfBlocks(plan).bits_per_weight(), 4.25);
  set(q, *PackedIntLayout::Create(3, 20, 48, 0, DType::kBF16), 20, 48);
  EXPECT_EQ(SizeOfBlocks(plan).bytes, 32 * 64 * 3 / 8 + 32 * 2);
  EXPECT_EQ(SizeOfBlocks(plan).weights, 20 * 48);
  set(q, FloatRows{DType::kF32}, 32, 64);
  EXPECT_EQ(SizeOfBlocks(plan).bits_per_weight(), 32);
}

}  // namespace
}  // namespace qeff
