// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/sequence_sampler.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/train/token_shard_writer.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Documents of these lengths; the ids count the tokens.
std::shared_ptr<const TokenShard> Shard(const std::vector<int64_t>& lengths) {
  const std::string path = MakeTestFolder() + "/tokens";
  const auto writer = TokenShardWriter::Create(path, 1 << 20).value();
  int32_t next = 0;
  for (const int64_t length : lengths) {
    std::vector<int32_t> ids(static_cast<size_t>(length));
    std::iota(ids.begin(), ids.end(), next);
    next += static_cast<int32_t>(length);
    EXPECT_TRUE(writer->Append(ids).ok());
  }
  EXPECT_TRUE(writer->Commit().ok());
  return TokenShard::Open(path).value();
}

// About `tokens` tokens in documents of 1 to 50.
std::vector<int64_t> Lengths(int64_t tokens) {
  Random random(11);
  std::vector<int64_t> lengths;
  while (tokens > 0) {
    lengths.push_back(1 + static_cast<int64_t>(random.NextBelow(50)));
    tokens -= lengths.back();
  }
  return lengths;
}

std::unique_ptr<SequenceSampler> Make(std::shared_ptr<const TokenShard> shard,
                                      int64_t length, uint64_t seed = 0,
                                      bool shuffle = true) {
  return SequenceSampler::Create(std::move(shard), length, seed, shuffle)
      .value();
}

TokenBatch Get(SequenceSampler& sampler, int64_t index) {
  TokenBatch batch;
  EXPECT_TRUE(sampler.Get(index, &batch).ok());
  return batch;
}

TEST(SequenceSamplerTest, WindowsOfTheText) {
  // Borders inside, at the end of and behind a sequence.
  const auto sampler = Make(Shard({3, 1, 6, 1, 2}), 5, 0, false);
  ASSERT_EQ(sampler->num_sequences(), 2);
  const TokenBatch first = Get(*sampler, 0);
  EXPECT_THAT(first.ids, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(first.labels, ElementsAre(1, 2, -1, -1, 5));
  EXPECT_THAT(first.lengths, ElementsAre(3, 1, 1));
  EXPECT_EQ(first.counted, 3);
  const TokenBatch second = Get(*sampler, 1);
  EXPECT_THAT(second.ids, ElementsAre(5, 6, 7, 8, 9));
  EXPECT_THAT(second.labels, ElementsAre(6, 7, 8, 9, -1));
  EXPECT_THAT(second.lengths, ElementsAre(5));
  EXPECT_EQ(second.counted, 4);
}

TEST(SequenceSamplerTest, AppendsToWhatIsThere) {
  const auto sampler = Make(Shard({3, 1, 6, 1, 2}), 5, 0, false);
  TokenBatch batch = Get(*sampler, 0);
  ASSERT_TRUE(sampler->Get(3, &batch).ok());
  EXPECT_THAT(batch.ids, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(batch.labels, ElementsAre(1, 2, -1, -1, 5, 6, 7, 8, 9, -1));
  EXPECT_THAT(batch.lengths, ElementsAre(3, 1, 1, 5));
  EXPECT_EQ(batch.counted, 7);
}

// Ids are numbers of tokens here, so that labels say which they are.
TEST(SequenceSamplerTest, EachTokenIsALabelOnceAnEpoch) {
  const std::vector<int64_t> lengths = Lengths(5000);
  const auto shard = Shard(lengths);
  std::set<int32_t> starts;
  std::vector<int64_t> document(static_cast<size_t>(shard->tokens()));
  for (size_t i = 0, at = 0; i < lengths.size(); ++i) {
    starts.insert(static_cast<int32_t>(at));
    for (int64_t t = 0; t < lengths[i]; ++t) {
      document[at++] = static_cast<int64_t>(i);
    }
  }
  for (const bool shuffle : {false, true}) {
    for (const int64_t length : {1, 7, 64, 4999}) {
      const auto sampler = Make(shard, length, 3, shuffle);
      EXPECT_EQ(sampler->num_sequences(), (shard->tokens() - 1) / length);
      for (const int64_t epoch : {0, 5}) {
        std::multiset<int32_t> labels;
        for (int64_t i = 0; i < sampler->num_sequences(); ++i) {
          const TokenBatch batch =
              Get(*sampler, epoch * sampler->num_sequences() + i);
          ASSERT_EQ(static_cast<int64_t>(batch.ids.size()), length);
          ASSERT_EQ(batch.labels.size(), batch.ids.size());
          ASSERT_EQ(batch.ids.front() % length, 0);
          // Segments are the pieces of documents.
          size_t at = 0;
          for (const int64_t segment : batch.lengths) {
            const auto id = [&](size_t i) {
              return static_cast<size_t>(batch.ids[i]);
            };
            for (int64_t t = 0; t < segment; ++t, ++at) {
              ASSERT_EQ(batch.ids[at], batch.ids[0] + static_cast<int>(at));
              ASSERT_EQ(document[id(at)],
                        document[id(at - static_cast<size_t>(t))]);
            }
            if (at < batch.ids.size()) {
              ASSERT_NE(document[id(at - 1)], document[id(at)]);
            }
          }
          ASSERT_EQ(at, batch.ids.size());
          int64_t counted = 0;
          for (size_t t = 0; t < batch.ids.size(); ++t) {
            if (batch.labels[t] == TokenBatch::kNoLabel) continue;
            ++counted;
            ASSERT_EQ(batch.labels[t], batch.ids[t] + 1);
            labels.insert(batch.labels[t]);
          }
          ASSERT_EQ(batch.counted, counted);
        }
        std::multiset<int32_t> expected;
        for (int64_t t = 1; t <= sampler->num_sequences() * length; ++t) {
          if (starts.count(static_cast<int32_t>(t)) == 0) {
            expected.insert(static_cast<int32_t>(t));
          }
        }
        ASSERT_EQ(labels, expected) << length << ", epoch " << epoch;
      }
    }
  }
}

std::vector<int32_t> Order(SequenceSampler& sampler, int64_t epoch) {
  std::vector<int32_t> firsts;
  for (int64_t i = 0; i < sampler.num_sequences(); ++i) {
    firsts.push_back(
        Get(sampler, epoch * sampler.num_sequences() + i).ids.front());
  }
  return firsts;
}

TEST(SequenceSamplerTest, EpochsAndSeedsDiffer) {
  const auto shard = Shard(Lengths(2000));
  const auto sampler = Make(shard, 10, 3);
  const auto other = Make(shard, 10, 4);
  const std::vector<int32_t> first = Order(*sampler, 0);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  EXPECT_NE(Order(*sampler, 1), first);
  EXPECT_NE(Order(*other, 0), first);
  const auto plain = Make(shard, 10, 3, false);
  const std::vector<int32_t> in_order = Order(*plain, 1);
  EXPECT_TRUE(std::is_sorted(in_order.begin(), in_order.end()));
}

// The same on every machine, for ever: resumed runs depend on it. Computed from
// random.h's definition by another program.
TEST(SequenceSamplerTest, GoldenOrder) {
  const auto sampler = Make(Shard({11}), 1, 7);
  EXPECT_THAT(Order(*sampler, 0), ElementsAre(4, 0, 3, 2, 7, 8, 9, 6, 1, 5));
  EXPECT_THAT(Order(*sampler, 1), ElementsAre(9, 2, 0, 7, 8, 5, 4, 1, 6, 3));
}

TEST(SequenceSamplerTest, EachPlaceIsTakenByAllAlike) {
  // 10 sequences in 3000 epochs: each comes first in 300 of them, with a
  // standard deviation of 16.4.
  const auto sampler = Make(Shard({11}), 1, 7);
  std::vector<int> first(10), last(10);
  for (int64_t epoch = 0; epoch < 3000; ++epoch) {
    ++first[static_cast<size_t>(Get(*sampler, 10 * epoch).ids[0])];
    ++last[static_cast<size_t>(Get(*sampler, 10 * epoch + 9).ids[0])];
  }
  EXPECT_THAT(first, testing::Each(testing::AllOf(testing::Gt(300 - 5 * 17),
                                                  testing::Lt(300 + 5 * 17))));
  EXPECT_THAT(last, testing::Each(testing::AllOf(testing::Gt(300 - 5 * 17),
                                                 testing::Lt(300 + 5 * 17))));
}

TEST(SequenceSamplerTest, SameAtAnyIndexInAnyOrder) {
  const auto shard = Shard(Lengths(2000));
  const auto forward = Make(shard, 10, 3);
  std::vector<TokenBatch> batches;
  for (int64_t i = 0; i < 3 * forward->num_sequences(); ++i) {
    batches.push_back(Get(*forward, i));
  }
  const auto backward = Make(shard, 10, 3);
  for (int64_t i = static_cast<int64_t>(batches.size()) - 1; i >= 0; i -= 7) {
    const TokenBatch batch = Get(*backward, i);
    const TokenBatch& expected = batches[static_cast<size_t>(i)];
    ASSERT_EQ(batch.ids, expected.ids);
    ASSERT_EQ(batch.labels, expected.labels);
    ASSERT_EQ(batch.lengths, expected.lengths);
    ASSERT_EQ(batch.counted, expected.counted);
  }
}

TEST(SequenceSamplerTest, BeginsWithBosInsideOfADocument) {
  const auto shard = Shard({4, 9});
  constexpr int32_t kBos = 77;
  const auto plain = *SequenceSampler::Create(shard, 4, 0, false);
  const auto with = *SequenceSampler::Create(shard, 4, 0, false, kBos);
  for (int64_t i = 0; i < 3; ++i) {
    TokenBatch expected, found;
    ASSERT_TRUE(plain->Get(i, &expected).ok());
    ASSERT_TRUE(with->Get(i, &found).ok());
    // Sequences 0 and 1 begin with documents.
    if (i == 2) expected.ids[0] = kBos;
    EXPECT_EQ(found.ids, expected.ids);
    EXPECT_EQ(found.labels, expected.labels);
    EXPECT_EQ(found.lengths, expected.lengths);
  }
}

TEST(SequenceSamplerTest, RefusesTooShortTexts) {
  const auto shard = Shard({5, 3});
  EXPECT_EQ(Make(shard, 7)->num_sequences(), 1);
  const auto status = SequenceSampler::Create(shard, 8, 0, true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("tokens: a sequence of 8 and the token behind it need "
                        "8 + 1 tokens, found 8"));
  EXPECT_FALSE(SequenceSampler::Create(shard, int64_t{1} << 62, 0, true).ok());
  EXPECT_THAT(
      std::string(
          SequenceSampler::Create(shard, 0, 0, true).status().message()),
      HasSubstr("expected at least 1, found 0"));
}

}  // namespace
}  // namespace qeff
