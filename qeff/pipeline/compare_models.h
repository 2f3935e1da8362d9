// SPDX-License-Identifier: Apache-2.0
//
// What became of a model's weights, and of what its layers read: for the report
// of an optimization.

#ifndef QEFF_PIPELINE_COMPARE_MODELS_H_
#define QEFF_PIPELINE_COMPARE_MODELS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"

namespace qeff {

// An object with
//   layers                 [{name, role, block, relative_error}] of the blocks'
//                          linear layers that have the same shape in both:
//                          ||after - before|| / ||before||
//   weight_histograms      [{role, low, high, before, after}]: counts of about
//                          100,000 weights of a role in equal bins
//   activation_histograms  the same of what layers read, for one sequence
//                          `tokens`; left out when there are none
// Bins reach over all but one in a thousand of the values before; what is
// beyond is in the outermost. Reads all weights of both, one layer in memory,
// and runs both on the host. Errors: those of reading weights and of
// HostForward::Run.
absl::StatusOr<Json> CompareModels(
    const std::shared_ptr<const Transformer>& before,
    const std::shared_ptr<const Transformer>& after,
    absl::Span<const int32_t> tokens, ThreadPool* pool);

}  // namespace qeff

#endif  // QEFF_PIPELINE_COMPARE_MODELS_H_
