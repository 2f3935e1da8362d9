// SPDX-License-Identifier: Apache-2.0
//
// What `qeff optimize` says of a run: report.json.

#ifndef QEFF_TOOLS_COMMANDS_OPTIMIZE_REPORT_H_
#define QEFF_TOOLS_COMMANDS_OPTIMIZE_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/pipeline/run_recipe.h"
#include "qeff/util/json.h"

namespace qeff {

// Steps with times, sizes and results; the models that were measured; layers
// with what they lost; `prompts` continued by the first and the last model
// (with options.run); the recipe and the environment. Errors: those of `run`.
absl::StatusOr<Json> OptimizeReport(const RecipeInputs& inputs,
                                    const std::string& recipe,
                                    const RecipeResult& result,
                                    const std::vector<std::string>& prompts,
                                    const RecipeRunOptions& options);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_OPTIMIZE_REPORT_H_
