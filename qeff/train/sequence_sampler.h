// SPDX-License-Identifier: Apache-2.0
//
// Which pieces of a text each step of training sees.

#ifndef QEFF_TRAIN_SEQUENCE_SAMPLER_H_
#define QEFF_TRAIN_SEQUENCE_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/train/batch_source.h"
#include "qeff/train/token_batch.h"
#include "qeff/train/token_shard.h"

namespace qeff {

// Cuts the documents of a shard, one behind the other, into sequences of the
// same length, without padding. Sequence i has the tokens from number i *
// sequence_length on, and for labels those one further: in an epoch each token
// is a label once, but for the first of each document, which nothing predicts,
// and the last tokens, which do not fill a sequence. The parts of a sequence
// that belong to different documents are segments. With `bos` a sequence that
// begins inside of a document begins with this token instead of its first: a
// model sees nothing without it.
//
// The order is the same on every machine, for any order of calls, and so after
// a resume at any index. Not thread-safe.
class SequenceSampler : public BatchSource {
 public:
  // With `shuffle` each epoch is a permutation of its own, by `seed` and its
  // number; else each goes through the text. Memory: 8 bytes a sequence of an
  // epoch with `shuffle`. Errors: kInvalidArgument when sequence_length is
  // below 1 or the shard has no more tokens than that. Throws std::bad_alloc.
  static absl::StatusOr<std::unique_ptr<SequenceSampler>> Create(
      std::shared_ptr<const TokenShard> shard, int64_t sequence_length,
      uint64_t seed, bool shuffle, absl::optional<int32_t> bos = absl::nullopt);

  int64_t num_sequences() const { return num_sequences_; }  // of an epoch

  // Appends sequence `index`, counted through all epochs, to `batch`. Cost: of
  // copying it, and the first time in an epoch of permuting that. Errors:
  // kUnavailable when the file of the shard changed; `batch` is then of no use.
  // Precondition (checked): index >= 0.
  absl::Status Get(int64_t index, TokenBatch* batch) override;

 private:
  SequenceSampler(std::shared_ptr<const TokenShard> shard,
                  int64_t sequence_length, uint64_t seed, bool shuffle,
                  absl::optional<int32_t> bos);

  // Which sequence of the text is number `index` in `epoch`.
  int64_t Permuted(int64_t epoch, int64_t index);

  const std::shared_ptr<const TokenShard> shard_;
  const int64_t sequence_length_;
  const int64_t num_sequences_;
  const uint64_t seed_;
  const bool shuffle_;
  const absl::optional<int32_t> bos_;
  int64_t epoch_ = -1;  // of order_
  std::vector<int64_t> order_;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_SEQUENCE_SAMPLER_H_
