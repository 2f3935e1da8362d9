// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <functional>
#include <utility>

#include "qeff/distill/teacher.h"
#include "qeff/transformer/forward_observer.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

void CopyRowsTo(MatrixView<const float> from, int64_t row, Matrix<float>* to) {
  for (int64_t r = 0; r < from.rows(); ++r) {
    std::copy_n(from.row(r), from.cols(), to->row(row + r));
  }
}

// What is kept of a tapped layer.
struct Tapped {
  Matrix<float> values;
  int64_t rows = 0;  // that are there

  // Appends rows of one run; the first begin a matrix of `total`.
  void Append(MatrixView<const float> from, int64_t total) {
    if (rows == 0 && (values.rows() != total || values.cols() != from.cols())) {
      values = Matrix<float>(total, from.cols());
    }
    CopyRowsTo(from, rows, &values);
    rows += from.rows();
  }
};

class LiveTeacher : public Teacher, private ForwardObserver {
 public:
  LiveTeacher(std::unique_ptr<HostForward> forward, const TeacherTaps& taps,
              std::function<absl::Status()> check)
      : forward_(std::move(forward)), check_(std::move(check)) {
    for (const int64_t layer : taps.hidden) hidden_[layer];
    for (const int64_t layer : taps.heads) {
      queries_[layer];
      keys_[layer];
    }
  }

  absl::Status Run(const TokenBatch& batch) override {
    std::vector<std::vector<int32_t>> sequences;
    auto next = batch.ids.begin();
    for (const int64_t length : batch.lengths) {
      sequences.emplace_back(next, next + length);
      next += length;
    }
    tokens_ = static_cast<int64_t>(batch.ids.size());
    for (auto* taps : {&hidden_, &queries_, &keys_}) {
      for (auto& tap : *taps) tap.second.rows = 0;
    }
    final_.rows = 0;
    block_ = 0;
    const bool observes =
        !hidden_.empty() || !queries_.empty() || check_ != nullptr;
    return forward_->Run(sequences, observes ? this : nullptr,
                         [&](int64_t, MatrixView<const float> hidden) {
                           final_.Append(hidden, tokens_);
                           return absl::OkStatus();
                         });
  }

  absl::StatusOr<MatrixView<const float>> Logits(int64_t row,
                                                 int64_t rows) override {
    QEFF_ASSIGN_OR_RETURN(
        logits_, forward_->Logits(final_.values.view().Rows(row, rows)));
    return MatrixView<const float>(logits_.view());
  }

  MatrixView<const float> Hidden(int64_t layer) const override {
    return hidden_.at(layer).values.view();
  }
  MatrixView<const float> Queries(int64_t layer) const override {
    return queries_.at(layer).values.view();
  }
  MatrixView<const float> Keys(int64_t layer) const override {
    return keys_.at(layer).values.view();
  }

 private:
  absl::Status OnLinear(const LinearTap&) override {
    return check_ ? check_() : absl::OkStatus();
  }

  absl::Status OnHeads(MatrixView<const float> q,
                       MatrixView<const float> k) override {
    const auto it = queries_.find(block_);
    if (it == queries_.end()) return absl::OkStatus();
    it->second.Append(q, tokens_);
    keys_.at(block_).Append(k, tokens_);
    return absl::OkStatus();
  }

  absl::Status OnBlock(int64_t block, MatrixView<const float> x) override {
    const auto it = hidden_.find(block);
    if (it != hidden_.end()) it->second.Append(x, tokens_);
    // Of several groups of sequences each begins anew.
    block_ = block + 1 == forward_->model().spec().num_layers ? 0 : block + 1;
    return absl::OkStatus();
  }

  std::unique_ptr<HostForward> forward_;
  const std::function<absl::Status()> check_;
  int64_t tokens_ = 0;  // of the batch
  int64_t block_ = 0;   // that runs
  Tapped final_;        // after the final norm
  Matrix<float> logits_;
  HashMap<int64_t, Tapped> hidden_, queries_, keys_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Teacher>> MakeLiveTeacher(
    std::shared_ptr<const Transformer> model, const TeacherTaps& taps,
    uint64_t weight_bytes, ThreadPool* pool,
    std::function<absl::Status()> check) {
  HostForwardOptions options;
  options.weight_budget_bytes = weight_bytes;
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<HostForward> forward,
                        HostForward::Create(std::move(model), pool, options));
  return std::unique_ptr<Teacher>(std::make_unique<LiveTeacher>(
      std::move(forward), taps, std::move(check)));
}

}  // namespace qeff
