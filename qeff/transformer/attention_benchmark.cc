// SPDX-License-Identifier: Apache-2.0
//
// Rate of attention on one thread. Arguments: tokens, heads, head_dim.

#include "benchmark/benchmark.h"
#include "qeff/transformer/attention.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

void BM_Attention(benchmark::State& state) {
  const int64_t tokens = state.range(0), heads = state.range(1);
  const int64_t head_dim = state.range(2);
  Matrix<float> qkv(tokens, 3 * heads * head_dim);
  Matrix<float> out(tokens, heads * head_dim);
  const Random random(1);
  for (size_t i = 0; i < qkv.span().size(); ++i) {
    qkv.data()[i] = random.NormalAt(i);
  }
  AttentionOptions options;
  options.num_heads = options.num_kv_heads = heads;
  options.head_dim = head_dim;
  options.scale = 1.0f;
  const auto pool = *CreateThreadPool(1);
  const int64_t size = heads * head_dim;
  for (auto _ : state) {
    CausalAttention(options, {tokens}, qkv.view().Cols(0, size),
                    qkv.view().Cols(size, size),
                    qkv.view().Cols(2 * size, size), out.view(), *pool);
  }
  // Two products of half a square.
  state.counters["GFLOP/s"] = benchmark::Counter(
      2e-9 * static_cast<double>(tokens * (tokens + 1) * size) *
          static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Attention)
    ->Args({512, 8, 8})
    ->Args({512, 8, 32})
    ->Args({512, 8, 64})
    ->Args({2048, 4, 128});

}  // namespace
}  // namespace qeff
