// SPDX-License-Identifier: Apache-2.0
//
// Forward and backward of a block, beside the peak of multiply-adds, measured
// in turn with it; and where the time goes.
//
//   block_backward_benchmark [threads [rounds [chunk_tokens]]]
//
// A rate is 6 * parameters * tokens: two operations for each weight and token
// forward, four backward. What attention and the rest compute comes on top.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/sgemm/fma_peak.h"
#include "qeff/transformer/attention.h"
#include "qeff/transformer/attention_backward.h"
#include "qeff/transformer/block_backward.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

struct Case {
  const char* name;
  int64_t hidden, ffn, heads, kv_heads, head_dim;
  int64_t sequences, length;
};

constexpr Case kCases[] = {
    {"hidden 256", 256, 768, 8, 4, 32, 16, 256},
    {"smollm-135m", 576, 1536, 9, 3, 64, 4, 256},
};

TransformerSpec SpecOf(const Case& c) {
  TransformerSpec spec;
  spec.hidden_size = c.hidden;
  spec.num_layers = 1;
  spec.num_heads = c.heads;
  spec.num_kv_heads = c.kv_heads;
  spec.head_dim = c.head_dim;
  spec.ffn_size = c.ffn;
  spec.vocab_size = 20;
  spec.max_positions = c.length;
  spec.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  return spec;
}

// Attention alone, forward and backward.
class AttentionAlone {
 public:
  AttentionAlone(const Case& c, ThreadPool& pool)
      : lengths_(static_cast<size_t>(c.sequences), c.length), pool_(pool) {
    options_.num_heads = c.heads;
    options_.num_kv_heads = c.kv_heads;
    options_.head_dim = c.head_dim;
    options_.scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    const int64_t tokens = c.sequences * c.length;
    for (Matrix<float>* m : {&q_, &out_, &dout_, &dq_}) {
      *m = RandomMatrix(tokens, c.heads * c.head_dim, ++stream_);
    }
    for (Matrix<float>* m : {&k_, &v_, &dk_, &dv_}) {
      *m = RandomMatrix(tokens, c.kv_heads * c.head_dim, ++stream_);
    }
  }

  void Run() {
    CausalAttention(options_, lengths_, q_.view(), k_.view(), v_.view(),
                    out_.view(), pool_);
    CausalAttentionBackward(options_, lengths_, q_.view(), k_.view(), v_.view(),
                            dout_.view(), dq_.view(), dk_.view(), dv_.view(),
                            pool_, scratch_);
  }

 private:
  AttentionOptions options_;
  std::vector<int64_t> lengths_;
  ThreadPool& pool_;
  uint64_t stream_ = 0;
  Matrix<float> q_, k_, v_, out_, dout_, dq_, dk_, dv_;
  AttentionScratch scratch_;
};

void Measure(const Case& c, int64_t rounds, int64_t chunk_tokens,
             ThreadPool& pool) {
  const TransformerSpec spec = SpecOf(c);
  const std::vector<int64_t> lengths(static_cast<size_t>(c.sequences),
                                     c.length);
  const int64_t tokens = c.sequences * c.length;
  const RopeTable rope(spec, c.length);
  const BlockWeights weights = RandomBlockWeights(spec);
  BlockWeights gradient = ZerosLike(weights);
  const Matrix<float> x = RandomMatrix(tokens, c.hidden, 1);
  Matrix<float> dx(tokens, c.hidden);
  DifferentiableBlock block({&spec, &pool, &rope, {}});
  const auto run = [&] {
    block.Run(
        weights, lengths, x.view(), chunk_tokens,
        [](int64_t, MatrixView<const float> y, MatrixView<float> dy) {
          for (int64_t r = 0; r < y.rows(); ++r) {
            for (int64_t i = 0; i < y.cols(); ++i) dy.row(r)[i] = y.row(r)[i];
          }
        },
        dx.view(), gradient);
  };
  AttentionAlone attention(c, pool);
  run();
  attention.Run();
  const double operations = 6.0 *
                            static_cast<double>(spec.block_linear_elems()) *
                            static_cast<double>(tokens);
  const auto peak = [&] {
    return PeakRate(pool, RunFusedMultiplyAdds,
                    OperationsOfFusedMultiplyAdds());
  };
  std::vector<double> rates, fractions, shares;
  for (int64_t i = 0; i < rounds; ++i) {
    const double before = peak();
    const double seconds = SecondsOf(pool, run);
    const double after = peak();
    rates.push_back(operations / seconds);
    fractions.push_back(rates.back() / ((before + after) / 2));
    shares.push_back(SecondsOf(pool, [&] { attention.Run(); }) / seconds);
  }
  std::printf(
      "%-12s %5lld tokens  %7.1f GFLOP/s  %3.0f %% of peak; attention %2.0f %% "
      "of the time\n",
      c.name, static_cast<long long>(tokens), Median(rates) / 1e9,
      100 * Median(fractions), 100 * Median(shares));
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  const int threads =
      argc > 1 ? std::atoi(argv[1]) : qeff::NumAvailableProcessors();
  const int64_t rounds = argc > 2 ? std::atoi(argv[2]) : 9;
  const int64_t chunk_tokens = argc > 3 ? std::atoi(argv[3]) : 1024;
  auto pool = qeff::CreateThreadPool(threads);
  if (!pool.ok()) return 1;
  for (const qeff::Case& c : qeff::kCases) {
    qeff::Measure(c, rounds, chunk_tokens, **pool);
  }
  return 0;
}
