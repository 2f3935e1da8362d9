// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/hidden_states.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/mapped_file.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TokenSample SampleOf(const std::vector<int64_t>& lengths) {
  TokenSample sample;
  for (const int64_t length : lengths) {
    sample.sequences.emplace_back(static_cast<size_t>(length), 1);
    sample.tokens += length;
  }
  return sample;
}

TEST(SampleChunksTest, SequencesStayWhole) {
  const int64_t most = kWalkChunkTokens;
  int checks = 0;
  const SampleChunks chunks(SampleOf({most - 7, 7, 1, most + 5, 2}), [&] {
    ++checks;
    return absl::OkStatus();
  });
  std::vector<int64_t> rows, begins;
  ASSERT_TRUE(chunks
                  .ForSequences([&](const RowChunk& chunk) {
                    int64_t sum = 0;
                    for (const int64_t length : chunk.lengths) sum += length;
                    EXPECT_EQ(sum, chunk.rows);
                    begins.push_back(chunk.row);
                    rows.push_back(chunk.rows);
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(rows, ElementsAre(most, 1, most + 5, 2));
  EXPECT_THAT(begins, ElementsAre(0, most, most + 1, 2 * most + 6));
  EXPECT_EQ(checks, 4);

  rows.clear();
  ASSERT_TRUE(chunks
                  .ForRows([&](const RowChunk& chunk) {
                    EXPECT_THAT(chunk.lengths, IsEmpty());
                    rows.push_back(chunk.rows);
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(rows, ElementsAre(most, most, 8));
}

TEST(SampleChunksTest, EndsWithTheFirstError) {
  int checks = 0, calls = 0;
  const SampleChunks chunks(SampleOf({kWalkChunkTokens, 3}), [&] {
    return checks++ == 1 ? absl::CancelledError("stop") : absl::OkStatus();
  });
  const auto body = [&](const RowChunk&) {
    ++calls;
    return absl::OkStatus();
  };
  EXPECT_TRUE(absl::IsCancelled(chunks.ForSequences(body)));
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(absl::IsDataLoss(chunks.ForRows(
      [](const RowChunk&) { return absl::DataLossError("no"); })));
}

class HiddenStatesTest : public ::testing::TestWithParam<bool> {
 protected:
  HiddenStates Make() const {
    return HiddenStates::Create(folder_, "states", 3, 2, GetParam()).value();
  }

  const std::string folder_ = MakeTestFolder();
};

INSTANTIATE_TEST_SUITE_P(MemoryAndFile, HiddenStatesTest, ::testing::Bool());

TEST_P(HiddenStatesTest, SavedAndLoaded) {
  HiddenStates states = Make();
  Matrix<float> rows(3, 2);
  for (int i = 0; i < 6; ++i) rows.data()[i] = static_cast<float>(i);
  ASSERT_TRUE(states.rows().Write(0, rows.view()).ok());
  Json entry = Json::object();
  ASSERT_TRUE(states.Save(4, &entry).ok());

  HiddenStates loaded = Make();
  ASSERT_TRUE(loaded.Load(4, entry).ok());
  const auto read = loaded.rows().Read(0, 3);
  ASSERT_TRUE(read.ok());
  for (int i = 0; i < 6; ++i) EXPECT_EQ(read->data()[i], rows.data()[i]);

  EXPECT_TRUE(absl::IsUnavailable(loaded.Load(5, entry)));
  const std::string path = folder_ + "/states.4";
  std::string bytes = ReadFileToString(path, 1 << 20).value();
  bytes[5] ^= 1;
  WriteTestFile(path, bytes);
  const absl::Status damaged = loaded.Load(4, entry);
  EXPECT_TRUE(absl::IsInvalidArgument(damaged));
  EXPECT_THAT(damaged.message(), HasSubstr("checksum"));
  states.Remove(4);
  EXPECT_TRUE(absl::IsUnavailable(loaded.Load(4, entry)));
  EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
}

}  // namespace
}  // namespace qeff
