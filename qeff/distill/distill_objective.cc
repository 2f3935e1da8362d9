// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/distill_objective.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/distill/attention_loss.h"
#include "qeff/distill/hidden_loss.h"
#include "qeff/distill/logit_loss.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/util/check.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

class DistillObjective : public Objective, private ModelLoss {
 public:
  DistillObjective(const TransformerSpec& spec,
                   const TransformerSpec* teacher_spec,
                   const DistillOptions& options, Teacher* teacher,
                   ThreadPool* pool)
      : spec_(spec),
        teacher_spec_(teacher_spec),
        options_(options),
        teacher_(teacher),
        pool_(*pool),
        slopes_(AlibiSlopesAsFloat(spec)) {
    if (teacher_spec == nullptr) return;
    teacher_slopes_ = AlibiSlopesAsFloat(*teacher_spec);
    if (WantsHiddenStates() && teacher_spec->hidden_size != spec.hidden_size) {
      AddProjections();
    }
  }

  absl::Status Begin(const TokenBatch& batch, double scale) override {
    batch_ = &batch;
    scale_ = scale;
    status_ = absl::OkStatus();
    return options_.loss.teacher() ? teacher_->Run(batch) : absl::OkStatus();
  }

  ModelLoss& loss() override { return *this; }

  absl::Status End() override { return status_; }

  std::vector<LossTerm> TakeTerms() override {
    const LossSpec& loss = options_.loss;
    const double total =
        logits_.Weighted(loss.logits) + HiddenTotal() + AttentionTotal();
    std::vector<LossTerm> terms = {{"loss", total}};
    const auto add = [&](const char* name, double weight, double sum) {
      if (weight > 0) terms.push_back({name, sum});
    };
    add("kl", loss.logits.kl, logits_.kl);
    add("reverse_kl", loss.logits.reverse_kl, logits_.reverse_kl);
    add("js", loss.logits.js, logits_.js);
    add("ce", loss.logits.ce, logits_.ce);
    add("hidden", loss.hidden_cosine, hidden_.cosine / Pairs());
    add("hidden_mse", loss.hidden_mse, hidden_.mse / Pairs());
    add("attention", loss.attention, attention_ / Pairs());
    // One alone is the loss.
    if (terms.size() == 2 && terms[1].sum == total) terms.pop_back();
    logits_ = {};
    hidden_ = {};
    attention_ = 0;
    return terms;
  }

  std::vector<Parameter> parameters() override {
    return ParametersOf(projections_);
  }
  std::vector<Parameter> gradients() override {
    return ParametersOf(projection_gradients_);
  }

 private:
  bool WantsHiddenStates() const {
    return options_.loss.hidden_cosine > 0 || options_.loss.hidden_mse > 0;
  }
  // Losses in the middle are means over the pairs of layers.
  double Pairs() const {
    return static_cast<double>(std::max<size_t>(options_.layers.size(), 1));
  }
  double HiddenTotal() const {
    return hidden_.Weighted(
               {options_.loss.hidden_cosine, options_.loss.hidden_mse}) /
           Pairs();
  }
  double AttentionTotal() const {
    return options_.loss.attention * attention_ / Pairs();
  }

  void AddProjections() {
    const int64_t from = spec_.hidden_size, to = teacher_spec_->hidden_size;
    const float deviation =
        static_cast<float>(1 / std::sqrt(static_cast<double>(from)));
    for (size_t i = 0; i < options_.layers.size(); ++i) {
      projections_.emplace_back(to, from);
      projection_gradients_.emplace_back(to, from);
      const Random random(options_.seed, i);
      const absl::Span<float> values = projections_.back().span();
      for (size_t e = 0; e < values.size(); ++e) {
        values[e] = deviation * random.NormalAt(e);
      }
    }
  }

  std::vector<Parameter> ParametersOf(
      std::vector<Matrix<float>>& matrices) const {
    std::vector<Parameter> parameters;
    for (size_t i = 0; i < matrices.size(); ++i) {
      Parameter parameter;
      parameter.name = absl::StrCat("projection.", options_.layers[i].student);
      parameter.rows = matrices[i].rows();
      parameter.cols = matrices[i].cols();
      parameter.values = matrices[i].span();
      parameter.matrix = true;
      parameters.push_back(std::move(parameter));
    }
    return parameters;
  }

  // The pair of student layer `layer`, or -1.
  int64_t PairOf(int64_t layer) const {
    for (size_t i = 0; i < options_.layers.size(); ++i) {
      if (options_.layers[i].student == layer) return static_cast<int64_t>(i);
    }
    return -1;
  }

  void AtLogits(int64_t row, MatrixView<float> logits) override {
    if (!status_.ok()) return;
    const absl::Status status = AddLogits(row, logits);
    status_.Update(status);
  }

  absl::Status AddLogits(int64_t row, MatrixView<float> logits) {
    const int64_t rows = logits.rows();
    const auto labels =
        absl::MakeConstSpan(batch_->labels)
            .subspan(static_cast<size_t>(row), static_cast<size_t>(rows));
    const float scale = static_cast<float>(scale_);
    LogitLossOptions options = {options_.loss.logits, options_.temperature};
    if (batch_->generated) options.weights.ce = 0;
    MatrixView<const float> teacher;
    if (options_.loss.logits.teacher()) {
      const absl::optional<SparseTeacher> sparse = teacher_->Sparse(row, rows);
      if (sparse.has_value()) {
        QEFF_ASSIGN_OR_RETURN(const LogitLossTerms terms,
                              SparseLogitLoss(options, logits, *sparse, labels,
                                              scale, logits, pool_));
        logits_ += terms;
        return absl::OkStatus();
      }
      QEFF_ASSIGN_OR_RETURN(teacher, teacher_->Logits(row, rows));
    }
    // One of the embeddings may have more rows, of no token.
    int64_t vocab = logits.cols();
    if (teacher.rows() > 0) {
      vocab = std::min(vocab, teacher.cols());
      teacher = teacher.Cols(0, vocab);
    }
    const MatrixView<float> common = logits.Cols(0, vocab);
    logits_ +=
        LogitLoss(options, common, teacher, labels, scale, common, pool_);
    for (int64_t r = 0; r < rows && vocab < logits.cols(); ++r) {
      std::fill(logits.row(r) + vocab, logits.row(r) + logits.cols(), 0.0f);
    }
    return absl::OkStatus();
  }

  bool WantsHidden(int64_t layer) const override {
    return WantsHiddenStates() && PairOf(layer) >= 0;
  }

  void AtHidden(int64_t layer, MatrixView<const float> x,
                MatrixView<float> dx) override {
    const size_t pair = static_cast<size_t>(PairOf(layer));
    MatrixView<const float> projection;
    MatrixView<float> dprojection;
    if (!projections_.empty()) {
      projection = projections_[pair].view();
      dprojection = projection_gradients_[pair].view();
    }
    const HiddenLossTerms terms = hidden_loss_.Add(
        {options_.loss.hidden_cosine, options_.loss.hidden_mse}, x,
        teacher_->Hidden(options_.layers[pair].teacher), projection,
        batch_->labels, static_cast<float>(scale_ / Pairs()), dx, dprojection,
        pool_);
    hidden_.cosine += terms.cosine;
    hidden_.mse += terms.mse;
  }

  bool WantsHeads(int64_t layer) const override {
    return options_.loss.attention > 0 && PairOf(layer) >= 0;
  }

  void AtHeads(int64_t layer, MatrixView<const float> q,
               MatrixView<const float> k, MatrixView<float> dq,
               MatrixView<float> dk) override {
    const int64_t other =
        options_.layers[static_cast<size_t>(PairOf(layer))].teacher;
    attention_ += attention_loss_.Add(
        {AttentionOf(spec_, slopes_), q, k},
        {AttentionOf(*teacher_spec_, teacher_slopes_), teacher_->Queries(other),
         teacher_->Keys(other)},
        batch_->lengths, batch_->labels,
        static_cast<float>(scale_ * options_.loss.attention / Pairs()), dq, dk,
        pool_);
  }

  const TransformerSpec& spec_;
  const TransformerSpec* const teacher_spec_;
  const DistillOptions options_;
  Teacher* const teacher_;
  ThreadPool& pool_;
  const std::vector<float> slopes_;
  std::vector<float> teacher_slopes_;
  std::vector<Matrix<float>> projections_, projection_gradients_;

  // Of the batch at hand.
  const TokenBatch* batch_ = nullptr;
  double scale_ = 0;
  absl::Status status_;
  // Sums since TakeTerms.
  LogitLossTerms logits_;
  HiddenLossTerms hidden_;
  double attention_ = 0;
  HiddenLoss hidden_loss_;
  AttentionLoss attention_loss_;
};

}  // namespace

std::vector<LayerPair> EvenLayerPairs(int64_t student_layers,
                                      int64_t teacher_layers) {
  std::vector<LayerPair> pairs;
  for (int64_t i = 0; i < student_layers; ++i) {
    // The last ones go together.
    pairs.push_back({i, (i + 1) * teacher_layers / student_layers - 1});
    pairs.back().teacher = std::max<int64_t>(pairs.back().teacher, 0);
  }
  return pairs;
}

TeacherTaps TapsOf(const DistillOptions& options) {
  TeacherTaps taps;
  for (const LayerPair& pair : options.layers) {
    if (options.loss.hidden_cosine > 0 || options.loss.hidden_mse > 0) {
      taps.hidden.push_back(pair.teacher);
    }
    if (options.loss.attention > 0) taps.heads.push_back(pair.teacher);
  }
  return taps;
}

absl::StatusOr<std::unique_ptr<Objective>> MakeDistillObjective(
    const TransformerSpec& spec, const TransformerSpec* teacher_spec,
    const DistillOptions& options, Teacher* teacher, ThreadPool* pool) {
  QEFF_CHECK(!options.loss.teacher() ||
             (teacher != nullptr && teacher_spec != nullptr));
  if (!(options.temperature > 0) || !std::isfinite(options.temperature)) {
    return InvalidInputError(
        "--temperature: expected a positive number, found ",
        options.temperature);
  }
  if (!options.layers.empty() && teacher_spec == nullptr) {
    return InvalidInputError("--layers: no loss has a teacher's layers");
  }
  for (const LayerPair& pair : options.layers) {
    if (pair.student < 0 || pair.student >= spec.num_layers ||
        pair.teacher < 0 || pair.teacher >= teacher_spec->num_layers) {
      return InvalidInputError(
          "--layers: expected layers of the student below ", spec.num_layers,
          " and of the teacher below ", teacher_spec->num_layers, ", found ",
          pair.student, ":", pair.teacher);
    }
  }
  return std::unique_ptr<Objective>(std::make_unique<DistillObjective>(
      spec, teacher_spec, options, teacher, pool));
}

}  // namespace qeff
