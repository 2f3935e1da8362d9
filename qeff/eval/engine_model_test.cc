// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/engine_model.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

class EngineModelTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> MakeEngine() {
    EngineOptions options;
    options.context_length = 16;
    options.prefill_chunk = 3;
    return *Engine::Create(weights_, pool_.get(), options);
  }

  // Logits after token `last` of `tokens`, on an engine of its own.
  std::vector<float> Expected(const std::vector<int32_t>& tokens, size_t last) {
    const std::unique_ptr<Engine> engine = MakeEngine();
    const auto logits =
        engine->Append(absl::MakeConstSpan(tokens).subspan(0, last + 1));
    EXPECT_TRUE(logits.ok()) << logits.status();
    return std::vector<float>(logits->begin(), logits->end());
  }

  const std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  const std::shared_ptr<DeviceModel> weights_ = RandomModel(SmallSpec(), 1);
};

TEST_F(EngineModelTest, LogitsOfEveryPartOfEverySequence) {
  const std::vector<std::vector<int32_t>> sequences = {
      {1, 2, 3, 4, 5, 6, 7, 8, 9}, {9, 8, 7, 6, 5}};
  EngineLogitsModel model(MakeEngine());
  EXPECT_EQ(model.vocab_size(), 50);
  ASSERT_TRUE(model.Run(sequences).ok());
  struct Part {
    int64_t sequence, begin, rows;
  };
  // From front to back, with gaps, and back again.
  for (const Part& part : std::vector<Part>{
           {0, 2, 4}, {0, 6, 3}, {1, 0, 5}, {0, 1, 1}, {0, 0, 9}}) {
    const auto logits = model.Logits(part.sequence, part.begin, part.rows);
    ASSERT_TRUE(logits.ok()) << logits.status();
    ASSERT_EQ(logits->rows(), part.rows);
    for (int64_t r = 0; r < part.rows; ++r) {
      const std::vector<float> row(logits->row(r),
                                   logits->row(r) + logits->cols());
      EXPECT_EQ(row, Expected(sequences[static_cast<size_t>(part.sequence)],
                              static_cast<size_t>(part.begin + r)));
    }
  }
}

TEST_F(EngineModelTest, ErrorsOfTheEngine) {
  EngineLogitsModel model(MakeEngine());
  ASSERT_TRUE(model.Run({std::vector<int32_t>(20, 1)}).ok());
  EXPECT_TRUE(model.Logits(0, 0, 16).ok());
  EXPECT_EQ(model.Logits(0, 16, 1).status().code(),
            absl::StatusCode::kOutOfRange);
}

}  // namespace
}  // namespace qeff
