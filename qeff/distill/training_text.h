// SPDX-License-Identifier: Apache-2.0
//
// The text of a training run, from files to token shards and held-out batches.

#ifndef QEFF_DISTILL_TRAINING_TEXT_H_
#define QEFF_DISTILL_TRAINING_TEXT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/train/token_batch.h"
#include "qeff/train/token_shard.h"
#include "qeff/train/tokenize_to_shard.h"

namespace qeff {

// What is learned from. Files of text, or one token shard (token_shard.h).
struct TrainingText {
  std::vector<std::string> data;
  std::vector<std::string> held_out;  // may be empty
  const PortableTokenizer* tokenizer = nullptr;
  TokenizeOptions tokenize;
};

// Opens `files` (`data` or `held_out` of `text`): the shard that they are, or
// one that is made at `path`, for an embedding of `vocab_size` rows. With a
// reducer all its processes call this; the first decides, and makes it, and
// all open the same file. Errors, in all of them: kInvalidArgument for more
// tokens than that; those of TokenizeToShard, TokenShard::Open and the reducer.
absl::StatusOr<std::shared_ptr<const TokenShard>> OpenTrainingText(
    const std::vector<std::string>& files, const TrainingText& text,
    int64_t vocab_size, const std::string& path, GradientReducer* reducer,
    ThreadPool* pool);

// The first sequences of `text`, in order, that have `tokens` together, but at
// least one: what losses are measured on. None where `text` is null. Errors:
// those of SequenceSampler.
absl::StatusOr<std::vector<TokenBatch>> HeldOutBatches(
    std::shared_ptr<const TokenShard> text, absl::optional<int32_t> bos,
    int64_t sequence_length, int64_t tokens);

}  // namespace qeff

#endif  // QEFF_DISTILL_TRAINING_TEXT_H_
