// SPDX-License-Identifier: Apache-2.0
//
// The engine on packed weights against the engine on the same weights as
// float32 rows.

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/compile/pack_matrix.h"
#include "qeff/compile/package_writer.h"
#include "qeff/device/engine.h"
#include "qeff/device/model.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/reference_model.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

std::vector<int32_t> SomeTokens(int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>((i * i * 11 + 5 * i) % 50));
  }
  return tokens;
}

std::vector<double> Doubles(absl::Span<const float> values) {
  return std::vector<double>(values.begin(), values.end());
}

// The same model twice.
struct Pair {
  std::shared_ptr<DeviceModel> packed;
  std::shared_ptr<DeviceModel> rows;
};

class PackedEngineTest : public ::testing::TestWithParam<std::string> {
 protected:
  PackedEngineTest() {
    const bool bf16 = GetParam() == "bf16";
    TransformerSpec spec = SmallSpec();
    spec.hidden_size = 64;
    spec.ffn_size = 104;  // a shorter last group
    const auto model = RandomModel(spec, 5, bf16 ? DType::kBF16 : DType::kF32);
    models_.rows = std::make_shared<DeviceModel>(*model);
    models_.packed = std::make_shared<DeviceModel>(*model);
    for (size_t i = 0; i < model->blocks.size(); ++i) {
      const auto linears = [i](DeviceModel* m) {
        DeviceBlock& b = m->blocks[i];
        return std::vector<DeviceLinear*>{&b.q,    &b.k,  &b.v,   &b.o,
                                          &b.gate, &b.up, &b.down};
      };
      for (size_t j = 0; j < 7; ++j) {
        Convert(linears(models_.packed.get())[j],
                linears(models_.rows.get())[j]);
      }
    }
    Convert(&models_.packed->lm_head, &models_.rows->lm_head);
  }

  void Convert(DeviceLinear* packed, DeviceLinear* rows) {
    const DeviceMatrix& m = rows->weight;
    const TensorView view{m.view().dtype, Shape({m.rows, m.cols}), m.bytes};
    if (GetParam() == "bf16") {
      packed->weight = PackBF16(view, pool_.get());
      return;
    }
    const std::vector<std::string> name = absl::StrSplit(GetParam(), ' ');
    QuantScheme scheme = *ParseQuantScheme(name[0]);
    scheme.symmetric = name.size() == 1;
    const auto copy = QuantizedCopy::Make(scheme, view, pool_.get());
    ASSERT_TRUE(copy.ok()) << copy.status();
    ASSERT_TRUE(CanPack(copy->view(), copy->num_rows()));
    packed->weight = PackQuantized(copy->view(), copy->num_rows(), pool_.get());
    rows->weight =
        DequantizeToRows(copy->view(), copy->num_rows(), pool_.get());
  }

  std::unique_ptr<Engine> Open(std::shared_ptr<const DeviceModel> model,
                               EngineOptions options = {}) {
    if (options.context_length == 0) options.context_length = 40;
    auto engine = Engine::Create(std::move(model), pool_.get(), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  std::vector<float> Logits(const std::unique_ptr<Engine>& engine,
                            absl::Span<const int32_t> tokens) {
    const auto logits = engine->Append(tokens);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return std::vector<float>(logits->begin(), logits->end());
  }

  const std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  Pair models_;
};

// Activations are rounded to 8 bits with one scale a token, or to bf16. A code
// is off by up to half of absmax / 127, evenly: with absmax at about 3.5 times
// the root mean square, 0.8 % of that. The inputs of nine products (four a
// block and lm_head) do this in a row, and in these models the residuals carry
// little past: sqrt(9) * 0.8 % = 2.4 %, and single positions are above the
// mean. Measured: 0.9 to 3.0 %, 4.1 with
// weights of two bits. (In trained models it is below 2 %:
// //qeff/base:quantized_engine_test.)
TEST_P(PackedEngineTest, LogitsAreThoseOfTheWeights) {
  const auto packed = Open(models_.packed);
  const auto rows = Open(models_.rows);
  for (int32_t token : SomeTokens(24)) {
    const std::vector<float> found = Logits(packed, {token});
    EXPECT_LT(RelativeError(found, Doubles(Logits(rows, {token}))), 0.05);
  }
}

TEST_P(PackedEngineTest, SameBitsForAnySplitAndAnyThreads) {
  const std::vector<int32_t> tokens = SomeTokens(30);
  const std::vector<float> expected = Logits(Open(models_.packed), tokens);
  for (int64_t chunk : {1, 5, 12, 13, 64}) {
    EngineOptions options;
    options.context_length = 30;
    options.prefill_chunk = chunk;
    EXPECT_EQ(Logits(Open(models_.packed, options), tokens), expected) << chunk;
    const auto one_thread = *CreateThreadPool(1);
    const auto engine =
        *Engine::Create(models_.packed, one_thread.get(), options);
    EXPECT_EQ(Logits(engine, tokens), expected) << chunk;
  }
}

TEST_P(PackedEngineTest, FloatActivationsAreExact) {
  EngineOptions options;
  options.activations = Activations::kFloat32;
  const auto packed = Open(models_.packed, options);
  const auto rows = Open(models_.rows, options);
  for (int32_t token : SomeTokens(10)) {
    const std::vector<float> found = Logits(packed, {token});
    EXPECT_LT(RelativeError(found, Doubles(Logits(rows, {token}))), 2e-6);
  }
}

// Fixed scales of the inputs that norms give, whose root mean square is near 1:
// at 4 of it they saturate. The others have scales of each token. By the
// estimate above 4 / 3.5 of what it gives: 2.8 %, single positions above the
// mean. Measured: up to 6.6 %.
TEST_P(PackedEngineTest, FixedInputScales) {
  if (GetParam() == "bf16") return;
  constexpr float kScale = 4.0f / 127;
  std::vector<DeviceLinear*> linears = {&models_.packed->lm_head};
  for (DeviceBlock& b : models_.packed->blocks) {
    linears.insert(linears.end(), {&b.q, &b.k, &b.v, &b.gate, &b.up});
  }
  for (DeviceLinear* linear : linears) linear->weight.input_scale = kScale;
  const auto rows = Open(models_.rows);
  const auto packed = Open(models_.packed);
  for (int32_t token : SomeTokens(24)) {
    const std::vector<float> found = Logits(packed, {token});
    EXPECT_LT(RelativeError(found, Doubles(Logits(rows, {token}))), 0.1);
  }
  const std::vector<int32_t> tokens = SomeTokens(30);
  const std::vector<float> expected = Logits(Open(models_.packed), tokens);
  EngineOptions options;
  options.context_length = 30;
  options.prefill_chunk = 7;
  EXPECT_EQ(Logits(Open(models_.packed, options), tokens), expected);

  // Through a file.
  const std::string path = testing::TempDir() + "/fixed.qeff";
  ASSERT_TRUE(WritePackage(*models_.packed, nullptr, {}, path).ok());
  const auto package = DevicePackage::Open(path);
  ASSERT_TRUE(package.ok()) << package.status();
  EXPECT_EQ(Logits(Open(package->model()), tokens), expected);

  // Layers that share an input need not share its scale.
  for (DeviceBlock& b : models_.packed->blocks) {
    b.k.weight.input_scale = 0.1f * kScale;
    b.gate.weight.input_scale = 0;
  }
  const std::vector<float> others = Logits(Open(models_.packed), tokens);
  EXPECT_NE(others, expected);
  EXPECT_EQ(Logits(Open(models_.packed, options), tokens), others);
}

TEST_P(PackedEngineTest, RefusesInputScalesThatAreNone) {
  DeviceMatrix* weight = &models_.packed->blocks[1].down.weight;
  for (const float scale : {-1.0f, 0x1p-130f, 0x1p127f}) {
    weight->input_scale = scale;
    EXPECT_THAT(ValidateModel(*models_.packed).message(),
                testing::HasSubstr("block 1 down weight: input scale"));
  }
  weight->input_scale = 0.1f;
  EXPECT_EQ(ValidateModel(*models_.packed).ok(), GetParam() != "bf16");
}

INSTANTIATE_TEST_SUITE_P(Layouts, PackedEngineTest,
                         ::testing::Values("bf16", "int8", "int8_g32",
                                           "int4_g32", "int4_g64", "int4",
                                           "int4_g32 asymmetric", "int3_g32",
                                           "int2_g32 asymmetric"),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return absl::StrReplaceAll(info.param, {{" ", "_"}});
                         });

TEST(QuantizedCopyTest, NamesWhatIsNotFinite) {
  const auto pool = *CreateThreadPool(2);
  Matrix<float> weights(3, 8);
  weights.row(1)[5] = std::numeric_limits<float>::infinity();
  const TensorView view{
      DType::kF32, Shape({3, 8}),
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(weights.data()),
                          3 * 8 * sizeof(float))};
  const absl::Status status =
      QuantizedCopy::Make(*ParseQuantScheme("int8"), view, pool.get()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "row 1, column 5 is not finite");
}

}  // namespace
}  // namespace qeff
