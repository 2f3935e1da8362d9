// SPDX-License-Identifier: Apache-2.0
//
// Where the text of training comes from.

#ifndef QEFF_TRAIN_BATCH_SOURCE_H_
#define QEFF_TRAIN_BATCH_SOURCE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "qeff/train/model_weights.h"
#include "qeff/train/shared_check.h"
#include "qeff/train/token_batch.h"

namespace qeff {

// An endless row of sequences. Not thread-safe.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // Called before the sequences of step `step` are asked for, with the weights
  // that it runs with: for text that the model itself writes. What takes long
  // gives up when `check` says so; of several processes all then return that.
  virtual absl::Status BeginStep(int64_t /*step*/,
                                 const ModelWeights& /*weights*/,
                                 SharedCheck* /*check*/) {
    return absl::OkStatus();
  }

  // Appends sequence `index` (>= 0) to `batch`. The same index gives the same
  // sequence, whatever was asked for before. Errors: those of reading text.
  virtual absl::Status Get(int64_t index, TokenBatch* batch) = 0;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_BATCH_SOURCE_H_
