// SPDX-License-Identifier: Apache-2.0
//
// What pruning did to each layer.

#ifndef QEFF_PRUNE_PRUNE_REPORT_H_
#define QEFF_PRUNE_PRUNE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/util/json.h"

namespace qeff {

struct PruneReport {
  std::string module;
  std::string pattern;
  double zeros = 0;    // share of the weights that are 0 now
  int64_t tokens = 0;  // that the layer has seen; 0 without calibration
  // The squared error of some outputs, a token, relative to that of no layer at
  // all: SparseGPT only, damping included. Of the method, and of removing the
  // same share of each row, or of each group, by magnitude.
  double loss = 0;
  double magnitude_loss = 0;
  double energy = 0;   // of the outputs, while losses are added up; not stored
  double damping = 0;  // that was added to the Hessian's diagonal
  int64_t dead_inputs = 0;  // inputs that were always 0
  std::string fallback;     // why the layer was pruned by magnitude; or empty

  Json ToJson() const;
  // Errors: kInvalidArgument for anything that ToJson does not give.
  static absl::StatusOr<PruneReport> FromJson(const Json& json);
};

// A table, one line a layer; empty without any.
std::string FormatPruneReport(const std::vector<PruneReport>& layers);

}  // namespace qeff

#endif  // QEFF_PRUNE_PRUNE_REPORT_H_
