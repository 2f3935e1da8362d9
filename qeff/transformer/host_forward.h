// SPDX-License-Identifier: Apache-2.0
//
// Runs a model over whole sequences in float32, block by block: for
// evaluation, calibration and hidden states. To continue a sequence token by
// token use the device engine (qeff/device).
//
//   auto pool = CreateThreadPool(2);
//   auto forward = HostForward::Create(model, pool->get(), {});
//   (*forward)->Run(sequences, /*observer=*/nullptr,
//                   [&](int64_t i, MatrixView<const float> hidden) {
//                     auto logits = (*forward)->Logits(hidden);
//                     ...
//                     return absl::OkStatus();
//                   });

#ifndef QEFF_TRANSFORMER_HOST_FORWARD_H_
#define QEFF_TRANSFORMER_HOST_FORWARD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "absl/types/optional.h"
#include "qeff/format/codebook.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/forward_observer.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct HostForwardOptions {
  // Packed weights that are kept between calls: first lm_head, then blocks
  // from the first on, as far as this goes. What does not fit is read, packed
  // and dropped again in every call.
  uint64_t weight_budget_bytes = uint64_t{1} << 30;

  // Hidden states held at a time. Sequences of one Run beyond this are run in
  // several groups, each of which reads the weights that are not kept again. A
  // single sequence may exceed it.
  uint64_t activation_budget_bytes = uint64_t{512} << 20;

  // Tokens whose intermediate values (queries, feed-forward, ...) exist at a
  // time; a longer sequence exceeds it in attention only.
  int64_t chunk_tokens = 1024;

  // Keys (rotated) and values are rounded as a cache of this type would keep
  // them (cache_rounding.h); nullopt: they are float32.
  absl::optional<Codebook> cache;
};

// Not thread-safe. Results are the same bits for any number of threads, any
// options and any grouping of sequences; across machines as packed_linear.h
// says. Errors of all functions: kResourceExhausted when memory is out.
class HostForward {
 public:
  // `pool` must outlive the result. Reads no weights yet.
  static absl::StatusOr<std::unique_ptr<HostForward>> Create(
      std::shared_ptr<const Transformer> model, ThreadPool* pool,
      HostForwardOptions options = {});

  virtual ~HostForward() = default;

  virtual const Transformer& model() const = 0;

  // Runs `sequences` (token ids, each from position 0) and calls
  // done(sequence, hidden) once for each, in order, with the hidden states
  // after the final norm [tokens, hidden_size], valid during that call.
  // `observer`, unless null, sees every linear layer of the blocks. Stops at
  // the first error that either returns and returns it. Errors:
  // kInvalidArgument for a sequence that is empty, has a token id outside the
  // vocabulary or is longer than learned positions reach (the message names
  // the sequence, index, id and bound), found before any work. `done` may call
  // Logits.
  virtual absl::Status Run(
      absl::Span<const std::vector<int32_t>> sequences,
      ForwardObserver* observer,
      absl::FunctionRef<absl::Status(int64_t sequence,
                                     MatrixView<const float> hidden)>
          done) = 0;

  // hidden lm_head^T: [rows, vocab_size] for `hidden` of [rows, hidden_size].
  // The result takes 4 * rows * vocab_size bytes: choose rows accordingly.
  virtual absl::StatusOr<Matrix<float>> Logits(
      MatrixView<const float> hidden) = 0;

  // Logits at every position of one sequence, [tokens, vocab_size].
  virtual absl::StatusOr<Matrix<float>> LogitsOf(
      absl::Span<const int32_t> tokens) = 0;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_HOST_FORWARD_H_
