// SPDX-License-Identifier: Apache-2.0
//
// Quantizes trained models. The folder of the models is given by the
// environment variable QEFF_SHARED_DATA.

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/quantization_config.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/tensor/tensor.h"

namespace qeff {
namespace {

struct Case {
  const char* model;
  const char* scheme;
  bool symmetric;
  QuantizedLayout layout;
  double max_error;
};

class SharedDataTest : public testing::TestWithParam<Case> {};

TEST_P(SharedDataTest, QuantizesAndReadsBack) {
  const Case& c = GetParam();
  const char* shared = std::getenv("QEFF_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
  const TestModel model(std::string(shared) + "/" + c.model);
  QuantizeOptions options = OptionsFor(c.scheme);
  options.scheme.symmetric = c.symmetric;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, c.layout) << plan->layout_reason;

  const std::string output = MakeTestFolder() + "/out";
  const auto pool = CreateThreadPool(2).value();
  absl::Status status =
      QuantizeCheckpoint(*model.checkpoint, *plan, output, *pool);
  ASSERT_TRUE(status.ok()) << status;
  status = VerifyQuantized(*model.checkpoint, *plan, output, *pool);
  EXPECT_TRUE(status.ok()) << status;

  const auto written = Checkpoint::Open(output).value();
  const auto config =
      ParseQuantizationConfig(written->config(), written->config_path());
  ASSERT_TRUE(config.ok()) << config.status();
  double error = 0, power = 0;
  for (const PlannedTensor& tensor : plan->tensors) {
    if (!tensor.quantized() || tensor.transposed) continue;
    const auto matrix = ReadQuantizedMatrix(*written, tensor.module, **config);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    const size_t count = static_cast<size_t>(tensor.rows * tensor.cols);
    std::vector<float> original(count), values(count);
    ReadFloats(model.checkpoint->Get(tensor.name).value(), 0,
               absl::MakeSpan(original));
    ASSERT_TRUE(DequantizeRows(*matrix, 0, tensor.rows, values.data()).ok());
    for (size_t i = 0; i < count; ++i) {
      error += std::pow(values[i] - original[i], 2);
      power += std::pow(original[i], 2);
    }
  }
  if (power > 0) {
    EXPECT_LT(std::sqrt(error / power), c.max_error);
    EXPECT_GT(std::sqrt(error / power), c.max_error / 2);
  }
}

constexpr auto kCompressed = QuantizedLayout::kCompressedTensors;
constexpr auto kQeff = QuantizedLayout::kQeff;

INSTANTIATE_TEST_SUITE_P(
    Models, SharedDataTest,
    testing::Values(
        Case{"stories260k", "int8", true, kCompressed, 0.011},
        Case{"stories260k", "int4_g32", true, kQeff, 0.10},
        Case{"stories260k_pad192", "int4_g32", true, kCompressed, 0.10},
        Case{"stories260k_pad192", "int4_g32", false, kCompressed, 0.09},
        Case{"tinystories6m", "int4_g64", true, kCompressed, 0.11},
        Case{"tinystories6m", "int3_g64", true, kQeff, 0.22},
        Case{"goldens/gpt2", "int4_g32", true, kQeff, 0.11},
        Case{"goldens/mpt", "int8", true, kCompressed, 0.011},
        Case{"goldens/qwen2", "int8", true, kCompressed, 0.011},
        Case{"goldens/qwen3", "int8", true, kCompressed, 0.011}));

}  // namespace
}  // namespace qeff
