// SPDX-License-Identifier: Apache-2.0
//
// Recipes (recipe.proto) as text, and as what the steps' commands take.

#ifndef QEFF_PIPELINE_RECIPE_H_
#define QEFF_PIPELINE_RECIPE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/pipeline/recipe.pb.h"

namespace qeff {

enum class StepKind : uint8_t {
  kPrune,
  kDistill,
  kQuantize,
  kEvaluate,
  kExport,
  kCompile,
};

// One step, ready to be run.
struct RecipeStep {
  StepKind kind;
  std::string command;  // "prune", ..., "eval"
  // --name=value for each field that is set, in the order of the fields;
  // models, texts and outputs are the runner's.
  std::vector<std::string> flags;
  int line = 0;  // where the step begins, from 1; 0: not from a text

  // Whether it makes a new model of the one before.
  bool changes_model() const {
    return kind == StepKind::kPrune || kind == StepKind::kDistill ||
           kind == StepKind::kQuantize;
  }
  // Whether its command takes the calibration text, and then needs it.
  bool TakesCalibration() const;
  // The value of a flag, or "".
  std::string Flag(absl::string_view name) const;
};

// What whoever runs a recipe has, besides a model.
struct RecipeTexts {
  bool calibration = false;
  bool data = false;
  bool text = false;
};

// Parses a recipe and checks all that can be known before a step has run: that
// steps exist and their fields have values that their types allow; that
// schemes are known; that the order is possible (nothing is pruned or taught in
// floats after it was quantized, nothing is quantized twice); that each step
// has the text it needs; that an export's format can hold the scheme. `path`
// begins every error, which goes on with the line: kInvalidArgument.
absl::StatusOr<std::vector<RecipeStep>> ParseRecipe(absl::string_view text,
                                                    const std::string& path,
                                                    const RecipeTexts& texts);

// The steps of a recipe that was made in memory, unchecked.
std::vector<RecipeStep> StepsOf(const pipeline::Recipe& recipe);

// A recipe as text that ParseRecipe reads.
std::string RecipeText(const pipeline::Recipe& recipe);

}  // namespace qeff

#endif  // QEFF_PIPELINE_RECIPE_H_
