// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/block_tuner.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/transformer/block_backward.h"
#include "qeff/transformer/matrix_buffer.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

// Of the first iteration, times the number of iterations; they fall linearly.
// Those of scales and norms are for 2 bits and halve with every bit, as does
// what a step is of the largest weight. Chosen on tinystories6m (README.md).
constexpr double kRoundedCodeRate = 1;
constexpr double kSolvedCodeRate = 0.3;  // with 2 bits, else 0
constexpr double kScaleRate = 0.5;
constexpr double kNormRate = 0.15;

constexpr int kEvaluations = 4;

double ForBits(double rate_of_two, int bits) {
  return std::ldexp(rate_of_two, kMinQuantBits - bits);
}

// Batches of whole sequences, in an order that is shuffled again and again.
class Batches {
 public:
  explicit Batches(const SolvedBlock& block)
      : block_(block), random_(static_cast<uint64_t>(block.index)) {
    int64_t row = 0;
    for (const int64_t length : block.chunks->lengths()) {
      begins_.push_back(row);
      row += length;
    }
    order_.resize(begins_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    next_ = order_.size();
  }

  // Goes on to the next one.
  absl::Status Next() {
    const absl::Span<const int64_t> all = block_.chunks->lengths();
    std::vector<size_t> chosen;
    lengths_.clear();
    int64_t rows = 0;
    while (chosen.size() < order_.size()) {
      if (next_ == order_.size()) Shuffle();
      const size_t sequence = order_[next_];
      if (rows > 0 && rows + all[sequence] > kTunerTokens) break;
      ++next_;
      chosen.push_back(sequence);
      lengths_.push_back(all[sequence]);
      rows += all[sequence];
    }
    QEFF_RETURN_IF_ERROR(Copy(chosen, rows, block_.inputs, &inputs_));
    return Copy(chosen, rows, block_.targets, &targets_);
  }

  absl::Span<const int64_t> lengths() const { return lengths_; }
  MatrixView<const float> inputs() const { return inputs_.view(); }
  MatrixView<const float> targets() const { return targets_.view(); }

 private:
  void Shuffle() {
    for (size_t i = order_.size(); i > 1; --i) {
      std::swap(order_[i - 1], order_[random_.NextBelow(i)]);
    }
    next_ = 0;
  }

  absl::Status Copy(const std::vector<size_t>& chosen, int64_t rows,
                    RowStore* from, MatrixBuffer* to) {
    const MatrixView<float> all = to->Get(rows, from->cols());
    int64_t row = 0;
    for (const size_t sequence : chosen) {
      const int64_t length = block_.chunks->lengths()[sequence];
      QEFF_ASSIGN_OR_RETURN(const auto part,
                            from->Read(begins_[sequence], length));
      std::copy_n(part.data(), length * part.cols(), all.row(row));
      row += length;
    }
    return absl::OkStatus();
  }

  const SolvedBlock& block_;
  Random random_;
  std::vector<int64_t> begins_;  // first rows of sequences
  std::vector<size_t> order_;
  size_t next_ = 0;
  std::vector<int64_t> lengths_;
  MatrixBuffer inputs_, targets_;
};

// The weights of a norm, learned in steps relative to what they began with.
class TunedNorm {
 public:
  TunedNorm(DType dtype, std::vector<float>* weights)
      : dtype_(dtype),
        weights_(*weights),
        start_(*weights),
        learned_(*weights),
        kept_(*weights) {}

  void Update(const std::vector<float>& gradient, float rate) {
    for (size_t i = 0; i < learned_.size(); ++i) {
      const float g = gradient[i];
      const float move = g > 0 ? rate : g < 0 ? -rate : 0.0f;
      learned_[i] -= move * std::abs(start_[i]);
    }
    // As they will be read.
    std::vector<uint8_t> stored(learned_.size() * DTypeBytes(dtype_));
    ConvertFromFloat(learned_, dtype_, absl::MakeSpan(stored));
    ConvertToFloat(dtype_, stored, absl::MakeSpan(weights_));
  }
  void Keep() { kept_ = weights_; }
  void Return() { weights_ = kept_; }

 private:
  DType dtype_;
  std::vector<float>& weights_;
  std::vector<float> start_, learned_, kept_;
};

class Tuner {
 public:
  Tuner(const SolvedBlock& block, const BlockTunerOptions& options,
        DType norm_dtype, const std::vector<BlockTunerLayer>& layers,
        ThreadPool& pool)
      : block_(block),
        options_(options),
        layers_(layers),
        weights_(*block.weights),
        pool_(pool),
        differentiable_(block.context),
        gradient_(ZerosLike(weights_)),
        batches_(block) {
    for (const auto norm : kNorms) {
      norms_.emplace_back(norm_dtype, &(weights_.*norm).weight);
    }
  }

  absl::StatusOr<BlockTunerResult> Run() {
    BlockTunerResult result;
    QEFF_ASSIGN_OR_RETURN(result.loss_before, Loss());
    result.loss_after = result.loss_before;
    Keep();
    const int every = std::max(1, options_.iterations / kEvaluations);
    for (int i = 0; i < options_.iterations; ++i) {
      if (block_.check) QEFF_RETURN_IF_ERROR(block_.check());
      QEFF_RETURN_IF_ERROR(Iterate(i));
      if ((i + 1) % every != 0 && i + 1 != options_.iterations) continue;
      QEFF_ASSIGN_OR_RETURN(const double loss, Loss());
      if (!(loss < result.loss_after)) continue;
      result.loss_after = loss;
      Keep();
    }
    Return();
    return result;
  }

 private:
  static constexpr NormWeights BlockWeights::*kNorms[] = {
      &BlockWeights::attention_norm, &BlockWeights::ffn_norm};

  absl::Status Iterate(int iteration) {
    QEFF_RETURN_IF_ERROR(batches_.Next());
    ClearGradient();
    differentiable_.Run(
        weights_, batches_.lengths(), batches_.inputs(), kTunerTokens,
        [&](int64_t row, MatrixView<const float> y, MatrixView<float> dy) {
          // Only signs count: factors of the loss do not.
          const auto wanted = batches_.targets().Rows(row, y.rows());
          pool_.ParallelFor(y.rows(), kRowsOfTask,
                            [&](int64_t r, int64_t end, int /*thread*/) {
                              for (; r < end; ++r) {
                                for (int64_t c = 0; c < y.cols(); ++c) {
                                  dy.row(r)[c] = y.row(r)[c] - wanted.row(r)[c];
                                }
                              }
                            });
        },
        /*dx=*/{}, gradient_);
    const double iterations = options_.iterations;
    Update((1 - iteration / iterations) / iterations);
    return absl::OkStatus();
  }

  void ClearGradient() {
    for (const BlockTunerLayer& layer : layers_) {
      for (const auto part : layer.parts) {
        const absl::Span<float> all = (gradient_.*part).weight.span();
        std::fill(all.begin(), all.end(), 0.0f);
      }
    }
    for (const auto norm : kNorms) {
      std::vector<float>& all = (gradient_.*norm).weight;
      std::fill(all.begin(), all.end(), 0.0f);
    }
  }

  void Update(double rate) {
    int bits = kMaxQuantBits;
    for (const BlockTunerLayer& layer : layers_) {
      bits = std::min(bits, layer.layer->bits());
    }
    ForRows([&](TunedLayer* layer, int64_t row, float* weights,
                const float* gradient) {
      layer->Update(
          row, gradient, static_cast<float>(CodeRate(layer->bits()) * rate),
          static_cast<float>(ForBits(kScaleRate, layer->bits()) * rate));
      layer->Render(row, weights);
    });
    for (size_t i = 0; i < norms_.size(); ++i) {
      norms_[i].Update((gradient_.*kNorms[i]).weight,
                       static_cast<float>(ForBits(kNormRate, bits) * rate));
    }
  }

  double CodeRate(int bits) const {
    if (!options_.solved) return kRoundedCodeRate;
    return bits == kMinQuantBits ? kSolvedCodeRate : 0;
  }

  // body(layer, row, the row's weights, their gradients).
  template <class Body>
  void ForRows(Body body) {
    for (const BlockTunerLayer& layer : layers_) {
      int64_t first = 0;
      for (const auto part : layer.parts) {
        Matrix<float>& weights = (weights_.*part).weight;
        Matrix<float>& gradient = (gradient_.*part).weight;
        pool_.ParallelFor(weights.rows(), kRowsOfTask,
                          [&](int64_t r, int64_t end, int /*thread*/) {
                            for (; r < end; ++r) {
                              body(layer.layer, first + r, weights.row(r),
                                   gradient.row(r));
                            }
                          });
        first += weights.rows();
      }
    }
  }

  // Over the whole sample.
  absl::StatusOr<double> Loss() {
    double sum = 0;
    QEFF_RETURN_IF_ERROR(
        block_.chunks->ForSequences([&](const RowChunk& chunk) -> absl::Status {
          QEFF_ASSIGN_OR_RETURN(const auto x,
                                block_.inputs->Read(chunk.row, chunk.rows));
          const auto y = outputs_.Get(chunk.rows, x.cols());
          differentiable_.Forward(weights_, chunk.lengths, x, y, kept_);
          QEFF_ASSIGN_OR_RETURN(const auto wanted,
                                block_.targets->Read(chunk.row, chunk.rows));
          sum += SquaredDistance(y, wanted);
          return absl::OkStatus();
        }));
    return sum /
           static_cast<double>(block_.chunks->rows() * block_.inputs->cols());
  }

  double SquaredDistance(MatrixView<const float> a, MatrixView<const float> b) {
    std::vector<double> rows(static_cast<size_t>(a.rows()));
    pool_.ParallelFor(a.rows(), kRowsOfTask,
                      [&](int64_t r, int64_t end, int /*thread*/) {
                        for (; r < end; ++r) {
                          double sum = 0;
                          for (int64_t c = 0; c < a.cols(); ++c) {
                            const double d = static_cast<double>(a.row(r)[c]) -
                                             static_cast<double>(b.row(r)[c]);
                            sum += d * d;
                          }
                          rows[static_cast<size_t>(r)] = sum;
                        }
                      });
    return std::accumulate(rows.begin(), rows.end(), 0.0);
  }

  void Keep() {
    for (const BlockTunerLayer& layer : layers_) layer.layer->Keep();
    for (TunedNorm& norm : norms_) norm.Keep();
  }

  void Return() {
    for (const BlockTunerLayer& layer : layers_) layer.layer->Return();
    for (TunedNorm& norm : norms_) norm.Return();
    ForRows([](TunedLayer* layer, int64_t row, float* weights, const float*) {
      layer->Render(row, weights);
    });
  }

  const SolvedBlock& block_;
  const BlockTunerOptions& options_;
  const std::vector<BlockTunerLayer>& layers_;
  BlockWeights& weights_;
  ThreadPool& pool_;
  DifferentiableBlock differentiable_;
  BlockActivations kept_;
  MatrixBuffer outputs_;
  BlockWeights gradient_;
  Batches batches_;
  std::vector<TunedNorm> norms_;
};

}  // namespace

absl::StatusOr<BlockTunerResult> TuneBlock(
    const SolvedBlock& block, const BlockTunerOptions& options,
    DType norm_dtype, const std::vector<BlockTunerLayer>& layers,
    ThreadPool& pool) {
  return Tuner(block, options, norm_dtype, layers, pool).Run();
}

double TuneBlockFlops(const BlockTunerOptions& options, int64_t tokens,
                      int64_t linear_elems) {
  // Forward, and gradients in inputs and in weights; then forwards only: of the
  // evaluations, and of the walk.
  const double learned = 6.0 * options.iterations *
                         static_cast<double>(std::min(tokens, kTunerTokens));
  const double evaluated =
      2.0 * (kEvaluations + 2) * static_cast<double>(tokens);
  return (learned + evaluated) * static_cast<double>(linear_elems);
}

uint64_t TuneBlockBytes(const TransformerSpec& spec, int64_t length) {
  const int64_t rows = std::max(length, kTunerTokens);
  // What Forward keeps, gradients in most of it, and rows of hidden states.
  const int64_t row_elems = 12 * spec.hidden_size + 4 * spec.q_size() +
                            4 * spec.kv_size() + 5 * spec.ffn_size;
  return static_cast<uint64_t>(rows * row_elems + spec.block_linear_elems()) *
         sizeof(float);
}

}  // namespace qeff
