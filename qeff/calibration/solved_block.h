// SPDX-License-Identifier: Apache-2.0
//
// A block all of whose layers are solved, for solvers that look at it as a
// whole (LayerSolver::TuneBlock).

#ifndef QEFF_CALIBRATION_SOLVED_BLOCK_H_
#define QEFF_CALIBRATION_SOLVED_BLOCK_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/calibration/row_store.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/transformer/block_backward.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Everything is borrowed.
struct SolvedBlock {
  int64_t index = 0;
  BlockContext context;
  const SampleChunks* chunks = nullptr;
  // Hidden states before the block in the changed model, and behind it in the
  // original one: what it is to give.
  RowStore* inputs = nullptr;
  RowStore* targets = nullptr;
  // As they are solved; what they are changed to is what the walk goes on with.
  BlockWeights* weights = nullptr;
  // To be called now and then; an error is to be returned. May be null.
  std::function<absl::Status()> check;
};

// Moves the weights of layer `role` to where `block` has them; those of kQkv
// are copied to q, k and v.
void PlaceLinear(const TransformerSpec& spec, LinearRole role,
                 LinearWeights weights, BlockWeights* block);

// Sets `outputs` to what the block gives for its inputs. Errors: those of the
// stores and of `check`.
absl::Status RunSolvedBlock(const SolvedBlock& block, RowStore* outputs);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_SOLVED_BLOCK_H_
