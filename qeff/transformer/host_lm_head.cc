// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/host_lm_head.h"

#include <algorithm>
#include <utility>

#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
uint64_t HostLmHead::PackedBytes(const TransformerSpec& spec) {
  return PackedLinear::PackedBytes(spec.vocab_size, spec.hidden_size);
}

absl::StatusOr<PackedLinear> HostLmHead::Pack(int64_t begin, int64_t count,
                                              ThreadPool& pool) const {
  QEFF_ASSIGN_OR_RETURN(
      const LinearWeights weights,
      model_->LoadLinearRows(-1, LinearRole::kLmHead, begin, count));
  return PackedLinear::Create(weights.weight.view(), weights.bias, pool,
                              model_->spec().vocab_size);
}

absl::Status HostLmHead::Run(MatrixView<const float> hidden,
                             MatrixView<float> logits, ThreadPool& pool) {
  const TransformerSpec& spec = model_->spec();
  QEFF_CHECK(logits.rows() == hidden.rows() &&
             logits.cols() == spec.vocab_size);
  const int64_t step =
      std::max<int64_t>(16, slice_elems_ / spec.hidden_size / 16 * 16);
  bool packed_any = false;
  for (int64_t begin = 0, i = 0; begin < spec.vocab_size; begin += step, ++i) {
    const int64_t count = std::min(step, spec.vocab_size - begin);
    const auto columns = logits.Cols(begin, count);
    const bool kept = i < static_cast<int64_t>(slices_.size());
    if (!kept) packed_any = true;
    if (!keep_) {
      QEFF_ASSIGN_OR_RETURN(PackedLinear slice, Pack(begin, count, pool));
      QEFF_RETURN_IF_ERROR(slice.Run(hidden, columns, pool));
      continue;
    }
    if (!kept) {
      QEFF_ASSIGN_OR_RETURN(PackedLinear slice, Pack(begin, count, pool));
      slices_.push_back(std::move(slice));
    }
    QEFF_RETURN_IF_ERROR(
        slices_[static_cast<size_t>(i)].Run(hidden, columns, pool));
  }
  if (packed_any) model_->ReleaseBlock(-1);
  return absl::OkStatus();
}

}  // namespace qeff
