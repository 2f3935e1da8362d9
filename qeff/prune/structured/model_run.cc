// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/model_run.h"

#include <algorithm>

#include "qeff/util/status.h"

namespace qeff {

ModelRun::ModelRun(const TransformerSpec& spec, const TokenSample& sample,
                   HostScratch* scratch, ThreadPool* pool) {
  size_t longest = 0;
  for (const auto& sequence : sample.sequences) {
    longest = std::max(longest, sequence.size());
  }
  if (spec.position == PositionKind::kRope) {
    rope_ = RopeTable(spec, static_cast<int64_t>(longest));
  } else if (spec.position == PositionKind::kAlibi) {
    const std::vector<double> slopes = AlibiSlopes(spec);
    alibi_.assign(slopes.begin(), slopes.end());
  }
  context_.spec = &spec;
  context_.pool = pool;
  context_.scratch = scratch;
  context_.rope = &rope_;
  context_.alibi = alibi_;
}

absl::StatusOr<Matrix<float>> EmbedRows(const Transformer& model,
                                        const TokenSample& sample) {
  Matrix<float> x(sample.tokens, model.spec().hidden_size);
  int64_t row = 0;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    const int64_t length = static_cast<int64_t>(sequence.size());
    QEFF_RETURN_IF_ERROR(model.Embed(sequence, x.view().Rows(row, length)));
    row += length;
  }
  QEFF_ASSIGN_OR_RETURN(const TensorView table,
                        model.checkpoint().Get(model.map().token_embedding));
  model.checkpoint().Release(table);
  return x;
}

Matrix<float> CopyOf(MatrixView<const float> from) {
  Matrix<float> to(from.rows(), from.cols());
  for (int64_t r = 0; r < from.rows(); ++r) {
    std::copy_n(from.row(r), from.cols(), to.row(r));
  }
  return to;
}

}  // namespace qeff
