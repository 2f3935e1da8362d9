// SPDX-License-Identifier: Apache-2.0
//
// Carrying out a recipe. Each step's output is kept in a work folder under the
// hash of all that it depends on, so that what was made once is found again:
// after a kill, and by other recipes that begin in the same way.
//
//   WORK/HASH/             one step
//     arguments.txt        what was run
//     model/ | text files  what it made
//     result.json          written last: the step is complete

#ifndef QEFF_PIPELINE_RUN_RECIPE_H_
#define QEFF_PIPELINE_RUN_RECIPE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/pipeline/recipe.h"
#include "qeff/util/json.h"
#include "qeff/util/partial_folder.h"

namespace qeff {

// What a recipe is run with. Paths; "" is none.
struct RecipeInputs {
  std::string model;
  std::string calibration;
  std::vector<std::string> data;
  std::string text;

  RecipeTexts texts() const {
    return {!calibration.empty(), !data.empty(), !text.empty()};
  }
};

// A step that is done, or (of a plan) to be done.
struct StepReport {
  std::string name;     // "quantize_2": the second step
  std::string command;  // "quantize"
  std::vector<std::string> flags;
  std::string hash;
  bool from_cache = false;
  double seconds = 0;
  int64_t peak_bytes = 0;  // resident; 0 where the system does not say
  std::string output;      // the model, file or folder that it made, or ""
  std::string metrics;     // of a distillation: the file of --metrics
  uint64_t bytes = 0;      // of the weights, file or folder
  int64_t parameters = 0;  // of a model
  Json result;             // what the command returned

  double bits_per_weight() const {
    return parameters == 0 ? 0
                           : static_cast<double>(bytes) * 8 /
                                 static_cast<double>(parameters);
  }
};

struct RecipeResult {
  std::string model;  // the folder of the last model
  std::vector<StepReport> steps;
};

struct RecipeRunOptions {
  std::string work;  // made if need be
  // What to do with a step that an earlier run has left unfinished.
  PartialWork unfinished = PartialWork::kRefuse;
  // Who makes it: results of another version are not found.
  std::string version;
  // Flags that every command gets and that change no result.
  std::vector<std::string> common_flags;
  // Runs a command line (without the program) and returns its JSON result.
  std::function<absl::StatusOr<Json>(const std::vector<std::string>&)> run;
  // Whether a command line is one that `run` takes: asked for every step
  // before the first is run. May be empty.
  std::function<absl::Status(const std::vector<std::string>&)> check;
  // Called before each step that is run, and after every one.
  std::function<void(const StepReport&)> on_begin, on_end;
};

// The steps with their hashes, and which of them are there already; nothing is
// run or written. Errors: those of reading the inputs, and those of `check`,
// which begin with the step's name and line.
absl::StatusOr<std::vector<StepReport>> PlanRecipe(
    absl::Span<const RecipeStep> steps, const RecipeInputs& inputs,
    const RecipeRunOptions& options);

// Runs what is not there yet. Errors: those of PlanRecipe and of `run`, which
// begin with the step's name; kAlreadyExists for an unfinished step and
// kRefuse. What is complete then stays. One process at a time may use a work
// folder (kUnavailable).
absl::StatusOr<RecipeResult> RunRecipe(absl::Span<const RecipeStep> steps,
                                       const RecipeInputs& inputs,
                                       const RecipeRunOptions& options);

// Makes the folder `output` of a result: model/, what was exported and compiled
// under the steps' names, and `texts`, files by name. Files are linked where
// they can be, otherwise copied. Errors: kAlreadyExists, kUnavailable; nothing
// is left then.
absl::Status CollectResult(const RecipeResult& result,
                           const std::map<std::string, std::string>& texts,
                           const std::string& output);

}  // namespace qeff

#endif  // QEFF_PIPELINE_RUN_RECIPE_H_
