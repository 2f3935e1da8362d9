// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/importance.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/prune/structured/model_run.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/host_block.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Columns whose sums are in a cache line or more.
constexpr int64_t kColumnsOfTask = 64;

// sum over sequences of (mean |a|)^2, of each column.
class SequenceMeans {
 public:
  explicit SequenceMeans(int64_t columns)
      : squares_(static_cast<size_t>(columns)) {}

  // Rows of sequences of `lengths`.
  void Add(absl::Span<const int64_t> lengths, MatrixView<const float> rows,
           ThreadPool& pool) {
    pool.ParallelFor(rows.cols(), kColumnsOfTask,
                     [&](int64_t begin, int64_t end, int) {
                       AddColumns(lengths, rows, begin, end);
                     });
  }

  double m(int64_t column) const {
    return std::sqrt(squares_[static_cast<size_t>(column)]);
  }
  double square(int64_t column) const {
    return squares_[static_cast<size_t>(column)];
  }

 private:
  void AddColumns(absl::Span<const int64_t> lengths,
                  MatrixView<const float> rows, int64_t begin, int64_t end) {
    std::vector<double> sums(static_cast<size_t>(end - begin));
    int64_t row = 0;
    for (const int64_t length : lengths) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (const int64_t last = row + length; row < last; ++row) {
        const float* values = rows.row(row) + begin;
        for (size_t c = 0; c < sums.size(); ++c) sums[c] += std::abs(values[c]);
      }
      for (size_t c = 0; c < sums.size(); ++c) {
        const double mean = sums[c] / static_cast<double>(length);
        squares_[static_cast<size_t>(begin) + c] += mean * mean;
      }
    }
  }

  std::vector<double> squares_;
};

// Sum over rows of 1 - cos(a, b).
double SumOfTurns(MatrixView<const float> a, MatrixView<const float> b) {
  double sum = 0;
  for (int64_t r = 0; r < a.rows(); ++r) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t c = 0; c < a.cols(); ++c) {
      const double x = a.row(r)[c], y = b.row(r)[c];
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    if (aa > 0 && bb > 0) sum += 1 - ab / std::sqrt(aa * bb);
  }
  return sum;
}

class ActivationMeter {
 public:
  ActivationMeter(std::shared_ptr<const Transformer> model,
                  const TokenSample& sample, const ImportanceOptions& options,
                  ThreadPool& pool)
      : model_(std::move(model)),
        spec_(model_->spec()),
        options_(options),
        pool_(pool),
        sample_(sample),
        chunks_(sample, options.check),
        run_(spec_, sample, &scratch_, &pool),
        result_(ZeroImportance(spec_)) {}

  absl::StatusOr<StructuredImportance> Go() {
    QEFF_ASSIGN_OR_RETURN(x_, EmbedRows(*model_, sample_));
    for (int64_t b = 0; b < spec_.num_layers; ++b) {
      QEFF_RETURN_IF_ERROR(RunBlock(b), absl::StrCat("block ", b));
      if (options_.progress) options_.progress(b + 1, spec_.num_layers);
    }
    QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model_->LoadFinalNorm());
    SequenceMeans means(spec_.hidden_size);
    QEFF_RETURN_IF_ERROR(chunks_.ForSequences([&](const RowChunk& chunk) {
      const auto normed = run_.scratch().Get(HostScratch::kFinal, chunk.rows,
                                             spec_.hidden_size);
      ApplyNorm(spec_, norm, x_.view().Rows(chunk.row, chunk.rows), normed,
                pool_);
      means.Add(chunk.lengths, normed, pool_);
      return absl::OkStatus();
    }));
    AddHidden(means);
    return std::move(result_);
  }

 private:
  absl::Status RunBlock(int64_t index) {
    const size_t layer = static_cast<size_t>(index);
    QEFF_ASSIGN_OR_RETURN(HostBlock block,
                          HostBlock::Load(*model_, index, pool_));
    const HostBlockContext& context = run_.context();
    SequenceMeans first(spec_.hidden_size), second(spec_.hidden_size);
    SequenceMeans heads(spec_.q_size()), inner(spec_.ffn_size);
    double turns = 0;
    QEFF_RETURN_IF_ERROR(chunks_.ForSequences([&](const RowChunk& chunk)
                                                  -> absl::Status {
      const auto x = x_.view().Rows(chunk.row, chunk.rows);
      const Matrix<float> before = CopyOf(x);
      const auto in = block.AttentionInput(context, x);
      first.Add(chunk.lengths, in, pool_);
      QEFF_ASSIGN_OR_RETURN(const auto o_in,
                            block.AttentionHeads(context, chunk.lengths, in));
      heads.Add(chunk.lengths, o_in, pool_);
      QEFF_RETURN_IF_ERROR(block.AddLinear(context, LinearRole::kO, o_in, x));
      const auto ffn = block.FfnInput(context, x);
      second.Add(chunk.lengths, ffn, pool_);
      QEFF_ASSIGN_OR_RETURN(const auto down_in, block.FfnInner(context, ffn));
      inner.Add(chunk.lengths, down_in, pool_);
      QEFF_RETURN_IF_ERROR(
          block.AddLinear(context, LinearRole::kDown, down_in, x));
      turns += SumOfTurns(before.view(), x);
      return absl::OkStatus();
    }));
    AddHidden(first);
    AddHidden(second);
    for (int64_t n = 0; n < spec_.ffn_size; ++n) {
      result_.ffn[layer][static_cast<size_t>(n)] = inner.m(n);
    }
    const int64_t width = spec_.q_size() / spec_.num_kv_heads;
    for (int64_t c = 0; c < spec_.q_size(); ++c) {
      result_.kv_groups[layer][static_cast<size_t>(c / width)] +=
          heads.square(c);
    }
    for (double& group : result_.kv_groups[layer]) group = std::sqrt(group);
    result_.layers[layer] =
        std::max(turns / static_cast<double>(sample_.tokens), 0.0);
    if (std::isfinite(result_.layers[layer])) return absl::OkStatus();
    return NumericalError("its output is not finite");
  }

  void AddHidden(const SequenceMeans& means) {
    for (int64_t c = 0; c < spec_.hidden_size; ++c) {
      result_.hidden[static_cast<size_t>(c)] += means.m(c);
    }
  }

  std::shared_ptr<const Transformer> model_;
  const TransformerSpec& spec_;
  const ImportanceOptions& options_;
  ThreadPool& pool_;
  const TokenSample& sample_;
  const SampleChunks chunks_;
  HostScratch scratch_;
  ModelRun run_;
  Matrix<float> x_;
  StructuredImportance result_;
};

}  // namespace

StructuredImportance ZeroImportance(const TransformerSpec& spec) {
  const size_t layers = static_cast<size_t>(spec.num_layers);
  StructuredImportance result;
  result.ffn.assign(layers,
                    std::vector<double>(static_cast<size_t>(spec.ffn_size)));
  result.kv_groups.assign(
      layers, std::vector<double>(static_cast<size_t>(spec.num_kv_heads)));
  result.hidden.resize(static_cast<size_t>(spec.hidden_size));
  result.layers.resize(layers);
  return result;
}

StructuredImportance RandomImportance(const TransformerSpec& spec,
                                      uint64_t seed) {
  StructuredImportance result = ZeroImportance(spec);
  Random random(seed);
  const auto fill = [&](std::vector<double>& values) {
    for (double& value : values) value = random.NextDouble();
  };
  for (auto& values : result.ffn) fill(values);
  for (auto& values : result.kv_groups) fill(values);
  fill(result.hidden);
  fill(result.layers);
  return result;
}

absl::StatusOr<StructuredImportance> MeasureActivations(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    const ImportanceOptions& options, ThreadPool& pool) {
  return GuardMemory([&] {
    return ActivationMeter(std::move(model), sample, options, pool).Go();
  });
}

}  // namespace qeff
