// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/scheme_sizes.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/compile/package_size.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/prune_model.h"
#include "qeff/prune/prune_plan.h"
#include "qeff/prune/sparsity_pattern.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;

constexpr const char* kSchemes[] = {"int5_g64", "int8", "int4_g64", "int3_g64",
                                    "int2_g32"};

std::vector<std::string> NamesOf(const SchemeSizes& sizes) {
  std::vector<std::string> names;
  for (const SchemeSize& size : sizes.schemes) names.push_back(size.scheme);
  return names;
}

// The folder that quantize writes, opened.
std::shared_ptr<const Checkpoint> Quantize(const std::string& folder,
                                           const std::string& scheme) {
  const TestModel model(folder);
  QuantizeOptions options;
  options.scheme = ParseQuantScheme(scheme).value();
  const auto plan = PlanQuantization(*model.checkpoint, model.map, options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  const std::string output = MakeTestFolder() + "/quantized";
  const auto pool = CreateThreadPool(1).value();
  const absl::Status status =
      QuantizeCheckpoint(*model.checkpoint, *plan, output, *pool);
  EXPECT_TRUE(status.ok()) << status;
  return Checkpoint::Open(output).value();
}

class SchemeSizesTest : public testing::TestWithParam<const char*> {};

TEST_P(SchemeSizesTest, OfAFolder) {
  const std::string folder = SynthModel(GetParam());
  const auto sizes = SizesInFolder(folder, kSchemes);
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_THAT(NamesOf(*sizes), ElementsAre("int2_g32", "int3_g64", "int4_g64",
                                           "int5_g64", "int8"));
  for (const SchemeSize& size : sizes->schemes) {
    EXPECT_EQ(Quantize(folder, size.scheme)->weight_bytes(), size.bytes);
  }
  EXPECT_GT(sizes->model_bytes, sizes->schemes.back().bytes);
}

// What has no kernel is left out; the rest takes what compile makes of it.
TEST_P(SchemeSizesTest, OfAPackage) {
  const std::string folder = SynthModel(GetParam());
  const auto sizes = SizesInPackage(folder, kSchemes);
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_THAT(NamesOf(*sizes),
              ElementsAre("int2_g32", "int3_g64", "int4_g64", "int8"));
  const auto tokenizer = Tokenizer::FromFolder(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto pool = CreateThreadPool(1).value();
  for (const SchemeSize& size : sizes->schemes) {
    SCOPED_TRACE(size.scheme);
    const auto transformer = Transformer::Load(Quantize(folder, size.scheme));
    ASSERT_TRUE(transformer.ok()) << transformer.status();
    CompileOptions options;
    options.lm_head = LmHeadRule::kQuantize;
    const auto plan = ModelCompiler(**transformer, options, pool.get()).Plan();
    ASSERT_TRUE(plan.ok()) << plan.status();
    const DeviceModel& device = plan->model;
    EXPECT_EQ(SizeOfBlocks(device).bits_per_weight(), size.bits_per_weight);
    EXPECT_EQ(SizeOfBlocks(device).weights, sizes->weights);
    EXPECT_EQ(PlannedFileBytes(device, &(*tokenizer)->tables()).value(),
              size.bytes);
    EXPECT_NEAR(sizes->BitsWithin(size.bytes), size.bits_per_weight, 0.05);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, SchemeSizesTest,
                         testing::Values("tiny", "tiny-gpt2", "tiny-mpt"));

// What pruning to random masks makes, with the parts that lie beside them.
TEST(SparseSizesTest, AreThoseOfSparseMatrices) {
  const std::string folder = SynthBlockModel();
  const char* const schemes[] = {"int4_g128", "int8"};
  const auto sizes = SizesInPackage(folder, schemes);
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  const auto pool = CreateThreadPool(1).value();
  for (const SchemeSize& size : sizes->schemes) {
    SCOPED_TRACE(size.scheme);
    const std::string pruned = MakeTestFolder() + "/pruned";
    const TestModel model(folder);
    PruneOptions options;
    options.method = PruneMethod::kMagnitude;
    options.pattern = ParseSparsityPattern("0.5").value();
    const auto plan = PlanPruning(*model.checkpoint, model.map, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const auto dense = Transformer::Load(model.checkpoint);
    ASSERT_TRUE(PruneByMagnitude(**dense, *plan, pruned, {}, *pool).ok());
    const auto sparse = Transformer::Load(Quantize(pruned, size.scheme));
    ASSERT_TRUE(sparse.ok()) << sparse.status();
    CompileOptions compile;
    compile.sparse = SparseRule::kSmaller;
    const auto compiled = ModelCompiler(**sparse, compile, pool.get()).Plan();
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    // Rounding makes a few more zeros.
    const double bits = SizeOfBlocks(compiled->model).bits_per_weight();
    EXPECT_LE(bits, size.SparseBits(0.5) + 0.01);
    EXPECT_GE(bits, size.SparseBits(0.6));
  }
}

TEST(SparseSizesTest, TwoOfFourTakesABitInsteadOfHalf) {
  SchemeSize size;
  size.bits = 4;
  size.bits_per_weight = 4.125;
  EXPECT_EQ(size.TwoOfFourBits(), 3.125);
}

}  // namespace
}  // namespace qeff
