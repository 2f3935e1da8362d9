// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/training_text.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/synth.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class TrainingTextTest : public testing::Test {
 protected:
  TrainingTextTest() {
    EXPECT_TRUE(WriteSynthCheckpoint(*KnownShapeConfig("tiny"), {},
                                     folder_ + "/model", pool_.get())
                    .ok());
    tokenizer_ = *Tokenizer::FromFolder(folder_ + "/model");
    std::string text;
    for (int i = 0; i < 200; ++i) text += "one two three four five six. ";
    WriteTestFile(folder_ + "/text", text);
    text_.tokenizer = tokenizer_.get();
  }

  absl::StatusOr<std::shared_ptr<const TokenShard>> Open(
      const std::string& file, int64_t vocab_size) {
    return OpenTrainingText({file}, text_, vocab_size, folder_ + "/tokens",
                            nullptr, pool_.get());
  }

  const std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  const std::string folder_ = MakeTestFolder();
  std::unique_ptr<Tokenizer> tokenizer_;
  TrainingText text_;
};

TEST_F(TrainingTextTest, OpensTextAndWhatWasMadeOfIt) {
  const auto made = Open(folder_ + "/text", tokenizer_->vocab_size());
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ((*made)->path(), folder_ + "/tokens");
  // A shard is taken as it is, from where it lies.
  const std::string shard = folder_ + "/shard";
  WriteTestFile(shard, ReadTestFile(folder_ + "/tokens"));
  const auto again = Open(shard, tokenizer_->vocab_size());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->path(), shard);
  EXPECT_EQ((*again)->checksum(), (*made)->checksum());
}

TEST_F(TrainingTextTest, RefusesTokensWithoutRowsAndFilesThatAreNot) {
  const auto large = Open(folder_ + "/text", tokenizer_->vocab_size() - 1);
  EXPECT_EQ(large.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(large.status().message()),
              HasSubstr("/tokens: expected tokens of a vocabulary of at most"));
  EXPECT_EQ(Open(folder_ + "/none", 1000).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(TrainingTextTest, HeldOutBatchesAreTheBeginning) {
  const auto shard = *Open(folder_ + "/text", tokenizer_->vocab_size());
  const auto sequences = [&](int64_t tokens) {
    int64_t count = 0;
    const auto batches = HeldOutBatches(shard, absl::nullopt, 32, tokens);
    EXPECT_TRUE(batches.ok());
    for (const TokenBatch& batch : batches.value()) {
      EXPECT_LE(batch.ids.size(), 2048u);
      EXPECT_EQ(batch.ids.size() % 32, 0u);
      count += static_cast<int64_t>(batch.ids.size()) / 32;
    }
    return count;
  };
  EXPECT_EQ(sequences(1), 1);
  EXPECT_EQ(sequences(96), 3);
  EXPECT_EQ(sequences(2080), 65);
  // All there are.
  EXPECT_EQ(sequences(1 << 30), shard->tokens() / 32);
  const auto first = *HeldOutBatches(shard, absl::nullopt, 32, 32);
  const auto more = *HeldOutBatches(shard, absl::nullopt, 32, 2080);
  EXPECT_EQ(first[0].ids, std::vector<int32_t>(more[0].ids.begin(),
                                               more[0].ids.begin() + 32));
  EXPECT_TRUE(HeldOutBatches(nullptr, absl::nullopt, 32, 32)->empty());
}

}  // namespace
}  // namespace qeff
