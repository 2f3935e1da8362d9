// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/logit_loss.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Vector = std::vector<double>;

LogitLossOptions Options(double kl, double reverse_kl, double js, double ce,
                         double temperature = 1) {
  LogitLossOptions options;
  options.weights = {kl, reverse_kl, js, ce};
  options.temperature = temperature;
  return options;
}

// Each term alone, then all.
std::vector<LogitLossOptions> AllOptions(double temperature) {
  return {Options(1, 0, 0, 0, temperature), Options(0, 1, 0, 0, temperature),
          Options(0, 0, 1, 0, temperature), Options(0, 0, 0, 1, temperature),
          Options(0.5, 0.25, 2, 0.125, temperature)};
}

Vector Softmax(Vector x, double temperature) {
  double sum = 0;
  const double top = *std::max_element(x.begin(), x.end());
  for (double& v : x) sum += v = std::exp((v - top) / temperature);
  for (double& v : x) v /= sum;
  return x;
}

// sum p ln(p / q), where p is not 0.
double Kl(const Vector& p, const Vector& q) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] > 0) sum += p[i] * std::log(p[i] / q[i]);
  }
  return sum;
}

// Between two distributions.
LogitLossTerms Divergences(const Vector& p, const Vector& q,
                           double temperature) {
  Vector m(p.size());
  for (size_t i = 0; i < p.size(); ++i) m[i] = (p[i] + q[i]) / 2;
  const double factor = temperature * temperature;
  LogitLossTerms terms;
  terms.kl = factor * Kl(p, q);
  terms.reverse_kl = factor * Kl(q, p);
  terms.js = factor * (Kl(p, m) + Kl(q, m)) / 2;
  return terms;
}

// The outcomes of a row of probabilities: the tokens, or some and the rest.
Vector Outcomes(const Vector& p, const int32_t* ids, int64_t k) {
  Vector outcomes, rest = p;
  for (int64_t i = 0; i < k; ++i) {
    const size_t id = static_cast<size_t>(ids[i]);
    outcomes.push_back(p[id]);
    rest[id] = 0;
  }
  double sum = 0;
  for (double v : rest) sum += v;
  outcomes.push_back(sum);
  return outcomes;
}

struct Case {
  Case(int64_t rows, int64_t vocab, float deviation = 2.0f)
      : student(RandomMatrix(rows, vocab, 1, deviation)),
        teacher(RandomMatrix(rows, vocab, 2, deviation)) {
    for (int64_t r = 0; r < rows; ++r) {
      labels.push_back(static_cast<int32_t>(r * 7 % vocab));
    }
  }

  void Keep(int64_t k) {
    ids = Matrix<int32_t>(student.rows(), k);
    log_probabilities = Matrix<float>(student.rows(), k);
    log_rest.resize(labels.size());
    KeepMostProbable(teacher.view(), ids.view(), log_probabilities.view(),
                     absl::MakeSpan(log_rest), **CreateThreadPool(1));
  }
  SparseTeacher sparse() const {
    return {ids.view(), log_probabilities.view(), log_rest};
  }

  // The terms in double with `x` as the student's logits; of K tokens and the
  // rest if `sparse`.
  LogitLossTerms Exact(const LogitLossOptions& o, const Vector& x,
                       bool sparse) const {
    const size_t vocab = static_cast<size_t>(student.cols());
    LogitLossTerms sum;
    for (int64_t r = 0; r < student.rows(); ++r) {
      const int32_t label = labels[static_cast<size_t>(r)];
      if (label == kNoLabel) continue;
      const auto begin = x.begin() + r * student.cols();
      const Vector s(begin, begin + student.cols());
      Vector p = Softmax(ToDouble({teacher.row(r), vocab}), o.temperature);
      Vector q = Softmax(s, o.temperature);
      if (sparse) {
        p = Outcomes(p, ids.row(r), ids.cols());
        q = Outcomes(q, ids.row(r), ids.cols());
      }
      LogitLossTerms terms = Divergences(p, q, o.temperature);
      terms.ce = -std::log(Softmax(s, 1)[static_cast<size_t>(label)]);
      terms.rows = 1;
      sum += terms;
    }
    return sum;
  }

  Matrix<float> student, teacher;
  std::vector<int32_t> labels;
  Matrix<int32_t> ids;
  Matrix<float> log_probabilities;
  std::vector<float> log_rest;
};

struct Result {
  LogitLossTerms terms;
  Matrix<float> dlogits;
};

Result Compute(const Case& c, const LogitLossOptions& options, bool sparse,
               float scale = 1.0f, int threads = 1) {
  const auto pool = *CreateThreadPool(threads);
  Result r;
  r.dlogits = RandomMatrix(c.student.rows(), c.student.cols(), 9);
  if (!sparse) {
    r.terms = LogitLoss(options, c.student.view(), c.teacher.view(), c.labels,
                        scale, r.dlogits.view(), *pool);
    return r;
  }
  const auto terms = SparseLogitLoss(options, c.student.view(), c.sparse(),
                                     c.labels, scale, r.dlogits.view(), *pool);
  EXPECT_TRUE(terms.ok()) << terms.status();
  r.terms = *terms;
  return r;
}

// Terms that are asked for; the others must be 0.
void ExpectTerms(const LogitLossTerms& terms, const LogitLossTerms& exact,
                 const LogitLossWeights& w) {
  const auto expect = [](double term, double exact_term, double weight) {
    if (weight == 0) {
      EXPECT_EQ(term, 0);
    } else {
      EXPECT_NEAR(term, exact_term, 1e-5 + 2e-6 * exact_term);
    }
  };
  expect(terms.kl, exact.kl, w.kl);
  expect(terms.reverse_kl, exact.reverse_kl, w.reverse_kl);
  expect(terms.js, exact.js, w.js);
  expect(terms.ce, exact.ce, w.ce);
  EXPECT_EQ(terms.rows, exact.rows);
}

void CheckAgainstDifferences(const Case& c, const LogitLossOptions& options,
                             bool sparse) {
  const float scale = 0.25f;
  const Vector x = ToDouble(c.student.span());
  const Result r = Compute(c, options, sparse, scale);
  ExpectTerms(r.terms, c.Exact(options, x, sparse), options.weights);
  const Vector gradient = FiniteDifferences(
      [&](const Vector& at) {
        return scale * c.Exact(options, at, sparse).Weighted(options.weights);
      },
      x);
  // Probabilities are good to about 1e-6, and the differences to 1e-7.
  EXPECT_LT(RelativeDistance(r.dlogits.span(), gradient), 3e-6);
}

TEST(LogitLossTest, AgreesWithDifferences) {
  for (int64_t vocab : {2, 16, 37}) {
    Case c(4, vocab);
    c.labels[2] = kNoLabel;
    for (double temperature : {1.0, 0.5, 2.0}) {
      for (const LogitLossOptions& options : AllOptions(temperature)) {
        CheckAgainstDifferences(c, options, /*sparse=*/false);
      }
    }
  }
}

TEST(LogitLossTest, LongRows) {
  const Case c(2, 33000);
  const LogitLossOptions options = Options(1, 1, 1, 1);
  const Result r = Compute(c, options, /*sparse=*/false);
  ExpectTerms(r.terms, c.Exact(options, ToDouble(c.student.span()), false),
              options.weights);
}

TEST(LogitLossTest, SparseAgreesWithDifferences) {
  for (int64_t k : {1, 5, 36, 37}) {
    Case c(4, 37);
    c.Keep(k);
    c.labels[1] = kNoLabel;
    c.labels[0] = c.ids.row(0)[0];  // and others among the rest
    for (const LogitLossOptions& options : AllOptions(1)) {
      CheckAgainstDifferences(c, options, /*sparse=*/true);
    }
  }
}

TEST(LogitLossTest, AllTokensAreTheWholeDistribution) {
  Case c(5, 50);
  c.Keep(50);
  const LogitLossOptions options = Options(0.5, 0.25, 2, 0.125);
  const Result dense = Compute(c, options, /*sparse=*/false);
  const Result sparse = Compute(c, options, /*sparse=*/true);
  ExpectTerms(sparse.terms, dense.terms, options.weights);
  EXPECT_LT(
      RelativeDistance(sparse.dlogits.span(), ToDouble(dense.dlogits.span())),
      2e-6);
}

TEST(LogitLossTest, FewerTokensGiveLowerBounds) {
  Case c(20, 200);
  LogitLossTerms last;
  for (int64_t k : {1, 3, 20, 100, 199}) {
    c.Keep(k);
    const LogitLossTerms terms =
        Compute(c, Options(1, 1, 1, 0), /*sparse=*/true).terms;
    EXPECT_GT(terms.kl, last.kl);
    EXPECT_GT(terms.reverse_kl, last.reverse_kl);
    EXPECT_GT(terms.js, last.js);
    last = terms;
  }
  const LogitLossTerms all =
      Compute(c, Options(1, 1, 1, 0), /*sparse=*/false).terms;
  EXPECT_GE(all.kl, last.kl * (1 - 1e-6));
  EXPECT_GE(all.reverse_kl, last.reverse_kl * (1 - 1e-6));
  EXPECT_GE(all.js, last.js * (1 - 1e-6));
}

TEST(LogitLossTest, ZeroWhereEqualAndOnlyThere) {
  Case c(6, 100);
  const LogitLossOptions options = Options(1, 1, 1, 0, 2);
  std::copy_n(c.student.data(), c.student.span().size(), c.teacher.data());
  const Result same = Compute(c, options, /*sparse=*/false);
  EXPECT_EQ(same.terms.kl, 0);
  EXPECT_EQ(same.terms.reverse_kl, 0);
  EXPECT_EQ(same.terms.js, 0);
  for (float v : same.dlogits.span()) EXPECT_EQ(v, 0.0f);

  c.teacher.row(3)[50] += 0.05f;
  const LogitLossTerms other = Compute(c, options, /*sparse=*/false).terms;
  EXPECT_GT(other.kl, 0);
  EXPECT_GT(other.reverse_kl, 0);
  EXPECT_GT(other.js, 0);
}

// T^2 KL tends to sum d_v^2 / 2V, d the difference of centred logits, and its
// gradient to d_v / V: the squared distance of logits.
TEST(LogitLossTest, HighTemperature) {
  const int64_t vocab = 64;
  Case c(1, vocab, 1.0f);
  Vector d(static_cast<size_t>(vocab));
  double mean = 0, squares = 0;
  for (size_t i = 0; i < d.size(); ++i) {
    d[i] = c.student.data()[i] - c.teacher.data()[i];
    mean += d[i] / vocab;
  }
  for (double& v : d) {
    v -= mean;
    squares += v * v;
    v /= vocab;
  }
  const LogitLossOptions kl = Options(1, 0, 0, 0, 100);
  const Result r = Compute(c, kl, /*sparse=*/false);
  EXPECT_NEAR(r.terms.kl / (squares / 2 / vocab), 1.0, 0.02);
  EXPECT_LT(RelativeDistance(r.dlogits.span(), d), 0.05);
  // Jensen-Shannon is a quarter of it.
  const LogitLossOptions js = Options(0, 0, 1, 0, 100);
  EXPECT_NEAR(Compute(c, js, false).terms.js / r.terms.kl, 0.25, 0.01);
}

TEST(LogitLossTest, PaddingChangesNothing) {
  const Case c(3, 40);
  Case padded(7, 40);
  for (Matrix<float>* m : {&padded.student, &padded.teacher}) {
    std::fill_n(m->data(), m->span().size(), std::nanf(""));
  }
  std::fill(padded.labels.begin(), padded.labels.end(), kNoLabel);
  for (int64_t r = 0; r < 3; ++r) {
    std::copy_n(c.student.row(r), 40, padded.student.row(2 * r));
    std::copy_n(c.teacher.row(r), 40, padded.teacher.row(2 * r));
    padded.labels[static_cast<size_t>(2 * r)] =
        c.labels[static_cast<size_t>(r)];
  }
  const LogitLossOptions options = Options(1, 0.5, 0.25, 2, 1.5);
  const Result a = Compute(c, options, /*sparse=*/false);
  const Result b = Compute(padded, options, /*sparse=*/false);
  EXPECT_EQ(a.terms.Weighted(options.weights),
            b.terms.Weighted(options.weights));
  EXPECT_EQ(b.terms.rows, 3);
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t v = 0; v < 40; ++v) {
      const bool counted = r % 2 == 0 && r < 6;
      ASSERT_EQ(b.dlogits.row(r)[v], counted ? a.dlogits.row(r / 2)[v] : 0.0f);
    }
  }
}

TEST(LogitLossTest, SameBitsForAnyThreadsAndInPlace) {
  Case c(33, 100);
  c.Keep(10);
  const LogitLossOptions options = Options(1, 0.5, 0.25, 2);
  for (bool sparse : {false, true}) {
    const Result one = Compute(c, options, sparse, 0.125f, 1);
    for (int threads : {2, 5}) {
      const Result other = Compute(c, options, sparse, 0.125f, threads);
      EXPECT_EQ(one.terms.Weighted(options.weights),
                other.terms.Weighted(options.weights));
      EXPECT_EQ(one.dlogits.span(), other.dlogits.span());
    }
  }
  const auto pool = *CreateThreadPool(2);
  const Result sparse = Compute(c, options, /*sparse=*/true);
  const Result dense = Compute(c, options, /*sparse=*/false);
  Case copy(33, 100);  // the same values
  ASSERT_TRUE(SparseLogitLoss(options, c.student.view(), c.sparse(), c.labels,
                              1.0f, c.student.view(), *pool)
                  .ok());
  EXPECT_EQ(c.student.span(), sparse.dlogits.span());
  LogitLoss(options, copy.student.view(), copy.teacher.view(), c.labels, 1.0f,
            copy.student.view(), *pool);
  EXPECT_EQ(copy.student.span(), dense.dlogits.span());
}

TEST(LogitLossTest, ExtremeLogitsStayFinite) {
  Case c(4, 20);
  for (int64_t v = 0; v < 20; ++v) {
    const float sign = v % 3 == 0 ? 1.0f : -1.0f;
    c.student.row(0)[v] = 1e4f * sign;
    c.teacher.row(0)[v] = -1e4f * sign;
    c.student.row(1)[v] = 1e4f * sign;
    c.teacher.row(2)[v] = 1e4f * sign;
    if (v % 2 == 0) c.teacher.row(3)[v] = -kInfinity;
  }
  c.Keep(5);
  for (bool sparse : {false, true}) {
    const Result r = Compute(c, Options(1, 1, 1, 1), sparse);
    for (double term :
         {r.terms.kl, r.terms.reverse_kl, r.terms.js, r.terms.ce}) {
      EXPECT_TRUE(std::isfinite(term)) << sparse;
      EXPECT_GT(term, 0);
    }
    EXPECT_LE(r.terms.js, 4 * std::log(2) + 1e-6);
    for (float v : r.dlogits.span()) ASSERT_TRUE(std::isfinite(v)) << sparse;
  }
}

// The caller sees that something is wrong.
TEST(LogitLossTest, NanShows) {
  Case c(2, 20);
  c.student.row(1)[3] = std::nanf("");
  for (const LogitLossOptions& options : AllOptions(1)) {
    const Result r = Compute(c, options, /*sparse=*/false);
    EXPECT_TRUE(std::isnan(r.terms.Weighted(options.weights)));
  }
}

TEST(LogitLossTest, CrossEntropyNeedsNoTeacher) {
  const Case c(3, 20);
  const LogitLossOptions options = Options(0, 0, 0, 1);
  Matrix<float> dlogits(3, 20);
  const LogitLossTerms terms =
      LogitLoss(options, c.student.view(), {}, c.labels, 1.0f, dlogits.view(),
                **CreateThreadPool(1));
  const Result with = Compute(c, options, /*sparse=*/false);
  EXPECT_EQ(terms.ce, with.terms.ce);
  EXPECT_EQ(dlogits.span(), with.dlogits.span());
}

TEST(LogitLossTest, SparseErrors) {
  Case c(3, 20);
  c.Keep(4);
  const auto error = [&](const LogitLossOptions& options) {
    return SparseLogitLoss(options, c.student.view(), c.sparse(), c.labels,
                           1.0f, c.student.view(), **CreateThreadPool(1))
        .status();
  };
  const absl::Status temperature = error(Options(1, 0, 0, 0, 2));
  EXPECT_EQ(temperature.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(temperature.message()), HasSubstr("temperature 2"));
  c.ids.row(1)[3] = 20;
  EXPECT_THAT(std::string(error(Options(1, 0, 0, 0)).message()),
              HasSubstr("row 1"));
}

}  // namespace
}  // namespace qeff
