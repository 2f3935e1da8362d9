// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints whose logits another program computed: data/goldens of
// QEFF_SHARED_DATA.

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/json.h"
#include "qeff/util/mapped_file.h"

namespace qeff {
namespace {

class GoldensTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldensTest, LogitsAgree) {
  const char* shared = std::getenv("QEFF_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
  const std::string folder =
      std::string(shared) + "/goldens/" + std::string(GetParam());
  const Json ids = *ReadJsonFile(folder + "/tokens.json", 1 << 20);
  const auto tokens = ids.get<std::vector<int32_t>>();
  const std::string bytes = *ReadFileToString(folder + "/logits.f32", 1 << 24);

  const auto pool = *CreateThreadPool(2);
  const auto model = Transformer::Load(*Checkpoint::Open(folder));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto forward = *HostForward::Create(*model, pool.get());
  const auto logits = forward->LogitsOf(tokens);
  ASSERT_TRUE(logits.ok()) << logits.status();

  ASSERT_EQ(bytes.size(), logits->span().size() * sizeof(float));
  std::vector<float> golden(logits->span().size());
  std::memcpy(golden.data(), bytes.data(), bytes.size());
  Matrix<double> expected(logits->rows(), logits->cols());
  std::copy(golden.begin(), golden.end(), expected.data());
  // Both sides are float32; the families' tests bound ours by 1.2e-5.
  const double error = RelativeError(*logits, expected);
  RecordProperty("relative_error", std::to_string(error * 1e6) + "e-6");
  EXPECT_LE(error, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Families, GoldensTest,
                         ::testing::Values("llama", "qwen2", "qwen3", "gpt2",
                                           "mpt"));

}  // namespace
}  // namespace qeff
