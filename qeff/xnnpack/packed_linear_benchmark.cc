// SPDX-License-Identifier: Apache-2.0
//
// Rate of products and of packing. Arguments: rows, in, out, threads.

#include <memory>

#include "benchmark/benchmark.h"
#include "qeff/util/random.h"
#include "qeff/xnnpack/packed_linear.h"

namespace qeff {
namespace {

Matrix<float> RandomMatrix(int64_t rows, int64_t cols) {
  Matrix<float> m(rows, cols);
  const Random random(1);
  for (size_t i = 0; i < m.span().size(); ++i) {
    m.data()[i] = random.NormalAt(i);
  }
  return m;
}

void BM_Run(benchmark::State& state) {
  const int64_t rows = state.range(0), in = state.range(1);
  const int64_t out = state.range(2);
  const auto pool = *CreateThreadPool(static_cast<int>(state.range(3)));
  const Matrix<float> w = RandomMatrix(out, in);
  const Matrix<float> x = RandomMatrix(rows + 1, in);
  auto linear = *PackedLinear::Create(w.view(), {}, *pool);
  Matrix<float> y(rows, out);
  for (auto _ : state) {
    (void)linear.Run(x.view().Rows(0, rows), y.view(), *pool);
  }
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(rows * in * out) *
                             static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Run)
    ->ArgsProduct({{512}, {512}, {512}, {1, 2}})
    ->Args({512, 2048, 2048, 2})
    ->Args({512, 2048, 5632, 2})
    ->Args({512, 5632, 2048, 2})
    ->Args({512, 64, 64, 2})
    ->UseRealTime();

void BM_Pack(benchmark::State& state) {
  const int64_t in = state.range(0), out = state.range(1);
  const auto pool = *CreateThreadPool(static_cast<int>(state.range(2)));
  const Matrix<float> w = RandomMatrix(out, in);
  for (auto _ : state) {
    benchmark::DoNotOptimize(PackedLinear::Create(w.view(), {}, *pool));
  }
  state.counters["ns/weight"] = benchmark::Counter(
      1e-9 * static_cast<double>(in * out) *
          static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_Pack)->ArgsProduct({{2048}, {5632}, {1, 2}})->UseRealTime();

}  // namespace
}  // namespace qeff
