// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/solved_block.h"

#include <algorithm>
#include <utility>

#include "qeff/transformer/matrix_buffer.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Rows [begin, begin + count) and their bias.
LinearWeights RowsOf(const LinearWeights& weights, int64_t begin,
                     int64_t count) {
  LinearWeights rows;
  const int64_t cols = weights.weight.cols();
  rows.weight = Matrix<float>(count, cols);
  std::copy_n(weights.weight.row(begin), count * cols, rows.weight.data());
  if (!weights.bias.empty()) {
    rows.bias.assign(weights.bias.begin() + begin,
                     weights.bias.begin() + begin + count);
  }
  return rows;
}

}  // namespace

void PlaceLinear(const TransformerSpec& spec, LinearRole role,
                 LinearWeights weights, BlockWeights* block) {
  switch (role) {
    case LinearRole::kQ:
      block->q = std::move(weights);
      return;
    case LinearRole::kK:
      block->k = std::move(weights);
      return;
    case LinearRole::kV:
      block->v = std::move(weights);
      return;
    case LinearRole::kO:
      block->o = std::move(weights);
      return;
    case LinearRole::kGate:
      block->gate = std::move(weights);
      return;
    case LinearRole::kUp:
      block->up = std::move(weights);
      return;
    case LinearRole::kDown:
      block->down = std::move(weights);
      return;
    case LinearRole::kQkv:
      block->q = RowsOf(weights, 0, spec.q_size());
      block->k = RowsOf(weights, spec.q_size(), spec.kv_size());
      block->v =
          RowsOf(weights, spec.q_size() + spec.kv_size(), spec.kv_size());
      return;
    case LinearRole::kLmHead:
      QEFF_CHECK(false);
  }
}

absl::Status RunSolvedBlock(const SolvedBlock& block, RowStore* outputs) {
  DifferentiableBlock differentiable(block.context);
  BlockActivations kept;
  MatrixBuffer y;
  return block.chunks->ForSequences([&](const RowChunk& chunk) -> absl::Status {
    QEFF_ASSIGN_OR_RETURN(const auto x,
                          block.inputs->Read(chunk.row, chunk.rows));
    const auto rows = y.Get(chunk.rows, x.cols());
    differentiable.Forward(*block.weights, chunk.lengths, x, rows, kept);
    return outputs->Write(chunk.row, rows);
  });
}

}  // namespace qeff
