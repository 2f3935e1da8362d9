// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/sparse_teacher.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Kept {
  Kept(const Matrix<float>& logits, int64_t k, int threads = 1)
      : ids(logits.rows(), k),
        log_probabilities(logits.rows(), k),
        log_rest(static_cast<size_t>(logits.rows())) {
    KeepMostProbable(logits.view(), ids.view(), log_probabilities.view(),
                     absl::MakeSpan(log_rest), **CreateThreadPool(threads));
  }
  SparseTeacher view() const {
    return {ids.view(), log_probabilities.view(), log_rest};
  }
  std::vector<int32_t> Ids(int64_t row) const {
    return std::vector<int32_t>(ids.row(row), ids.row(row) + ids.cols());
  }

  Matrix<int32_t> ids;
  Matrix<float> log_probabilities;
  std::vector<float> log_rest;
};

Matrix<float> Logits(int64_t rows, int64_t vocab) {
  Matrix<float> m(rows, vocab);
  const Random random(/*seed=*/5);
  for (size_t i = 0; i < m.span().size(); ++i) {
    m.data()[i] = 4.0f * random.NormalAt(i);
  }
  return m;
}

Matrix<float> Row(const std::vector<float>& values) {
  Matrix<float> m(1, static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), m.data());
  return m;
}

TEST(KeepMostProbableTest, KeepsTheLargest) {
  const Kept kept(Row({1, 5, 3, 5, -kInfinity, 3}), 3);
  EXPECT_THAT(kept.Ids(0), ElementsAre(1, 2, 3));  // of the 3s, the first
  const double sum = 2 * std::exp(5) + 2 * std::exp(3) + std::exp(1);
  EXPECT_NEAR(kept.log_probabilities.row(0)[1], 3 - std::log(sum), 1e-6);
  EXPECT_NEAR(kept.log_rest[0], std::log((std::exp(3) + std::exp(1)) / sum),
              1e-6);
}

TEST(KeepMostProbableTest, ProbabilitiesSumToOne) {
  const Matrix<float> logits = Logits(7, 301);
  for (int64_t k : {1, 2, 64, 300, 301}) {
    const Kept kept(logits, k);
    EXPECT_TRUE(CheckSparseTeacher(kept.view(), 301).ok());
    for (int64_t r = 0; r < logits.rows(); ++r) {
      double sum = std::exp(kept.log_rest[static_cast<size_t>(r)]);
      for (int64_t i = 0; i < k; ++i) {
        sum += std::exp(kept.log_probabilities.row(r)[i]);
      }
      EXPECT_NEAR(sum, 1.0, 2e-6);
    }
    const Kept other(logits, k, 3);
    EXPECT_EQ(kept.log_rest, other.log_rest);
    EXPECT_EQ(kept.ids.span(), other.ids.span());
    EXPECT_EQ(kept.log_probabilities.span(), other.log_probabilities.span());
  }
}

// A probability that 1 - sum would lose.
TEST(KeepMostProbableTest, SmallRestIsExact) {
  const Kept kept(Row({60, 0, 0}), 1);
  EXPECT_NEAR(kept.log_rest[0], -60 + std::log(2), 1e-5);
  EXPECT_EQ(Kept(Row({1, 2}), 2).log_rest[0], -kInfinity);
  EXPECT_EQ(Kept(Row({1, -kInfinity, 2}), 2).log_rest[0], -kInfinity);
}

TEST(KeepMostProbableTest, NanStaysInItsRow) {
  Matrix<float> logits = Logits(2, 40);
  logits.row(0)[7] = std::nanf("");
  const Kept kept(logits, 39);
  EXPECT_TRUE(CheckSparseTeacher(kept.view(), 40).ok());
  EXPECT_TRUE(std::isnan(kept.log_probabilities.row(0)[3]));
  EXPECT_TRUE(std::isfinite(kept.log_probabilities.row(1)[3]));
}

TEST(CheckSparseTeacherTest, Errors) {
  const auto error = [](const SparseTeacher& teacher) {
    const absl::Status status = CheckSparseTeacher(teacher, 40);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  Kept kept(Logits(3, 40), 4);
  kept.ids.row(1)[2] = kept.ids.row(1)[1];
  EXPECT_THAT(error(kept.view()), AllOf(HasSubstr("row 1"), HasSubstr("40")));
  kept = Kept(Logits(3, 40), 4);
  kept.ids.row(2)[3] = 40;
  EXPECT_THAT(error(kept.view()),
              AllOf(HasSubstr("row 2"), HasSubstr("token 40")));
  kept.ids.row(2)[0] = -1;
  EXPECT_THAT(error(kept.view()), HasSubstr("token -1"));
  kept = Kept(Logits(3, 40), 4);
  kept.log_rest.pop_back();
  EXPECT_THAT(error(kept.view()), HasSubstr("[3, 4]"));
}

}  // namespace
}  // namespace qeff
