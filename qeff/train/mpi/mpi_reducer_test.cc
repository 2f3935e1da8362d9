// SPDX-License-Identifier: Apache-2.0
//
// Run by mpi_reducer_test.sh as one, two, three and four processes: each makes
// all of these calls.

#include "qeff/train/mpi/mpi_reducer.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/train/agreement.h"
#include "qeff/util/checksum.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

MpiReducer* reducer = nullptr;

// The same on every process.
std::vector<float> ValuesOf(int rank, size_t count) {
  Random random(7, static_cast<uint64_t>(rank));
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(random.NextDouble() - 0.5);
  }
  return values;
}

uint64_t ChecksumOf(const std::vector<float>& values) {
  return Checksum64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4));
}

TEST(MpiReducerTest, SumsSpansOfAllSizesToTheSameBits) {
  // Small ones that share buckets, one that ends in the next, those that are
  // large enough alone, and nothing.
  const std::vector<size_t> sizes = {1,       3, 1 << 19,   0,       1 << 19,
                                     1 << 20, 5, 3'000'001, 700'000, 700'000};
  size_t count = 0;
  for (const size_t size : sizes) count += size;
  for (int round = 0; round < 2; ++round) {
    std::vector<float> values = ValuesOf(reducer->rank(), count);
    size_t begin = 0;
    for (const size_t size : sizes) {
      ASSERT_TRUE(
          reducer->Begin(absl::MakeSpan(values).subspan(begin, size)).ok());
      begin += size;
    }
    ASSERT_TRUE(reducer->Wait().ok());
    std::vector<double> sums(count);
    for (int rank = 0; rank < reducer->size(); ++rank) {
      const std::vector<float> part = ValuesOf(rank, count);
      for (size_t i = 0; i < count; ++i) sums[i] += part[i];
    }
    for (size_t i = 0; i < count; ++i) {
      // size - 1 roundings of sums below size / 2.
      const double bound = reducer->size() * reducer->size() * 0x1p-25;
      ASSERT_NEAR(values[i], sums[i], bound) << i;
    }
    const Json checksum = {{"sums", std::to_string(ChecksumOf(values))}};
    const absl::Status same = CheckSame(checksum, reducer);
    EXPECT_TRUE(same.ok()) << same;
  }
  // Nothing is left to do.
  EXPECT_TRUE(reducer->Wait().ok());
}

TEST(MpiReducerTest, SumsNumbers) {
  std::vector<double> values = {1, static_cast<double>(reducer->rank()),
                                0x1p60};
  ASSERT_TRUE(reducer->Sum(absl::MakeSpan(values)).ok());
  const double n = reducer->size();
  EXPECT_THAT(values, testing::ElementsAre(n, n * (n - 1) / 2, n * 0x1p60));
}

// In any order with sums that are under way.
TEST(MpiReducerTest, FindsTheLargestBesideSums) {
  const int64_t rank = reducer->rank();
  std::vector<float> sums(1 << 21, 1.0f);
  if (rank == 0) {
    ASSERT_TRUE(reducer->Begin(absl::MakeSpan(sums)).ok());
  }
  std::vector<int64_t> values = {rank, -rank, int64_t{1} << 60};
  ASSERT_TRUE(reducer->Max(absl::MakeSpan(values)).ok());
  EXPECT_THAT(values,
              testing::ElementsAre(reducer->size() - 1, 0, int64_t{1} << 60));
  if (rank != 0) {
    ASSERT_TRUE(reducer->Begin(absl::MakeSpan(sums)).ok());
  }
  ASSERT_TRUE(reducer->Wait().ok());
  EXPECT_EQ(sums.back(), static_cast<float>(reducer->size()));
}

TEST(MpiReducerTest, BroadcastsFromAny) {
  for (int root = 0; root < reducer->size(); ++root) {
    std::string text =
        root == reducer->rank() ? std::string(100'000, 'x') : "short";
    ASSERT_TRUE(BroadcastText(root, &text, reducer).ok());
    EXPECT_EQ(text, std::string(100'000, 'x'));
    if (root == reducer->rank()) text.clear();
    ASSERT_TRUE(BroadcastText(root, &text, reducer).ok());
    EXPECT_EQ(text, "");
  }
}

TEST(MpiReducerTest, TheFirstErrorIsThatOfAll) {
  EXPECT_TRUE(Agree(absl::OkStatus(), reducer).ok());
  const int last = reducer->size() - 1;
  for (const int from : {0, last}) {
    absl::Status own;
    if (reducer->rank() >= from) {
      own = absl::DataLossError("of " + std::to_string(reducer->rank()));
      own.SetPayload("type", absl::Cord("mine"));
    }
    const absl::Status agreed = Agree(own, reducer);
    EXPECT_EQ(agreed.code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(std::string(agreed.message()),
              from == 0 ? "of 0"
                        : "process " + std::to_string(last) + ": of " +
                              std::to_string(last));
    EXPECT_EQ(agreed.GetPayload("type").value_or(absl::Cord()), "mine");
  }
}

TEST(MpiReducerTest, NamesWhatDiffers) {
  const Json same = {{"a", 1}, {"b", "x"}};
  EXPECT_TRUE(CheckSame(same, reducer).ok());
  if (reducer->size() == 1) return;
  Json other = same;
  if (reducer->rank() == reducer->size() - 1) other["b"] = "y";
  const absl::Status status = CheckSame(other, reducer);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("b: expected that of process 0, \"x\", found \"y\""));
}

TEST(MpiReducerTest, HasAShareOfTheProcessors) {
  EXPECT_GE(reducer->processors(), 1);
  std::vector<double> all = {static_cast<double>(reducer->processors())};
  ASSERT_TRUE(reducer->Sum(absl::MakeSpan(all)).ok());
  EXPECT_GE(all[0], reducer->size());
}

// The last test of the reducer, which cannot be told anything else afterwards.
TEST(MpiReducerTest, TellsAllToStop) {
  EXPECT_FALSE(reducer->ToldStop());
  double nobody = 0;
  ASSERT_TRUE(reducer->Sum(absl::MakeSpan(&nobody, 1)).ok());
  // All but the first, and twice: the first takes the rest in the end.
  const bool tells = reducer->rank() > 0;
  for (int i = 0; tells && i < 2; ++i) reducer->TellStop();
  const int tellers = reducer->size() - 1;
  const bool hears = tellers > (tells ? 1 : 0);
  while (hears && !reducer->ToldStop()) {
  }
  EXPECT_EQ(reducer->ToldStop(), hears);
}

TEST(AgreementTest, OneProcessAgreesWithItself) {
  EXPECT_TRUE(IsFirst(nullptr));
  EXPECT_EQ(Agree(absl::DataLossError("x"), nullptr), absl::DataLossError("x"));
  std::string text = "same";
  EXPECT_TRUE(BroadcastText(0, &text, nullptr).ok());
  EXPECT_EQ(text, "same");
  EXPECT_TRUE(CheckSame(Json{{"a", 1}}, nullptr).ok());
}

}  // namespace
}  // namespace qeff

// With `end CODES...` instead of tests: process i ends with the i-th code, and
// with code `hang` it waits for the others' sums.
int main(int argc, char** argv) {
  auto started = qeff::MpiReducer::Start();
  if (!started.ok()) {
    std::fprintf(stderr, "%s\n", started.status().ToString().c_str());
    return 1;
  }
  qeff::reducer = started->get();
  const int rank = qeff::reducer->rank();
  if (argc > 1 && std::string(argv[1]) == "end") {
    const std::string code = argv[2 + rank];
    if (code == "hang") {
      double sum = 0;
      (void)qeff::reducer->Sum(absl::MakeSpan(&sum, 1));
    }
    return qeff::reducer->End(std::stoi(code), "ends with " + code + "\n");
  }
  testing::InitGoogleTest(&argc, argv);
  return qeff::reducer->End(RUN_ALL_TESTS(), "tests failed\n");
}
