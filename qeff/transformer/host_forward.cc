// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/host_forward.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/host_lm_head.h"
#include "qeff/transformer/host_scratch.h"
#include "qeff/transformer/rope.h"
#include "qeff/util/check.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Sequences = absl::Span<const std::vector<int32_t>>;
using Done = absl::FunctionRef<absl::Status(int64_t, MatrixView<const float>)>;

class HostForwardImpl : public HostForward {
 public:
  HostForwardImpl(std::shared_ptr<const Transformer> model, ThreadPool* pool,
                  const HostForwardOptions& options, NormWeights final_norm)
      : model_(std::move(model)),
        pool_(pool),
        options_(options),
        final_norm_(std::move(final_norm)),
        lm_head_(model_, HostLmHead::PackedBytes(model_->spec()) <=
                             options.weight_budget_bytes) {
    const TransformerSpec& spec = model_->spec();
    const uint64_t head = HostLmHead::PackedBytes(spec);
    uint64_t left = options.weight_budget_bytes;
    if (head <= left) left -= head;
    blocks_.resize(static_cast<size_t>(
        std::min<uint64_t>(static_cast<uint64_t>(spec.num_layers),
                           left / HostBlock::PackedBytes(spec))));
    alibi_ = AlibiSlopesAsFloat(spec);
  }

  const Transformer& model() const override { return *model_; }

  absl::Status Run(Sequences sequences, ForwardObserver* observer,
                   Done done) override {
    for (size_t i = 0; i < sequences.size(); ++i) {
      QEFF_RETURN_IF_ERROR(model_->CheckTokens(sequences[i]),
                           absl::StrCat("sequence ", i));
    }
    return GuardMemory([&] { return RunGroups(sequences, observer, done); });
  }

  absl::StatusOr<Matrix<float>> Logits(
      MatrixView<const float> hidden) override {
    const TransformerSpec& spec = model_->spec();
    QEFF_CHECK(hidden.cols() == spec.hidden_size);
    return GuardMemory([&]() -> absl::StatusOr<Matrix<float>> {
      // A contiguous copy behind which PackedLinear may read.
      const auto input = scratch_.Get(HostScratch::kLogitsInput, hidden.rows(),
                                      spec.hidden_size);
      for (int64_t r = 0; r < hidden.rows(); ++r) {
        std::memcpy(input.row(r), hidden.row(r),
                    static_cast<size_t>(spec.hidden_size) * sizeof(float));
      }
      Matrix<float> logits(hidden.rows(), spec.vocab_size);
      QEFF_RETURN_IF_ERROR(lm_head_.Run(input, logits.view(), *pool_));
      return logits;
    });
  }

  absl::StatusOr<Matrix<float>> LogitsOf(
      absl::Span<const int32_t> tokens) override {
    const std::vector<int32_t> sequence(tokens.begin(), tokens.end());
    absl::StatusOr<Matrix<float>> logits = Matrix<float>();
    QEFF_RETURN_IF_ERROR(Run(absl::MakeSpan(&sequence, 1), nullptr,
                             [&](int64_t, MatrixView<const float> hidden) {
                               logits = Logits(hidden);
                               return logits.status();
                             }));
    return logits;
  }

 private:
  // Runs groups of sequences whose hidden states fit the budget, each of at
  // least one sequence.
  absl::Status RunGroups(Sequences sequences, ForwardObserver* observer,
                         Done done) {
    const uint64_t bytes_per_token =
        static_cast<uint64_t>(model_->spec().hidden_size) * sizeof(float);
    const uint64_t max_tokens =
        options_.activation_budget_bytes / bytes_per_token;
    for (size_t first = 0; first < sequences.size();) {
      size_t last = first;
      uint64_t tokens = 0;
      do {
        tokens += sequences[last++].size();
      } while (last < sequences.size() &&
               tokens + sequences[last].size() <= max_tokens);
      QEFF_RETURN_IF_ERROR(RunGroup(
          sequences.subspan(first, last - first), static_cast<int64_t>(first),
          static_cast<int64_t>(tokens), observer, done));
      first = last;
    }
    return absl::OkStatus();
  }

  absl::Status RunGroup(Sequences group, int64_t first, int64_t tokens,
                        ForwardObserver* observer, Done done) {
    const TransformerSpec& spec = model_->spec();
    Matrix<float> x(tokens, spec.hidden_size);
    std::vector<int64_t> lengths;
    int64_t row = 0;
    for (const std::vector<int32_t>& ids : group) {
      lengths.push_back(static_cast<int64_t>(ids.size()));
      QEFF_RETURN_IF_ERROR(
          model_->Embed(ids, x.view().Rows(row, lengths.back())));
      row += lengths.back();
    }
    const HostBlockContext context = MakeContext(lengths, observer);
    for (int64_t block = 0; block < spec.num_layers; ++block) {
      QEFF_RETURN_IF_ERROR(RunBlock(block, context, lengths, x.view()),
                           absl::StrCat("block ", block));
      if (observer != nullptr) {
        QEFF_RETURN_IF_ERROR(observer->OnBlock(block, x.view()));
      }
    }
    row = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto hidden =
          scratch_.Get(HostScratch::kFinal, lengths[i], spec.hidden_size);
      ApplyNorm(spec, final_norm_, x.view().Rows(row, lengths[i]), hidden,
                *pool_);
      QEFF_RETURN_IF_ERROR(done(first + static_cast<int64_t>(i), hidden));
      row += lengths[i];
    }
    return absl::OkStatus();
  }

  HostBlockContext MakeContext(absl::Span<const int64_t> lengths,
                               ForwardObserver* observer) {
    const TransformerSpec& spec = model_->spec();
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
    if (spec.position == PositionKind::kRope && rope_.positions() < longest) {
      rope_ = RopeTable(spec, longest);
    }
    HostBlockContext context;
    context.spec = &spec;
    context.pool = pool_;
    context.scratch = &scratch_;
    context.observer = observer;
    context.rope = &rope_;
    context.alibi = alibi_;
    context.chunk_tokens = options_.chunk_tokens;
    context.cache = options_.cache;
    return context;
  }

  absl::Status RunBlock(int64_t block, const HostBlockContext& context,
                        absl::Span<const int64_t> lengths,
                        MatrixView<float> x) {
    if (block >= static_cast<int64_t>(blocks_.size())) {
      QEFF_ASSIGN_OR_RETURN(HostBlock streamed,
                            HostBlock::Load(*model_, block, *pool_));
      return streamed.Run(context, lengths, x);
    }
    absl::optional<HostBlock>& kept = blocks_[static_cast<size_t>(block)];
    if (!kept.has_value()) {
      QEFF_ASSIGN_OR_RETURN(kept, HostBlock::Load(*model_, block, *pool_));
    }
    return kept->Run(context, lengths, x);
  }

  std::shared_ptr<const Transformer> model_;
  ThreadPool* pool_;
  HostForwardOptions options_;
  NormWeights final_norm_;
  HostLmHead lm_head_;
  // The first blocks, as many as the weight budget allows; filled on use.
  std::vector<absl::optional<HostBlock>> blocks_;
  std::vector<float> alibi_;
  RopeTable rope_;  // for the longest sequence so far
  HostScratch scratch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HostForward>> HostForward::Create(
    std::shared_ptr<const Transformer> model, ThreadPool* pool,
    HostForwardOptions options) {
  QEFF_CHECK(model != nullptr && pool != nullptr);
  if (options.chunk_tokens < 1) {
    return InvalidInputError("chunk_tokens: expected 1 or more, found ",
                             options.chunk_tokens);
  }
  using Result = absl::StatusOr<std::unique_ptr<HostForward>>;
  return GuardMemory([&]() -> Result {
    QEFF_ASSIGN_OR_RETURN(NormWeights norm, model->LoadFinalNorm());
    return std::make_unique<HostForwardImpl>(std::move(model), pool, options,
                                             std::move(norm));
  });
}

}  // namespace qeff
