// SPDX-License-Identifier: Apache-2.0
//
// Weights a second of a row that the first-level cache holds.

#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/kernels/ggml/ggml_rows.h"
#include "qeff/kernels/ggml/nearness.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr size_t kElems = 4096;

std::vector<float> Row() {
  const Random random(1, 0);
  std::vector<float> values(kElems);
  for (size_t i = 0; i < kElems; ++i) values[i] = random.NormalAt(i);
  return values;
}

template <typename Function>
void Run(benchmark::State& state, Function function) {
  for (auto _ : state) {
    function();
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kElems));
}

void BM_EncodeQ4_0(benchmark::State& state) {
  const std::vector<float> row = Row();
  std::vector<uint8_t> blocks(kElems / 32 * kQ4_0BlockBytes);
  Run(state, [&] { EncodeRowsQ4_0(row, absl::MakeSpan(blocks)); });
}
BENCHMARK(BM_EncodeQ4_0);

void BM_EncodeQ8_0(benchmark::State& state) {
  const std::vector<float> row = Row();
  std::vector<uint8_t> blocks(kElems / 32 * kQ8_0BlockBytes);
  Run(state, [&] { EncodeRowsQ8_0(row, absl::MakeSpan(blocks)); });
}
BENCHMARK(BM_EncodeQ8_0);

void BM_DecodeQ4_0(benchmark::State& state) {
  std::vector<float> row = Row();
  std::vector<uint8_t> blocks(kElems / 32 * kQ4_0BlockBytes);
  EncodeRowsQ4_0(row, absl::MakeSpan(blocks));
  Run(state, [&] { DecodeRowsQ4_0(blocks, absl::MakeSpan(row)); });
}
BENCHMARK(BM_DecodeQ4_0);

void BM_DecodeQ8_0(benchmark::State& state) {
  std::vector<float> row = Row();
  std::vector<uint8_t> blocks(kElems / 32 * kQ8_0BlockBytes);
  EncodeRowsQ8_0(row, absl::MakeSpan(blocks));
  Run(state, [&] { DecodeRowsQ8_0(blocks, absl::MakeSpan(row)); });
}
BENCHMARK(BM_DecodeQ8_0);

void BM_FirstNotBelow(benchmark::State& state) {
  const std::vector<float> row = Row();
  Run(state, [&] { benchmark::DoNotOptimize(FirstNotBelow(100.0f, row)); });
}
BENCHMARK(BM_FirstNotBelow);

void BM_FirstFurther(benchmark::State& state) {
  const std::vector<float> row = Row();
  const std::vector<float> same = row;
  Run(state, [&] {
    benchmark::DoNotOptimize(FirstFurther(row, same, 32, 0.1f, 0.1f));
  });
}
BENCHMARK(BM_FirstFurther);

}  // namespace
}  // namespace qeff
