// SPDX-License-Identifier: Apache-2.0
//
// `qeff prune --method=structured`: its flags, and what it does with them.

#ifndef QEFF_TOOLS_COMMANDS_PRUNE_STRUCTURED_H_
#define QEFF_TOOLS_COMMANDS_PRUNE_STRUCTURED_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/prune/structured/choose_plan.h"
#include "qeff/util/json.h"
#include "tools/command.h"
#include "tools/commands/calibration_flags.h"
#include "tools/flags.h"

namespace qeff {

// Flags of this method alone. Not thread-safe.
class PruneStructuredFlags {
 public:
  void Declare(FlagTable* flags);

  // Usage errors for flags of this method that were given with another, and
  // flags of others, and values that no model has, with this one.
  absl::Status CheckMethod(const std::string& method,
                           const FlagTable& flags) const;

  // Precondition: CheckMethod. Errors: those
  // of PruneStructured; kCancelled after a signal.
  absl::StatusOr<Json> Run(const std::string& model,
                           const CalibrationFlags& calibration,
                           const std::string& output,
                           const CommandEnv& env) const;

 private:
  absl::Status CheckRequest(const FlagTable& flags) const;

  PrunedSizes sizes_;
  double parameters_ = 0;
  std::string importance_ = "activations";
  bool compensate_ = true;
};

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_PRUNE_STRUCTURED_H_
