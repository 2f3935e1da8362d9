// SPDX-License-Identifier: Apache-2.0
//
// Adding up gradients over several processes that train the same model on
// different text.

#ifndef QEFF_TRAIN_GRADIENT_REDUCER_H_
#define QEFF_TRAIN_GRADIENT_REDUCER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace qeff {

// All ranks make the same calls in the same order. After an error of any of
// them the run is over. Not thread-safe.
class GradientReducer {
 public:
  virtual ~GradientReducer() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Begins to replace `values` by their sums over all ranks, and may return
  // before that is done: nobody touches them until Wait. Every rank gets the
  // same bits.
  virtual absl::Status Begin(absl::Span<float> values) = 0;

  // Until all that was begun is done.
  virtual absl::Status Wait() = 0;

  // Replaces `values` by their sums. Every rank gets the same bits.
  virtual absl::Status Sum(absl::Span<double> values) = 0;

  // Replaces `bytes` by those of rank `root`. As many on every rank.
  virtual absl::Status Broadcast(int root, absl::Span<uint8_t> bytes) = 0;

  // What follows may also be called between Begin and Wait, and is in no order
  // with the sums.

  // Replaces `values` by the largest of all ranks.
  virtual absl::Status Max(absl::Span<int64_t> values) = 0;

  // Tells all other ranks that this one is to stop. Waits for none of them. Not
  // one of the calls that all ranks make: see shared_check.h.
  virtual void TellStop() = 0;

  // Whether another rank has told so. Costs next to nothing, and is asked as
  // often as each rank likes.
  virtual bool ToldStop() = 0;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_GRADIENT_REDUCER_H_
