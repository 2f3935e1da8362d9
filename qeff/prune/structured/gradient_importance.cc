// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/gradient_importance.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/calibration/row_store.h"
#include "qeff/eval/kl_divergence.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/prune/structured/model_run.h"
#include "qeff/transformer/block_backward.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/model_ends.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Hidden states that are kept in memory.
constexpr uint64_t kMostBytes = uint64_t{512} << 20;
// Tokens whose logits are held.
constexpr int64_t kLogitRows = 64;

void Zero(LinearWeights* linear) {
  std::fill(linear->weight.span().begin(), linear->weight.span().end(), 0.0f);
}

void Zero(NormWeights* norm) {
  std::fill(norm->weight.begin(), norm->weight.end(), 0.0f);
}

// What is read of it.
void Zero(BlockWeights* gradient) {
  Zero(&gradient->attention_norm);
  Zero(&gradient->ffn_norm);
  Zero(&gradient->o);
  Zero(&gradient->down);
}

// Sums of g w over the rows, of each column.
std::vector<double> ColumnSums(const LinearWeights& weights,
                               const LinearWeights& gradient) {
  const Matrix<float>& w = weights.weight;
  std::vector<double> sums(static_cast<size_t>(w.cols()));
  for (int64_t r = 0; r < w.rows(); ++r) {
    const float* g = gradient.weight.row(r);
    for (int64_t c = 0; c < w.cols(); ++c) {
      sums[static_cast<size_t>(c)] +=
          static_cast<double>(g[c]) * static_cast<double>(w.row(r)[c]);
    }
  }
  return sums;
}

class GradientMeter {
 public:
  GradientMeter(std::shared_ptr<const Transformer> model,
                const TokenSample& sample, const ImportanceOptions& options,
                ThreadPool& pool)
      : model_(std::move(model)),
        spec_(model_->spec()),
        sample_(sample),
        options_(options),
        pool_(pool),
        chunks_(sample, options.check),
        run_(spec_, sample, &scratch_, &pool),
        result_(ZeroImportance(spec_)) {}

  absl::StatusOr<StructuredImportance> Go(const std::string& scratch_path) {
    const int64_t rows = sample_.tokens * spec_.num_layers;
    const uint64_t bytes = static_cast<uint64_t>(rows) *
                           static_cast<uint64_t>(spec_.hidden_size) * 4;
    if (scratch_path.empty() || bytes <= kMostBytes) {
      inputs_.emplace(rows, spec_.hidden_size);
    } else {
      QEFF_ASSIGN_OR_RETURN(
          inputs_, RowStore::InFile(scratch_path, rows, spec_.hidden_size));
    }
    QEFF_ASSIGN_OR_RETURN(x_, EmbedRows(*model_, sample_));
    const int64_t layers = spec_.num_layers;
    for (int64_t b = 0; b < layers; ++b) {
      QEFF_RETURN_IF_ERROR(Forward(b), absl::StrCat("block ", b));
      Report(b + 1);
    }
    QEFF_RETURN_IF_ERROR(BackwardEnd());
    for (int64_t b = layers; b-- > 0;) {
      QEFF_RETURN_IF_ERROR(Backward(b), absl::StrCat("block ", b));
      Report(2 * layers - b);
    }
    return std::move(result_);
  }

 private:
  void Report(int64_t done) const {
    if (options_.progress) options_.progress(done, 2 * spec_.num_layers);
  }

  absl::Status Forward(int64_t index) {
    QEFF_RETURN_IF_ERROR(inputs_->Write(index * x_.rows(), x_.view()));
    QEFF_ASSIGN_OR_RETURN(HostBlock block,
                          HostBlock::Load(*model_, index, pool_));
    return chunks_.ForSequences([&](const RowChunk& chunk) {
      return block.Run(run_.context(), chunk.lengths,
                       x_.view().Rows(chunk.row, chunk.rows));
    });
  }

  // Calls body(sequence, its first row, its rows).
  template <typename Body>
  absl::Status ForEachSequence(Body body) const {
    int64_t row = 0;
    for (size_t s = 0; s < sample_.sequences.size(); ++s) {
      if (options_.check) QEFF_RETURN_IF_ERROR(options_.check());
      const int64_t rows = chunks_.lengths()[s];
      QEFF_RETURN_IF_ERROR(body(sample_.sequences[s], row, rows));
      row += rows;
    }
    return absl::OkStatus();
  }

  // x_ becomes the gradient of the loss in it.
  absl::Status BackwardEnd() {
    QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model_->LoadFinalNorm());
    QEFF_ASSIGN_OR_RETURN(const LinearWeights lm_head,
                          model_->LoadLinear(-1, LinearRole::kLmHead));
    NormWeights gradient = norm;
    Matrix<float> hidden(kLogitRows, spec_.hidden_size);
    Matrix<float> logits(kLogitRows, spec_.vocab_size);
    return ForEachSequence([&](const std::vector<int32_t>& tokens,
                               int64_t first, int64_t length) {
      Zero(&gradient);
      for (int64_t begin = 0; begin < length; begin += kLogitRows) {
        const int64_t rows = std::min(kLogitRows, length - begin);
        const auto x = x_.view().Rows(first + begin, rows);
        const auto dlogits = logits.view().Rows(0, rows);
        LmHeadForward(spec_, norm, lm_head.weight.view(), x,
                      hidden.view().Rows(0, rows), dlogits, pool_, products_);
        SetLossGradient(tokens, begin, dlogits);
        SgemmArgs args;
        args.a = dlogits;
        args.b = lm_head.weight.view();
        args.c = hidden.view().Rows(0, rows);
        Sgemm(args, pool_, products_);
        NormBackward(spec_, norm, x, args.c, args.c, gradient, pool_);
        CopyRows(args.c, x, pool_);
      }
      AddHidden(norm, gradient);
      return absl::OkStatus();
    });
  }

  // From logits behind tokens [begin, ...) to the gradient of the mean loss.
  void SetLossGradient(const std::vector<int32_t>& tokens, int64_t begin,
                       MatrixView<float> logits) const {
    const int64_t scored = static_cast<int64_t>(tokens.size()) - 1;
    pool_.ParallelFor(logits.rows(), 1, [&](int64_t r, int64_t end, int) {
      for (; r < end; ++r) {
        const absl::Span<float> row(logits.row(r),
                                    static_cast<size_t>(logits.cols()));
        if (begin + r >= scored) {  // nothing comes behind the last token
          std::fill(row.begin(), row.end(), 0.0f);
          continue;
        }
        const LogSoftmax p(row);
        const double share = 1.0 / static_cast<double>(scored);
        for (float& value : row) {
          value = static_cast<float>(share * std::exp(p.LogProbability(value)));
        }
        row[static_cast<size_t>(tokens[static_cast<size_t>(begin + r) + 1])] -=
            static_cast<float>(share);
      }
    });
  }

  absl::Status Backward(int64_t index) {
    QEFF_ASSIGN_OR_RETURN(const BlockWeights weights, model_->LoadBlock(index));
    model_->ReleaseBlock(index);
    BlockWeights gradient = ZerosLike(weights);
    DifferentiableBlock block({&spec_, &pool_, &run_.rope(), run_.alibi()});
    QEFF_RETURN_IF_ERROR(
        ForEachSequence([&](const std::vector<int32_t>&, int64_t first,
                            int64_t length) -> absl::Status {
          QEFF_ASSIGN_OR_RETURN(
              const auto x, inputs_->Read(index * x_.rows() + first, length));
          const auto dx = x_.view().Rows(first, length);
          Zero(&gradient);
          block.Run(
              weights, {&length, 1}, x, length,
              [&](int64_t, MatrixView<const float>, MatrixView<float> dy) {
                CopyRows(dx, dy, pool_);
              },
              dx, gradient);
          Add(static_cast<size_t>(index), weights, gradient);
          return absl::OkStatus();
        }));
    if (std::isfinite(result_.layers[static_cast<size_t>(index)])) {
      return absl::OkStatus();
    }
    return NumericalError("its gradient is not finite");
  }

  void Add(size_t layer, const BlockWeights& weights,
           const BlockWeights& gradient) {
    const std::vector<double> down = ColumnSums(weights.down, gradient.down);
    const std::vector<double> o = ColumnSums(weights.o, gradient.o);
    double whole = 0;
    for (size_t n = 0; n < down.size(); ++n) {
      result_.ffn[layer][n] += std::abs(down[n]);
      whole += down[n];
    }
    std::vector<double>& groups = result_.kv_groups[layer];
    const size_t width = o.size() / groups.size();
    for (size_t g = 0; g < groups.size(); ++g) {
      double sum = 0;
      for (size_t c = g * width; c < (g + 1) * width; ++c) sum += o[c];
      groups[g] += std::abs(sum);
      whole += sum;
    }
    result_.layers[layer] += std::abs(whole);
    AddHidden(weights.attention_norm, gradient.attention_norm);
    AddHidden(weights.ffn_norm, gradient.ffn_norm);
  }

  void AddHidden(const NormWeights& norm, const NormWeights& gradient) {
    for (size_t c = 0; c < norm.weight.size(); ++c) {
      result_.hidden[c] += std::abs(static_cast<double>(gradient.weight[c]) *
                                    static_cast<double>(norm.weight[c]));
    }
  }

  std::shared_ptr<const Transformer> model_;
  const TransformerSpec& spec_;
  const TokenSample& sample_;
  const ImportanceOptions& options_;
  ThreadPool& pool_;
  const SampleChunks chunks_;
  HostScratch scratch_;
  ModelRun run_;
  SgemmScratch products_;
  absl::optional<RowStore> inputs_;  // of all blocks
  Matrix<float> x_;                  // hidden states, then their gradients
  StructuredImportance result_;
};

}  // namespace

absl::StatusOr<StructuredImportance> MeasureGradients(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    const std::string& scratch_path, const ImportanceOptions& options,
    ThreadPool& pool) {
  return GuardMemory([&] {
    return GradientMeter(std::move(model), sample, options, pool)
        .Go(scratch_path);
  });
}

}  // namespace qeff
