// SPDX-License-Identifier: Apache-2.0
//
// Pruned weights from codes to a package and through the engine.

#include "qeff/compile/sparse_matrix.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/compile/pack_matrix.h"
#include "qeff/compile/package_writer.h"
#include "qeff/device/engine.h"
#include "qeff/device/model.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/package/package_format.h"
#include "qeff/device/reference_model.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

class SparseMatrixTest : public ::testing::Test {
 protected:
  // Random weights of which `part` are 0.
  std::vector<float> Weights(int64_t rows, int64_t cols, double part) {
    const Random random(1);
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (size_t i = 0; i < values.size(); ++i) {
      const double draw =
          static_cast<double>(random.At(i + values.size()) >> 11) * 0x1p-53;
      const bool removed = two_of_four_ ? i % 4 < 2 : draw < part;
      values[i] = removed ? 0 : random.NormalAt(i);
    }
    return values;
  }

  std::vector<uint8_t> BF16(int64_t rows, int64_t cols, double part) {
    const std::vector<float> values = Weights(rows, cols, part);
    std::vector<uint8_t> bytes(2 * values.size());
    ConvertFromFloat(values, DType::kBF16, absl::MakeSpan(bytes));
    return bytes;
  }

  QuantizedCopy Codes(const char* scheme, int64_t rows, int64_t cols,
                      double part) {
    const std::vector<float> values = Weights(rows, cols, part);
    const absl::Span<const uint8_t> bytes(
        reinterpret_cast<const uint8_t*>(values.data()),
        values.size() * sizeof(float));
    QuantScheme parsed = *ParseQuantScheme(
        std::string(scheme).substr(0, std::string(scheme).find(' ')));
    parsed.symmetric = symmetric_;
    return *QuantizedCopy::Make(
        parsed, {DType::kF32, Shape({rows, cols}), bytes}, pool_.get());
  }

  // The linear layers of a small model, most of them sparse if `sparse`.
  std::shared_ptr<DeviceModel> Model(const char* scheme, bool sparse) {
    TransformerSpec spec = SmallSpec();
    spec.hidden_size = 96;
    spec.head_dim = 24;
    spec.ffn_size = 160;
    const std::shared_ptr<DeviceModel> model = RandomModel(spec, 3);
    for (DeviceBlock& block : model->blocks) {
      for (DeviceLinear* linear : {&block.q, &block.k, &block.v, &block.o,
                                   &block.gate, &block.up, &block.down}) {
        DeviceMatrix& m = linear->weight;
        if (m.rows == 0) continue;
        m = Packed(scheme, m.rows, m.cols);
        if (sparse)
          m = SparseWhereBetter(std::move(m), SparseRule::kSmaller,
                                pool_.get());
      }
    }
    return model;
  }

  DeviceMatrix Packed(const char* scheme, int64_t rows, int64_t cols) {
    if (std::string(scheme) == "bf16") {
      return PackBF16(
          {DType::kBF16, Shape({rows, cols}), BF16(rows, cols, 0.7)},
          pool_.get());
    }
    return PackQuantized(Codes(scheme, rows, cols, 0.7).view(), rows,
                         pool_.get());
  }

  std::vector<float> Logits(const std::shared_ptr<const DeviceModel>& model,
                            Activations activations) {
    EngineOptions options;
    options.context_length = 40;
    options.activations = activations;
    auto engine = Engine::Create(model, pool_.get(), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    std::vector<int32_t> tokens;
    for (int32_t t = 0; t < 15; ++t) tokens.push_back(t % 7);
    std::vector<float> all;
    for (const std::vector<int32_t>& part :
         {tokens, std::vector<int32_t>{3}, std::vector<int32_t>{1}}) {
      const auto logits = (*engine)->Append(part);
      EXPECT_TRUE(logits.ok());
      all.insert(all.end(), logits->begin(), logits->end());
    }
    return all;
  }

  bool symmetric_ = true;
  bool two_of_four_ = false;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(SparseMatrixTest, ZerosAndTheRuleDecide) {
  int64_t cols = 1024;
  const auto sparse = [&](const char* scheme, double part, SparseRule rule) {
    const QuantizedCopy copy = Codes(scheme, 96, cols, part);
    const DeviceMatrix dense = PackQuantized(copy.view(), 96, pool_.get());
    const DeviceMatrix better = SparseWhereBetter(dense, rule, pool_.get());
    const bool is = std::get<PackedIntLayout>(better.layout).sparse();
    EXPECT_EQ(is, better.bytes.size() < dense.bytes.size());
    EXPECT_EQ(better.rows, 96);
    EXPECT_TRUE(!is || LooksPruned(copy.view(), 96));
    return is;
  };
  const SparseRule faster = SparseRule::kFaster;
  const SparseRule smaller = SparseRule::kSmaller;
  EXPECT_TRUE(sparse("int8", 0.5, faster));
  EXPECT_FALSE(sparse("int8", 0.2, faster));
  EXPECT_FALSE(sparse("int8", 0.5, SparseRule::kNever));
  EXPECT_TRUE(sparse("int4_g128", 0.5, faster));
  EXPECT_FALSE(sparse("int4_g128", 0.4, faster));
  EXPECT_TRUE(sparse("int4_g128", 0.4, smaller));
  EXPECT_FALSE(sparse("int4_g128", 0, smaller));
  EXPECT_FALSE(sparse("int3_g64", 0.9, smaller));
  two_of_four_ = true;
  EXPECT_TRUE(sparse("int4_g128", 0.5, faster));
  cols = 1000;  // short rows
  EXPECT_FALSE(sparse("int4_g128", 0.5, faster));
  EXPECT_TRUE(sparse("int4_g128", 0.5, smaller));
  EXPECT_TRUE(sparse("int8", 0.5, faster));
  two_of_four_ = false;
  EXPECT_FALSE(LooksPruned(Codes("int8", 10, 64, 0.1).view(), 10));
  EXPECT_FALSE(LooksPruned(Codes("int4_g32", 200, 256, 0).view(), 200));
}

TEST_F(SparseMatrixTest, ZerosAndTheRuleDecideForBF16) {
  const auto sparse = [&](double part, SparseRule rule) {
    const std::vector<uint8_t> weights = BF16(96, 512, part);
    const DeviceMatrix dense =
        PackBF16({DType::kBF16, Shape({96, 512}), weights}, pool_.get());
    const DeviceMatrix better = SparseWhereBetter(dense, rule, pool_.get());
    EXPECT_EQ(IsSparse(better.layout),
              better.bytes.size() < dense.bytes.size());
    EXPECT_TRUE(!IsSparse(better.layout) || LooksPruned(weights, 2));
    return IsSparse(better.layout);
  };
  EXPECT_TRUE(sparse(0.5, SparseRule::kFaster));
  EXPECT_TRUE(sparse(0.3, SparseRule::kFaster));
  EXPECT_FALSE(sparse(0.3, SparseRule::kNever));
  EXPECT_FALSE(sparse(0.2, SparseRule::kFaster));
  EXPECT_FALSE(sparse(0, SparseRule::kSmaller));
  EXPECT_FALSE(LooksPruned(BF16(10, 64, 0.1), 2));
  EXPECT_TRUE(LooksPruned(BF16(1, 3, 1), 2));
}

TEST_F(SparseMatrixTest, SignedBytesLookAsTheirCodes) {
  std::vector<uint8_t> bytes(100000, 1);
  EXPECT_FALSE(LooksPruned(bytes, 1));
  for (size_t i = 0; i < bytes.size(); i += 3) bytes[i] = 0;
  EXPECT_TRUE(LooksPruned(bytes, 1));
  EXPECT_TRUE(LooksPruned(absl::MakeConstSpan(bytes).subspan(0, 1), 1));
}

// A plan of one block with square matrices of `cols` columns, all sparse, and
// an lm_head of as many bytes as `head_rows` rows of float32.
DeviceModel SparsePlan(int bits, int64_t cols, int64_t head_rows) {
  const auto dense =
      PackedIntLayout::Create(bits, cols, cols, /*group_size=*/0, DType::kF32)
          .value();
  const PackedIntLayout sparse =
      dense.Sparse({cols * cols * bits / 16, false}).value();
  DeviceModel plan;
  plan.blocks.resize(1);
  DeviceBlock& block = plan.blocks[0];
  for (DeviceLinear* linear : {&block.q, &block.k, &block.v, &block.o}) {
    linear->weight = {sparse, cols, cols, {}, nullptr};
  }
  plan.token_embedding = {FloatRows{DType::kF32}, 1 << 20, cols, {}, nullptr};
  plan.lm_head.weight = {FloatRows{DType::kF32}, head_rows, cols, {}, nullptr};
  return plan;
}

// 4 MiB of 8 bits and a bit more with their scales, or 2 of 4 bits.
TEST(KeepDenseInCachesTest, BytesThatATokenReadsDecide) {
  constexpr int64_t kCols = 1024, kRowsOfMiB = 256;
  const struct {
    int bits;
    int64_t head_mib;
    int64_t kept;
  } cases[] = {{8, 11, 4}, {8, 12, 0}, {4, 13, 4}, {4, 14, 0}};
  for (const auto& one : cases) {
    DeviceModel plan = SparsePlan(one.bits, kCols, one.head_mib * kRowsOfMiB);
    const WeightLayout sparse = plan.blocks[0].q.weight.layout;
    EXPECT_EQ(KeepDenseInCaches(&plan), one.kept)
        << one.bits << " bits, " << one.head_mib;
    const WeightLayout& kept = plan.blocks[0].o.weight.layout;
    EXPECT_EQ(IsSparse(kept), one.kept == 0);
    EXPECT_EQ(WeightLayoutName(kept),
              WeightLayoutName(one.kept == 0 ? sparse : DenseLayoutOf(sparse)));
  }
  // A tied lm_head is the embedding, of which a token reads a row otherwise.
  DeviceModel tied = SparsePlan(8, kCols, 0);
  EXPECT_EQ(KeepDenseInCaches(&tied), 0);
}

// The package of a sparse model gives the bits of the dense one.
TEST_F(SparseMatrixTest, SameLogitsAsDenseThroughAPackage) {
  for (const char* scheme :
       {"int8", "int4_g32", "int4_g32 asymmetric", "bf16"}) {
    symmetric_ = std::string(scheme).find(' ') == std::string::npos;
    const auto dense = Model(scheme, false), sparse = Model(scheme, true);
    const std::string path = absl::StrCat(::testing::TempDir(), "/sparse.qeff");
    const absl::Status written = WritePackage(*sparse, nullptr, {}, path);
    ASSERT_TRUE(written.ok()) << written;
    const auto package = DevicePackage::Open(path);
    ASSERT_TRUE(package.ok()) << package.status();
    int sparse_count = 0;
    for (const PackageTensor& tensor : package->header().tensors) {
      sparse_count += IsSparse(tensor.layout) ? 1 : 0;
    }
    EXPECT_GT(sparse_count, 0);
    for (Activations activations :
         {Activations::kFast, Activations::kFloat32}) {
      EXPECT_EQ(Logits(package->model(), activations),
                Logits(dense, activations))
          << scheme;
    }
  }
}

}  // namespace
}  // namespace qeff
