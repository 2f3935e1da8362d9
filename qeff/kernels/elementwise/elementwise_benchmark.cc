// SPDX-License-Identifier: Apache-2.0
//
// Elements a second of one row that stays in L1, on one thread. The sizes are
// those of llama-1b: hidden 2048, feed-forward 5632, heads of 64.

#include <cstddef>
#include <cstring>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/kernels/elementwise/activate.h"
#include "qeff/kernels/elementwise/arithmetic.h"
#include "qeff/kernels/elementwise/norm.h"

namespace qeff {
namespace {

constexpr size_t kHidden = 2048;
constexpr size_t kFfn = 5632;

void SetElements(benchmark::State& state, size_t size) {
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(size));
}

void BM_Activate(benchmark::State& state, Activation activation) {
  const std::vector<float> gate(kFfn, 0.5f);
  std::vector<float> up(kFfn, 1.0f);
  for (auto _ : state) {
    ActivateGate(activation, gate, absl::MakeSpan(up));
    benchmark::DoNotOptimize(up.data());
    benchmark::ClobberMemory();
  }
  SetElements(state, kFfn);
}
BENCHMARK_CAPTURE(BM_Activate, silu, Activation::kSilu);
BENCHMARK_CAPTURE(BM_Activate, gelu, Activation::kGelu);
BENCHMARK_CAPTURE(BM_Activate, gelu_tanh, Activation::kGeluTanh);
BENCHMARK_CAPTURE(BM_Activate, relu, Activation::kRelu);

void BM_RmsNorm(benchmark::State& state) {
  const std::vector<float> x(kHidden, 0.5f), weight(kHidden, 1.0f);
  std::vector<float> out(kHidden);
  for (auto _ : state) {
    RmsNorm(1e-5, weight, {}, x, absl::MakeSpan(out));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  SetElements(state, kHidden);
}
BENCHMARK(BM_RmsNorm);

void BM_LayerNorm(benchmark::State& state) {
  const std::vector<float> x(kHidden, 0.5f), weight(kHidden, 1.0f);
  std::vector<float> out(kHidden);
  for (auto _ : state) {
    LayerNorm(1e-5, weight, weight, x, absl::MakeSpan(out));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  SetElements(state, kHidden);
}
BENCHMARK(BM_LayerNorm);

void BM_RmsNormHeads(benchmark::State& state) {
  const std::vector<float> weight(64, 1.0f);
  std::vector<float> heads(kHidden, 0.5f);
  for (auto _ : state) {
    RmsNormHeads(1e-5, weight, absl::MakeSpan(heads));
    benchmark::ClobberMemory();
  }
  SetElements(state, kHidden);
}
BENCHMARK(BM_RmsNormHeads);

void BM_RotateHeads(benchmark::State& state) {
  const std::vector<float> cosines(32, 0.8f), sines(32, 0.6f);
  std::vector<float> heads(kHidden, 0.5f);
  for (auto _ : state) {
    RotateHeads(cosines, sines, absl::MakeSpan(heads));
    benchmark::ClobberMemory();
  }
  SetElements(state, kHidden);
}
BENCHMARK(BM_RotateHeads);

void BM_AddInPlace(benchmark::State& state) {
  const std::vector<float> y(kHidden, 0.0f);
  std::vector<float> x(kHidden, 0.5f);
  for (auto _ : state) {
    AddInPlace(y, absl::MakeSpan(x));
    benchmark::ClobberMemory();
  }
  SetElements(state, kHidden);
}
BENCHMARK(BM_AddInPlace);

// The row is filled again each time, at the cost of a copy.
void BM_ExpInPlace(benchmark::State& state) {
  const std::vector<float> from(kHidden, -3.0f);
  std::vector<float> x(kHidden);
  for (auto _ : state) {
    std::memcpy(x.data(), from.data(), kHidden * sizeof(float));
    ExpInPlace(absl::MakeSpan(x));
    benchmark::ClobberMemory();
  }
  SetElements(state, kHidden);
}
BENCHMARK(BM_ExpInPlace);

// The bound: a row written from another.
void BM_Copy(benchmark::State& state) {
  const std::vector<float> from(kHidden, -3.0f);
  std::vector<float> x(kHidden);
  for (auto _ : state) {
    std::memcpy(x.data(), from.data(), kHidden * sizeof(float));
    benchmark::DoNotOptimize(x.data());
    benchmark::ClobberMemory();
  }
  SetElements(state, kHidden);
}
BENCHMARK(BM_Copy);

}  // namespace
}  // namespace qeff
