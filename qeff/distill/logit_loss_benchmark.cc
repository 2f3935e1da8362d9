// SPDX-License-Identifier: Apache-2.0
//
// Logits a second of each term, value and gradient, on one thread.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/distill/logit_loss.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

Matrix<float> Logits(int64_t rows, int64_t vocab, uint64_t stream) {
  Matrix<float> m(rows, vocab);
  const Random random(/*seed=*/1, stream);
  for (size_t i = 0; i < m.span().size(); ++i) {
    m.data()[i] = 3.0f * random.NormalAt(i);
  }
  return m;
}

struct Batch {
  explicit Batch(int64_t vocab)
      : student(Logits(kRows, vocab, 1)),
        teacher(Logits(kRows, vocab, 2)),
        dlogits(kRows, vocab),
        labels(kRows, 1) {}

  static constexpr int64_t kRows = 64;
  Matrix<float> student, teacher, dlogits;
  std::vector<int32_t> labels;
};

void Finish(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * Batch::kRows * state.range(0));
}

void BM_Dense(benchmark::State& state, LogitLossWeights weights) {
  Batch batch(state.range(0));
  LogitLossOptions options;
  options.weights = weights;
  const auto pool = *CreateThreadPool(1);
  for (auto _ : state) {
    LogitLossTerms terms =
        LogitLoss(options, batch.student.view(), batch.teacher.view(),
                  batch.labels, 1.0f, batch.dlogits.view(), *pool);
    benchmark::DoNotOptimize(terms);
  }
  Finish(state);
}
BENCHMARK_CAPTURE(BM_Dense, ce, LogitLossWeights{0, 0, 0, 1})
    ->Arg(2048)
    ->Arg(32000);
BENCHMARK_CAPTURE(BM_Dense, kl, LogitLossWeights{1, 0, 0, 0})
    ->Arg(2048)
    ->Arg(32000);
BENCHMARK_CAPTURE(BM_Dense, reverse_kl, LogitLossWeights{0, 1, 0, 0})
    ->Arg(32000);
BENCHMARK_CAPTURE(BM_Dense, js, LogitLossWeights{0, 0, 1, 0})->Arg(32000);
BENCHMARK_CAPTURE(BM_Dense, kl_and_ce, LogitLossWeights{1, 0, 0, 1})
    ->Arg(32000);

void BM_Sparse(benchmark::State& state) {
  Batch batch(state.range(0));
  Matrix<int32_t> ids(Batch::kRows, state.range(1));
  Matrix<float> log_probabilities(Batch::kRows, state.range(1));
  std::vector<float> log_rest(Batch::kRows);
  const auto pool = *CreateThreadPool(1);
  KeepMostProbable(batch.teacher.view(), ids.view(), log_probabilities.view(),
                   absl::MakeSpan(log_rest), *pool);
  LogitLossOptions options;
  options.weights.kl = 1;
  for (auto _ : state) {
    auto terms =
        SparseLogitLoss(options, batch.student.view(),
                        {ids.view(), log_probabilities.view(), log_rest},
                        batch.labels, 1.0f, batch.dlogits.view(), *pool);
    benchmark::DoNotOptimize(terms);
  }
  Finish(state);
}
BENCHMARK(BM_Sparse)->Args({2048, 64})->Args({32000, 64});

void BM_KeepMostProbable(benchmark::State& state) {
  Batch batch(state.range(0));
  Matrix<int32_t> ids(Batch::kRows, 64);
  Matrix<float> log_probabilities(Batch::kRows, 64);
  std::vector<float> log_rest(Batch::kRows);
  const auto pool = *CreateThreadPool(1);
  for (auto _ : state) {
    KeepMostProbable(batch.teacher.view(), ids.view(), log_probabilities.view(),
                     absl::MakeSpan(log_rest), *pool);
    benchmark::ClobberMemory();
  }
  Finish(state);
}
BENCHMARK(BM_KeepMostProbable)->Arg(2048)->Arg(32000);

}  // namespace
}  // namespace qeff
