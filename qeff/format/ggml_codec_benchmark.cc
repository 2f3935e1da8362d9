// SPDX-License-Identifier: Apache-2.0
//
// Rows of 4096 normal weights in ggml's block formats, one thread: encoding as
// ggml does, encoding by importance, decoding. Items are weights.

#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr size_t kElems = 4096;

struct Row {
  explicit Row(GgmlType row_type) : type(row_type), values(kElems) {
    const Random random(1, 0);
    for (size_t i = 0; i < kElems; ++i) values[i] = random.NormalAt(i);
    const GgmlTypeTraits& traits = *FindGgmlType(type);
    blocks.resize(kElems / traits.block_elems * traits.block_bytes);
    EncodeGgmlRow(type, values, {}, absl::MakeSpan(blocks));
  }

  GgmlType type;
  std::vector<float> values;
  std::vector<uint8_t> blocks;
};

void SetItems(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kElems));
}

void BM_Encode(benchmark::State& state, GgmlType type, bool by_importance) {
  Row row(type);
  const std::vector<float> importance(by_importance ? kElems : 0, 1.0f);
  for (auto _ : state) {
    EncodeGgmlRow(type, row.values, importance, absl::MakeSpan(row.blocks));
    benchmark::DoNotOptimize(row.blocks.data());
  }
  SetItems(state);
}

void BM_Decode(benchmark::State& state, GgmlType type) {
  Row row(type);
  for (auto _ : state) {
    DecodeGgmlRow(type, row.blocks, absl::MakeSpan(row.values));
    benchmark::DoNotOptimize(row.values.data());
  }
  SetItems(state);
}

#define QEFF_CODEC_BENCHMARKS(type)                                         \
  BENCHMARK_CAPTURE(BM_Encode, type, GgmlType::k##type, false);             \
  BENCHMARK_CAPTURE(BM_Encode, type##_importance, GgmlType::k##type, true); \
  BENCHMARK_CAPTURE(BM_Decode, type, GgmlType::k##type)

QEFF_CODEC_BENCHMARKS(Q8_0);
QEFF_CODEC_BENCHMARKS(Q4_0);
QEFF_CODEC_BENCHMARKS(Q4_K);
QEFF_CODEC_BENCHMARKS(Q5_K);
QEFF_CODEC_BENCHMARKS(Q6_K);

}  // namespace
}  // namespace qeff
