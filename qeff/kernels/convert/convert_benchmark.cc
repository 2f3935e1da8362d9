// SPDX-License-Identifier: Apache-2.0
//
// Conversions against memcpy of the same traffic: GB/s of bytes read plus
// bytes written, for data in the L2 cache and in memory.

#include <algorithm>
#include <cstring>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

constexpr int64_t kInL2 = 64 << 10;
constexpr int64_t kInMemory = 32 << 20;

void BM_Memcpy(benchmark::State& state) {
  const size_t count = static_cast<size_t>(state.range(0));
  const AlignedArray<uint8_t> from = MemoryToRead(3 * count);
  AlignedArray<uint8_t> to(3 * count);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), 3 * count);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 6 * state.range(0));
}
BENCHMARK(BM_Memcpy)->Arg(kInL2)->Arg(kInMemory);

void BM_ToFloat(benchmark::State& state, DType dtype) {
  const size_t count = static_cast<size_t>(state.range(0));
  const AlignedArray<uint8_t> from = MemoryToRead(count * DTypeBytes(dtype));
  AlignedArray<float> to(count);
  for (auto _ : state) {
    ConvertToFloat(dtype, from.span(), to.span());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 6 * state.range(0));
}
BENCHMARK_CAPTURE(BM_ToFloat, bf16, DType::kBF16)->Arg(kInL2)->Arg(kInMemory);
BENCHMARK_CAPTURE(BM_ToFloat, f16, DType::kF16)->Arg(kInL2)->Arg(kInMemory);

void BM_FromFloat(benchmark::State& state, DType dtype) {
  const size_t count = static_cast<size_t>(state.range(0));
  AlignedArray<float> from(count);
  std::fill(from.begin(), from.end(), 1.0f);
  AlignedArray<uint8_t> to(count * DTypeBytes(dtype));
  for (auto _ : state) {
    ConvertFromFloat(from.span(), dtype, to.span());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 6 * state.range(0));
}
BENCHMARK_CAPTURE(BM_FromFloat, bf16, DType::kBF16)->Arg(kInL2)->Arg(kInMemory);
BENCHMARK_CAPTURE(BM_FromFloat, f16, DType::kF16)->Arg(kInL2)->Arg(kInMemory);

}  // namespace
}  // namespace qeff
