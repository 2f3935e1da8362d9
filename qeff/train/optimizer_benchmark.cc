// SPDX-License-Identifier: Apache-2.0
//
// Nanoseconds a weight of a step, of a matrix that no cache holds; and, to
// compare, of adding one array to another (12 bytes a weight).

#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/train/optimizer.h"
#include "qeff/train/squared_norm.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 8192;
constexpr int64_t kCols = 4096;
constexpr size_t kElems = size_t{kRows} * kCols;

AlignedArray<float> Values(uint64_t seed) {
  const Random random(seed);
  AlignedArray<float> values(kElems);
  for (size_t i = 0; i < kElems; ++i) values[i] = random.NormalAt(i);
  return values;
}

// `bytes` are read or written a weight.
void Report(benchmark::State& state, double bytes) {
  const double weights = static_cast<double>(state.iterations()) * kElems;
  state.counters["weights"] = benchmark::Counter(
      weights, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes/s"] =
      benchmark::Counter(weights * bytes, benchmark::Counter::kIsRate);
}

void BM_Step(benchmark::State& state, OptimizerKind kind, double bytes) {
  const auto pool = CreateThreadPool(static_cast<int>(state.range(0))).value();
  OptimizerOptions options;
  options.kind = kind;
  const auto optimizer =
      Optimizer::Create(options, {{"w", kRows, kCols, true}}).value();
  const AlignedArray<float> gradient = Values(1);
  AlignedArray<float> value = Values(2);
  int64_t step = 0;
  for (auto _ : state) {
    optimizer->Step(0, ++step, 1e-3, 1, gradient.span(), value.span(), *pool);
  }
  Report(state, bytes);
}
BENCHMARK_CAPTURE(BM_Step, adamw, OptimizerKind::kAdamW, 28)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Step, adafactor, OptimizerKind::kAdafactor, 20)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

void BM_SquaredNorm(benchmark::State& state) {
  const auto pool = CreateThreadPool(static_cast<int>(state.range(0))).value();
  const AlignedArray<float> gradient = Values(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(SquaredNorm(gradient.span(), *pool));
  }
  Report(state, 4);
}
BENCHMARK(BM_SquaredNorm)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

void BM_Add(benchmark::State& state) {
  const auto pool = CreateThreadPool(static_cast<int>(state.range(0))).value();
  const AlignedArray<float> gradient = Values(1);
  AlignedArray<float> value = Values(2);
  for (auto _ : state) {
    pool->ParallelFor(kElems, 1 << 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        value.data()[i] += gradient.data()[i];
      }
    });
  }
  Report(state, 12);
}
BENCHMARK(BM_Add)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace qeff
