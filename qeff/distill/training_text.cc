// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/training_text.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "qeff/train/agreement.h"
#include "qeff/train/sequence_sampler.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Tokens that held-out losses are computed on at a time.
constexpr int64_t kHeldOutBatchTokens = 2048;

// Of a process that reads what the first has.
constexpr char kShared[] =
    "the files of the first process, the folder of --output too, must be "
    "there for all";

absl::Status CheckTokens(const TokenShard& text, int64_t vocab_size) {
  if (text.vocab_size() <= vocab_size) return absl::OkStatus();
  return InvalidInputError(
      text.path(), ": expected tokens of a vocabulary of at most ", vocab_size,
      ", the rows of the model's embedding, found ", text.vocab_size());
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TokenShard>> OpenTrainingText(
    const std::vector<std::string>& files, const TrainingText& text,
    int64_t vocab_size, const std::string& path, GradientReducer* reducer,
    ThreadPool* pool) {
  std::string shard = path;
  absl::Status status;
  if (IsFirst(reducer)) {
    if (files.size() == 1 && IsTokenShard(files[0])) {
      shard = files[0];
    } else {
      status =
          TokenizeToShard(files, *text.tokenizer, text.tokenize, path, *pool);
    }
  }
  QEFF_RETURN_IF_ERROR(Agree(status, reducer));
  QEFF_RETURN_IF_ERROR(BroadcastText(0, &shard, reducer));
  auto opened = TokenShard::Open(shard);
  status = opened.ok() ? CheckTokens(**opened, vocab_size) : opened.status();
  if (!IsFirst(reducer)) status = Annotate(status, kShared);
  QEFF_RETURN_IF_ERROR(Agree(status, reducer));
  return opened;
}

absl::StatusOr<std::vector<TokenBatch>> HeldOutBatches(
    std::shared_ptr<const TokenShard> text, absl::optional<int32_t> bos,
    int64_t sequence_length, int64_t tokens) {
  std::vector<TokenBatch> batches;
  if (text == nullptr) return batches;
  QEFF_ASSIGN_OR_RETURN(
      const auto sampler,
      SequenceSampler::Create(std::move(text), sequence_length, /*seed=*/0,
                              /*shuffle=*/false, bos));
  const int64_t sequences = std::min(
      sampler->num_sequences(), std::max<int64_t>(tokens / sequence_length, 1));
  const int64_t at_a_time =
      std::max<int64_t>(kHeldOutBatchTokens / sequence_length, 1);
  for (int64_t i = 0; i < sequences; ++i) {
    if (i % at_a_time == 0) batches.emplace_back();
    QEFF_RETURN_IF_ERROR(sampler->Get(i, &batches.back()));
  }
  return batches;
}

}  // namespace qeff
