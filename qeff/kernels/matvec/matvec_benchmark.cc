// SPDX-License-Identifier: Apache-2.0
//
// Bytes a second that MatVec reads, beside a plain read of the same bytes by
// the same thread. Arguments: rows, columns. The last two shapes are llama-1b's
// FFN, larger than a 32 MiB cache in float32, and one that stays in L2.

#include <cstdint>
#include <cstring>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

void Shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "cols"});
  b->Args({64, 1024});
  b->Args({5632, 2048});
  b->Args({32000, 2048});
}

void BM_MatVec(benchmark::State& state, DType dtype) {
  const int64_t rows = state.range(0), cols = state.range(1);
  const AlignedArray<uint8_t> bytes =
      MemoryToRead(static_cast<size_t>(rows * cols) * DTypeBytes(dtype));
  const WeightRows w{dtype, bytes.data(), rows, cols, cols};
  const std::vector<float> x(static_cast<size_t>(cols), 1.0f);
  std::vector<float> y(static_cast<size_t>(rows));
  for (auto _ : state) {
    MatVec(w, x, absl::MakeSpan(y));
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(bytes.size()));
}
BENCHMARK_CAPTURE(BM_MatVec, f32, DType::kF32)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_MatVec, bf16, DType::kBF16)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_MatVec, f16, DType::kF16)->Apply(Shapes);

// 32 vectors; items are multiplications and additions.
void BM_MatVecs(benchmark::State& state, DType dtype) {
  constexpr int64_t kCount = 32;
  const int64_t rows = state.range(0), cols = state.range(1);
  const AlignedArray<uint8_t> bytes =
      MemoryToRead(static_cast<size_t>(rows * cols) * DTypeBytes(dtype));
  const WeightRows w{dtype, bytes.data(), rows, cols, cols};
  const std::vector<float> x(static_cast<size_t>(kCount * cols), 1.0f);
  std::vector<float> y(static_cast<size_t>(kCount * rows));
  for (auto _ : state) {
    MatVecs(w, {x, kCount, cols}, absl::MakeSpan(y), rows);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * 2 * kCount * rows * cols);
}
BENCHMARK_CAPTURE(BM_MatVecs, f32, DType::kF32)
    ->Args({5632, 512})
    ->Args({5632, 2048});
BENCHMARK_CAPTURE(BM_MatVecs, bf16, DType::kBF16)->Args({5632, 2048});
BENCHMARK_CAPTURE(BM_MatVecs, f16, DType::kF16)->Args({5632, 2048});

// The bound: libc's search for a byte that does not occur, on the bytes of a
// float32 matrix.
void BM_Read(benchmark::State& state) {
  const AlignedArray<uint8_t> bytes =
      MemoryToRead(static_cast<size_t>(state.range(0) * state.range(1) * 4));
  for (auto _ : state) {
    benchmark::DoNotOptimize(std::memchr(bytes.data(), 0, bytes.size()));
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(bytes.size()));
}
BENCHMARK(BM_Read)->Apply(Shapes);

}  // namespace
}  // namespace qeff
