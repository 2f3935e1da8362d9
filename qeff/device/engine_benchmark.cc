// SPDX-License-Identifier: Apache-2.0
//
// Tokens a second of the engine, one token at a time, and the bytes of weights
// that it reads for them. Arguments: threads, tokens already in the context
// (up to 64 more than that are appended).

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/device/engine.h"
#include "qeff/device/model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

constexpr int64_t kStepsPerIteration = 8;

TransformerSpec Spec(int64_t hidden, int64_t layers, int64_t heads,
                     int64_t kv_heads, int64_t ffn, int64_t vocab) {
  TransformerSpec spec;
  spec.family = "llama";
  spec.hidden_size = hidden;
  spec.num_layers = layers;
  spec.num_heads = heads;
  spec.num_kv_heads = kv_heads;
  spec.head_dim = hidden / heads;
  spec.ffn_size = ffn;
  spec.vocab_size = vocab;
  spec.max_positions = 4096;
  spec.attention_scale = 1.0 / std::sqrt(static_cast<double>(spec.head_dim));
  return spec;
}

// llama-1b with 4 of its 22 blocks: 176 M weights in them, 66 M in lm_head,
// far more than a cache holds.
TransformerSpec Llama1bFourBlocks() {
  return Spec(2048, 4, 32, 4, 5632, 32000);
}

TransformerSpec Stories260k() { return Spec(64, 5, 8, 4, 172, 512); }

DeviceMatrix Zeros(DType dtype, int64_t rows, int64_t cols) {
  const size_t size = static_cast<size_t>(rows * cols) * DTypeBytes(dtype);
  auto bytes = std::make_shared<std::vector<uint8_t>>(size);
  return DeviceMatrix{FloatRows{dtype}, rows, cols, absl::MakeConstSpan(*bytes),
                      bytes};
}

std::shared_ptr<DeviceModel> ZeroModel(const TransformerSpec& spec,
                                       DType dtype) {
  auto model = std::make_shared<DeviceModel>();
  model->spec = spec;
  const DeviceNorm norm{
      std::vector<float>(static_cast<size_t>(spec.hidden_size), 1.0f), {}};
  const int64_t hidden = spec.hidden_size;
  model->token_embedding = Zeros(dtype, spec.vocab_size, hidden);
  model->final_norm = norm;
  model->lm_head.weight = Zeros(dtype, spec.vocab_size, hidden);
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    DeviceBlock block;
    block.attention_norm = block.ffn_norm = norm;
    block.q.weight = Zeros(dtype, spec.q_size(), hidden);
    block.k.weight = Zeros(dtype, spec.kv_size(), hidden);
    block.v.weight = Zeros(dtype, spec.kv_size(), hidden);
    block.o.weight = Zeros(dtype, hidden, spec.q_size());
    block.gate.weight = Zeros(dtype, spec.ffn_size, hidden);
    block.up.weight = Zeros(dtype, spec.ffn_size, hidden);
    block.down.weight = Zeros(dtype, hidden, spec.ffn_size);
    model->blocks.push_back(std::move(block));
  }
  return model;
}

void BM_Decode(benchmark::State& state, const TransformerSpec& spec,
               DType dtype) {
  const auto pool = *CreateThreadPool(static_cast<int>(state.range(0)));
  const int64_t context = state.range(1);
  const int64_t last = context + 8 * kStepsPerIteration;
  const std::vector<int32_t> prompt(static_cast<size_t>(context), 1);
  const auto engine =
      *Engine::Create(ZeroModel(spec, dtype), pool.get(), {last});
  if (context > 0) (void)*engine->Append(prompt);
  for (auto _ : state) {
    if (engine->position() == last) {
      state.PauseTiming();
      engine->Reset();
      if (context > 0) (void)*engine->Append(prompt);
      state.ResumeTiming();
    }
    for (int64_t i = 0; i < kStepsPerIteration; ++i) {
      benchmark::DoNotOptimize(engine->Append({2})->data());
    }
  }
  const int64_t tokens = state.iterations() * kStepsPerIteration;
  state.SetItemsProcessed(tokens);
  const int64_t weights = spec.num_layers * spec.block_linear_elems() +
                          spec.vocab_size * spec.hidden_size;
  state.SetBytesProcessed(tokens * weights *
                          static_cast<int64_t>(DTypeBytes(dtype)));
}

void Threads(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "context"})->UseRealTime();
  for (int64_t context : {0, 400}) {
    for (int64_t threads : {1, 2}) b->Args({threads, context});
  }
}

BENCHMARK_CAPTURE(BM_Decode, llama_1b_four_blocks_bf16, Llama1bFourBlocks(),
                  DType::kBF16)
    ->Apply(Threads);
BENCHMARK_CAPTURE(BM_Decode, llama_1b_four_blocks_f32, Llama1bFourBlocks(),
                  DType::kF32)
    ->Apply(Threads);
BENCHMARK_CAPTURE(BM_Decode, stories260k_f32, Stories260k(), DType::kF32)
    ->Apply(Threads);

}  // namespace
}  // namespace qeff
