// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/sensitivity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/calibration/logit_divergence.h"
#include "qeff/calibration/row_store.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/rounded_weights.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/host_block.h"
#include "qeff/util/check.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kLeastTokens = 64, kMostTokens = 8192;
// Rows of a layer whose errors are measured, spread evenly.
constexpr int64_t kSampledRows = 256;
// Inputs of the layers of a block.
constexpr int kStages = 4;

// `rows` of `matrix`, spread evenly.
Matrix<float> SampleRows(MatrixView<const float> matrix, int64_t rows) {
  Matrix<float> sample(rows, matrix.cols());
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(matrix.row(r * matrix.rows() / rows), matrix.cols(),
                sample.row(r));
  }
  return sample;
}

// Squares of the elements of x d^T, summed up, a row of x.
double SquaredError(MatrixView<const float> x, MatrixView<const float> d,
                    ThreadPool& pool) {
  Matrix<float> product(x.rows(), d.rows());
  SgemmArgs args;
  args.a = x;
  args.b = d;
  args.b_transposed = true;
  args.c = product.view();
  Sgemm(args, pool);
  double sum = 0;
  for (const float value : product.span()) {
    sum += static_cast<double>(value) * static_cast<double>(value);
  }
  return sum / static_cast<double>(x.rows());
}

// One measurement. Members are in the order that they are used.
class Measurement {
 public:
  Measurement(std::shared_ptr<const Transformer> model,
              const LayerChange& change, const TokenSample& sample,
              const SensitivityOptions& options,
              std::vector<LayerGroup>* groups, ThreadPool& pool)
      : model_(std::move(model)),
        spec_(model_->spec()),
        change_(change),
        sample_(sample),
        options_(options),
        groups_(*groups),
        pool_(pool) {
    int64_t longest = 0;
    for (const auto& sequence : sample.sequences) {
      lengths_.push_back(static_cast<int64_t>(sequence.size()));
      longest = std::max(longest, lengths_.back());
    }
    if (spec_.position == PositionKind::kRope) {
      rope_ = RopeTable(spec_, longest);
    } else if (spec_.position == PositionKind::kAlibi) {
      const std::vector<double> slopes = AlibiSlopes(spec_);
      alibi_.assign(slopes.begin(), slopes.end());
    }
    context_.spec = &spec_;
    context_.pool = &pool_;
    context_.scratch = &scratch_;
    context_.rope = &rope_;
    context_.alibi = alibi_;
  }

  absl::Status Run() {
    const int64_t tokens = options_.inputs_only ? 0 : sample_.tokens;
    const int64_t rows = tokens * static_cast<int64_t>(groups_.size());
    if (options_.scratch_path.empty()) {
      streams_.emplace(rows, spec_.hidden_size);
    } else {
      QEFF_ASSIGN_OR_RETURN(
          streams_,
          RowStore::InFile(options_.scratch_path, rows, spec_.hidden_size));
    }
    QEFF_RETURN_IF_ERROR(Embed());
    size_t begin = 0;  // the parts of the blocks so far
    for (int64_t b = 0; b < spec_.num_layers; ++b) {
      size_t end = begin;
      while (end < groups_.size() && groups_[end].block == b) ++end;
      QEFF_RETURN_IF_ERROR(RunBlock(b, begin, end), absl::StrCat("block ", b));
      begin = end;
      if (options_.progress) options_.progress(b + 1, spec_.num_layers + 1);
    }
    if (options_.inputs_only) return absl::OkStatus();
    QEFF_RETURN_IF_ERROR(MeasureDivergences());
    if (options_.progress) {
      options_.progress(spec_.num_layers + 1, spec_.num_layers + 1);
    }
    return SetCosts();
  }

 private:
  absl::Status Check() const {
    return options_.check ? options_.check() : absl::OkStatus();
  }

  absl::Status Embed() {
    x_ = Matrix<float>(sample_.tokens, spec_.hidden_size);
    int64_t row = 0;
    for (const std::vector<int32_t>& sequence : sample_.sequences) {
      const int64_t length = static_cast<int64_t>(sequence.size());
      QEFF_RETURN_IF_ERROR(
          model_->Embed(sequence, x_.view().Rows(row, length)));
      row += length;
    }
    return absl::OkStatus();
  }

  absl::Status RunBlock(int64_t index, size_t begin, size_t end) {
    QEFF_ASSIGN_OR_RETURN(HostBlock block,
                          HostBlock::Load(*model_, index, pool_));
    for (size_t part = 0; !options_.inputs_only && part < begin; ++part) {
      QEFF_RETURN_IF_ERROR(Check());
      QEFF_ASSIGN_OR_RETURN(
          const auto x,
          streams_->Read(static_cast<int64_t>(part) * x_.rows(), x_.rows()));
      QEFF_RETURN_IF_ERROR(block.Run(context_, lengths_, x));
      QEFF_RETURN_IF_ERROR(
          streams_->Write(static_cast<int64_t>(part) * x_.rows(), x));
    }
    const Matrix<float> before = Copy(x_.view());
    QEFF_RETURN_IF_ERROR(RunOriginal(&block));
    for (size_t part = begin; part < end; ++part) {
      QEFF_RETURN_IF_ERROR(Check());
      QEFF_RETURN_IF_ERROR(RunGroup(before, part, &block));
    }
    return absl::OkStatus();
  }

  static Matrix<float> Copy(MatrixView<const float> from) {
    Matrix<float> copy(from.rows(), from.cols());
    for (int64_t r = 0; r < from.rows(); ++r) {
      std::copy_n(from.row(r), from.cols(), copy.row(r));
    }
    return copy;
  }

  // x_ goes through the block; inputs_ are those of its layers.
  absl::Status RunOriginal(HostBlock* block) {
    const auto in = block->AttentionInput(context_, x_.view());
    inputs_[0] = Copy(in);
    QEFF_ASSIGN_OR_RETURN(const auto heads,
                          block->AttentionHeads(context_, lengths_, in));
    inputs_[1] = Copy(heads);
    QEFF_RETURN_IF_ERROR(
        block->AddLinear(context_, LinearRole::kO, heads, x_.view()));
    const auto ffn = block->FfnInput(context_, x_.view());
    inputs_[2] = Copy(ffn);
    QEFF_ASSIGN_OR_RETURN(const auto inner, block->FfnInner(context_, ffn));
    inputs_[3] = Copy(inner);
    return block->AddLinear(context_, LinearRole::kDown, inner, x_.view());
  }

  // Measures the errors of `part`, and sends what the block makes of `before`
  // with its layers rounded on its way.
  absl::Status RunGroup(const Matrix<float>& before, size_t index,
                        HostBlock* block) {
    LayerGroup& group = groups_[index];
    for (size_t m = 0; m < group.modules.size(); ++m) {
      const LinearModule& module = *group.modules[m];
      QEFF_ASSIGN_OR_RETURN(LinearWeights weights,
                            model_->LoadLinear(module.block, module.role));
      if (!options_.inputs_only) {
        AddErrors(*group.tensors[m], weights.weight, &group);
      }
      change_(*group.tensors[m], Measured(group).scheme, InputsOf(group),
              weights.weight.view());
      if (options_.inputs_only) continue;
      QEFF_RETURN_IF_ERROR(block->SetLinear(module, weights, pool_));
    }
    if (options_.inputs_only) return absl::OkStatus();
    const int64_t row = static_cast<int64_t>(index) * x_.rows();
    QEFF_RETURN_IF_ERROR(streams_->Write(row, before.view()));
    QEFF_ASSIGN_OR_RETURN(const auto x, streams_->Read(row, x_.rows()));
    QEFF_RETURN_IF_ERROR(block->Run(context_, lengths_, x));
    QEFF_RETURN_IF_ERROR(streams_->Write(row, x));
    for (const LinearModule* module : group.modules) {
      QEFF_ASSIGN_OR_RETURN(const LinearWeights weights,
                            model_->LoadLinear(module->block, module->role));
      QEFF_RETURN_IF_ERROR(block->SetLinear(*module, weights, pool_));
    }
    model_->ReleaseBlock(group.block);
    return absl::OkStatus();
  }

  static LayerGroup::Choice& Measured(LayerGroup& group) {
    return group.choices[group.measured];
  }

  MatrixView<const float> InputsOf(const LayerGroup& group) const {
    return inputs_[static_cast<size_t>(group.inputs)].view();
  }

  void AddErrors(const PlannedTensor& tensor, const Matrix<float>& weights,
                 LayerGroup* group) {
    const int64_t rows = std::min(kSampledRows, weights.rows());
    const Matrix<float> sample = SampleRows(weights.view(), rows);
    for (LayerGroup::Choice& choice : group->choices) {
      Matrix<float> left = Copy(sample.view());
      change_(tensor, choice.scheme, InputsOf(*group), left.view());
      for (size_t i = 0; i < left.span().size(); ++i) {
        left.data()[i] -= sample.data()[i];
      }
      choice.error += SquaredError(InputsOf(*group), left.view(), pool_) *
                      static_cast<double>(weights.rows()) /
                      static_cast<double>(rows);
    }
  }

  absl::Status MeasureDivergences() {
    QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model_->LoadFinalNorm());
    const auto input =
        [&](int64_t part, int64_t row,
            int64_t rows) -> absl::StatusOr<MatrixView<const float>> {
      QEFF_ASSIGN_OR_RETURN(const auto x,
                            streams_->Read(part * x_.rows() + row, rows));
      const auto normed = scratch_.Get(HostScratch::kFinal, rows, x.cols());
      ApplyNorm(spec_, norm, x, normed, pool_);
      return MatrixView<const float>(normed);
    };
    QEFF_ASSIGN_OR_RETURN(
        const std::vector<double> sums,
        SumLogitDivergences(model_, x_.view(),
                            static_cast<int64_t>(groups_.size()), input,
                            options_.check, pool_));
    for (size_t i = 0; i < groups_.size(); ++i) {
      groups_[i].divergence += sums[i];
    }
    return absl::OkStatus();
  }

  absl::Status SetCosts() {
    for (LayerGroup& group : groups_) {
      group.divergence /= static_cast<double>(sample_.tokens);
      const double error = Measured(group).error;
      for (LayerGroup::Choice& choice : group.choices) {
        // Without an error there is no loss either.
        choice.cost = error > 0 ? group.divergence * (choice.error / error) : 0;
        if (std::isfinite(choice.cost)) continue;
        return NumericalError(group.modules[0]->module,
                              ": its weights or what they make are not finite");
      }
    }
    return absl::OkStatus();
  }

  std::shared_ptr<const Transformer> model_;
  const TransformerSpec& spec_;
  const LayerChange& change_;
  const TokenSample& sample_;
  const SensitivityOptions& options_;
  std::vector<LayerGroup>& groups_;
  ThreadPool& pool_;
  std::vector<int64_t> lengths_;
  RopeTable rope_;
  std::vector<float> alibi_;
  HostScratch scratch_;
  HostBlockContext context_;
  Matrix<float> x_;                            // of the original model
  std::array<Matrix<float>, kStages> inputs_;  // of the block at hand
  absl::optional<RowStore> streams_;  // hidden states of the parts so far
};

}  // namespace

TokenSample SensitivitySample(const Transformer& model,
                              const TokenSample& sample) {
  const uint64_t token_bytes =
      kStages * static_cast<uint64_t>(model.spec().num_layers) *
      static_cast<uint64_t>(model.spec().hidden_size) * sizeof(float);
  const int64_t wanted =
      std::min(kMostTokens,
               std::max(kLeastTokens,
                        static_cast<int64_t>(kSensitivityBytes / token_bytes)));
  TokenSample some;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    const int64_t left = wanted - some.tokens;
    const int64_t length = static_cast<int64_t>(sequence.size());
    if (length > left && some.tokens > 0) break;
    const int64_t taken = std::min(length, left);
    some.sequences.emplace_back(sequence.begin(), sequence.begin() + taken);
    some.tokens += taken;
  }
  return some;
}

absl::Status MeasureChanges(std::shared_ptr<const Transformer> model,
                            const LayerChange& change,
                            const TokenSample& sample,
                            const SensitivityOptions& options,
                            std::vector<LayerGroup>* groups, ThreadPool& pool) {
  QEFF_CHECK(model != nullptr && !sample.sequences.empty());
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    QEFF_RETURN_IF_ERROR(model->CheckTokens(sequence));
  }
  return GuardMemory([&] {
    return Measurement(std::move(model), change, sample, options, groups, pool)
        .Run();
  });
}

absl::Status MeasureSensitivities(std::shared_ptr<const Transformer> model,
                                  absl::Span<const QuantScheme> schemes,
                                  const TokenSample& sample,
                                  const SensitivityOptions& options,
                                  std::vector<LayerGroup>* groups,
                                  ThreadPool& pool) {
  const LayerChange round = [&](const PlannedTensor& tensor, size_t scheme,
                                MatrixView<const float> /*inputs*/,
                                MatrixView<float> weights) {
    RoundWeights(schemes[scheme], ScaleDType(schemes[scheme], tensor.dtype),
                 weights, pool);
  };
  return MeasureChanges(std::move(model), round, sample, options, groups, pool);
}

}  // namespace qeff
