// SPDX-License-Identifier: Apache-2.0
//
// The text of a recipe. One that is accepted can be written and read again.

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/pipeline/recipe.h"

namespace qeff {

absl::Status ReadFuzzInput(absl::string_view bytes) {
  RecipeTexts texts;
  texts.calibration = texts.data = texts.text = true;
  return ParseRecipe(bytes, "r.textproto", texts).status();
}

}  // namespace qeff
