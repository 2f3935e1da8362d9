// SPDX-License-Identifier: Apache-2.0
//
// Taps of the host forward: what calibration sees of a running model.

#ifndef QEFF_TRANSFORMER_FORWARD_OBSERVER_H_
#define QEFF_TRANSFORMER_FORWARD_OBSERVER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_map.h"

namespace qeff {

// One product of a linear layer, as the checkpoint has it: a fused qkv matrix
// is one product. Rows are tokens. Borrowed, valid during the call.
struct LinearTap {
  const LinearModule& module;
  MatrixView<const float> input;   // [tokens, in_features]
  MatrixView<const float> output;  // [tokens, out_features], bias included
};

// Receives the taps. Calls come one at a time, blocks in order. Within a block
// each layer gets the rows of all sequences in order, in as many calls as the
// forward has chunks; calls of the attention's layers (those of the
// feed-forward) alternate chunk by chunk, in the order of BlockNames::linears.
// (A run whose hidden states exceed the activation budget starts over at block
// 0 for its next group of sequences.) LinearTap::module stays valid as long as
// the Transformer.
class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;

  // An error ends the run, which returns it.
  virtual absl::Status OnLinear(const LinearTap& tap) = 0;

  // Queries [tokens, q_size] and keys [tokens, kv_size] as attention takes
  // them: normed and rotated. Called after OnLinear of q, k and v, for the same
  // tokens.
  virtual absl::Status OnHeads(MatrixView<const float> /*q*/,
                               MatrixView<const float> /*k*/) {
    return absl::OkStatus();
  }

  // What block `block` gives [tokens, hidden_size], for the tokens of the whole
  // group: the residual stream, before any final norm.
  virtual absl::Status OnBlock(int64_t /*block*/,
                               MatrixView<const float> /*x*/) {
    return absl::OkStatus();
  }
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_FORWARD_OBSERVER_H_
