// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/sequence_sampler.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/types/span.h"
#include "qeff/util/check.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {

SequenceSampler::SequenceSampler(std::shared_ptr<const TokenShard> shard,
                                 int64_t sequence_length, uint64_t seed,
                                 bool shuffle, absl::optional<int32_t> bos)
    : shard_(std::move(shard)),
      sequence_length_(sequence_length),
      // The last token is only a label.
      num_sequences_((shard_->tokens() - 1) / sequence_length),
      seed_(seed),
      shuffle_(shuffle),
      bos_(bos) {
  if (shuffle) order_.resize(static_cast<size_t>(num_sequences_));
}

absl::StatusOr<std::unique_ptr<SequenceSampler>> SequenceSampler::Create(
    std::shared_ptr<const TokenShard> shard, int64_t sequence_length,
    uint64_t seed, bool shuffle, absl::optional<int32_t> bos) {
  if (sequence_length < 1) {
    return InvalidInputError("sequence length: expected at least 1, found ",
                             sequence_length);
  }
  if (shard->tokens() <= sequence_length) {
    return InvalidInputError(shard->path(), ": a sequence of ", sequence_length,
                             " and the token behind it need ", sequence_length,
                             " + 1 tokens, found ", shard->tokens());
  }
  return std::unique_ptr<SequenceSampler>(new SequenceSampler(
      std::move(shard), sequence_length, seed, shuffle, bos));
}

int64_t SequenceSampler::Permuted(int64_t epoch, int64_t index) {
  if (!shuffle_) return index;
  if (epoch != epoch_) {
    // Fisher and Yates.
    std::iota(order_.begin(), order_.end(), int64_t{0});
    Random random(seed_, static_cast<uint64_t>(epoch));
    for (size_t left = order_.size(); left > 1; --left) {
      std::swap(order_[left - 1], order_[random.NextBelow(left)]);
    }
    epoch_ = epoch;
  }
  return order_[static_cast<size_t>(index)];
}

absl::Status SequenceSampler::Get(int64_t index, TokenBatch* batch) {
  QEFF_CHECK(index >= 0);
  const int64_t sequence =
      Permuted(index / num_sequences_, index % num_sequences_);
  batch->sequences.push_back(sequence);
  const int64_t begin = sequence * sequence_length_;
  const size_t length = static_cast<size_t>(sequence_length_);
  const size_t at = batch->ids.size();
  batch->ids.resize(at + length);
  batch->labels.resize(at + length);
  int32_t* const labels = batch->labels.data() + at;
  QEFF_RETURN_IF_ERROR(
      shard_->Read(begin, absl::MakeSpan(batch->ids).subspan(at)));
  QEFF_RETURN_IF_ERROR(
      shard_->Read(begin + 1, absl::MakeSpan(batch->labels).subspan(at)));
  batch->counted += sequence_length_;

  // Documents that begin behind the first token, up to the last label. What the
  // starts are when the file changed matters only to the sequence.
  const auto starts = shard_->starts();
  const uint64_t first = static_cast<uint64_t>(begin);
  if (bos_.has_value() &&
      !std::binary_search(starts.begin(), starts.end(), first)) {
    batch->ids[at] = *bos_;
  }
  int64_t segment = 0;
  for (const uint64_t* start =
           std::upper_bound(starts.begin(), starts.end(), first);
       start != starts.end(); ++start) {
    const uint64_t offset = *start - first;
    if (offset > length) break;
    const int64_t border = static_cast<int64_t>(offset);
    if (border <= segment) break;
    labels[border - 1] = TokenBatch::kNoLabel;
    batch->counted -= 1;
    if (border == sequence_length_) break;
    batch->lengths.push_back(border - segment);
    segment = border;
  }
  batch->lengths.push_back(sequence_length_ - segment);
  return absl::OkStatus();
}

}  // namespace qeff
