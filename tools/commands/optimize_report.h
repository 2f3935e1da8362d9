// SPDX-License-Identifier: Apache-2.0
//
// What `qeff optimize` says of a run: report.json.

#ifndef QEFF_TOOLS_COMMANDS_OPTIMIZE_REPORT_H_
#define QEFF_TOOLS_COMMANDS_OPTIMIZE_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/pipeline/run_recipe.h"
#include "qeff/util/json.h"

namespace qeff {

// What qeff/pipeline/report draws: steps with times, sizes and results; the
// models that were measured; layers, weights and (with a text) activations of
// the first and the last model compared; with a text and a model that was not
// quantized before, where it is sensitive; losses of distillations; `prompts`,
// or else the first words of the text, continued by both (with options.run);
// the recipe and the environment. Errors: those of `run`, of CompareModels, of
// LayerSensitivities (but for values that are not finite: these are left out)
// and of reading the files.
absl::StatusOr<Json> OptimizeReport(const RecipeInputs& inputs,
                                    const std::string& recipe,
                                    const RecipeResult& result,
                                    std::vector<std::string> prompts,
                                    const RecipeRunOptions& options,
                                    ThreadPool* pool);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_OPTIMIZE_REPORT_H_
