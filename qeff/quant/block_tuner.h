// SPDX-License-Identifier: Apache-2.0
//
// AutoRound: codes, scales and norms of a quantized block, learned together so
// that the block gives for the inputs that it will have what the original block
// gave for its own. Begins with layers that were solved one by one (GPTQ), and
// is never worse than these.
//
// Source: tuned_layer.h.

#ifndef QEFF_QUANT_BLOCK_TUNER_H_
#define QEFF_QUANT_BLOCK_TUNER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/calibration/solved_block.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/tuned_layer.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/dtype.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Tokens of an iteration; at least one sequence, and whole ones.
inline constexpr int64_t kTunerTokens = 2048;

struct BlockTunerOptions {
  int iterations = 200;
  // Whether codes begin with what GPTQ made of them. Most are better left alone
  // then: at 2 bits some are worth changing, from 3 bits on scales and norms
  // gain more alone.
  bool solved = true;
};

// A layer of the block, and the matrices of it that this is, one below the
// other.
struct BlockTunerLayer {
  std::vector<LinearWeights BlockWeights::*> parts;
  TunedLayer* layer;
};

// Mean of the squared differences between what the block gives and what it is
// to give, over the sample.
struct BlockTunerResult {
  double loss_before = 0;
  double loss_after = 0;  // not greater
};

// Changes `layers`, and block.weights accordingly, in which they and two norms,
// whose weights are stored as `norm_dtype`, change. The loss of the whole
// sample is computed before, after every quarter of the iterations and at the
// end; what has the least is taken. The same bits for any number of threads.
// Cost: 6 multiplications and additions, counted as one, a weight and token of
// an iteration. Errors: those of the stores and of block.check. Throws
// std::bad_alloc.
absl::StatusOr<BlockTunerResult> TuneBlock(
    const SolvedBlock& block, const BlockTunerOptions& options,
    DType norm_dtype, const std::vector<BlockTunerLayer>& layers,
    ThreadPool& pool);

// Multiplications and additions, counted as two, for a block with
// `linear_elems` weights.
double TuneBlockFlops(const BlockTunerOptions& options, int64_t tokens,
                      int64_t linear_elems);

// Memory besides the layers, the weights and the stores, for sequences of at
// most `length` tokens.
uint64_t TuneBlockBytes(const TransformerSpec& spec, int64_t length);

}  // namespace qeff

#endif  // QEFF_QUANT_BLOCK_TUNER_H_
