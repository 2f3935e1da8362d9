// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/loss_spec.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Names = std::vector<std::pair<absl::string_view, double*>>;

Names NamesOf(LossSpec& spec) {
  return {
      {"kl", &spec.logits.kl},         {"reverse_kl", &spec.logits.reverse_kl},
      {"js", &spec.logits.js},         {"ce", &spec.logits.ce},
      {"hidden", &spec.hidden_cosine}, {"hidden_mse", &spec.hidden_mse},
      {"attention", &spec.attention}};
}

absl::StatusOr<double> ParseWeight(absl::string_view name,
                                   absl::string_view text) {
  double weight;
  if (!absl::SimpleAtod(text, &weight) || !std::isfinite(weight) ||
      weight < 0) {
    return InvalidInputError("loss: weight of ", name, " is \"", text,
                             "\", expected a number from 0 on");
  }
  return weight;
}

}  // namespace

absl::StatusOr<LossSpec> ParseLossSpec(absl::string_view text) {
  LossSpec spec;
  const Names names = NamesOf(spec);
  std::set<absl::string_view> seen;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> sides =
        absl::StrSplit(part, absl::MaxSplits(':', 1));
    const absl::string_view name = absl::StripAsciiWhitespace(sides[0]);
    const auto found =
        std::find_if(names.begin(), names.end(),
                     [&](const auto& known) { return known.first == name; });
    if (found == names.end()) {
      return InvalidInputError(
          "loss: unknown term \"", name, "\", expected ",
          absl::StrJoin(names, ", ", [](std::string* out, const auto& known) {
            absl::StrAppend(out, known.first);
          }));
    }
    if (!seen.insert(name).second) {
      return InvalidInputError("loss: ", name, " is there twice");
    }
    QEFF_ASSIGN_OR_RETURN(
        *found->second, sides.size() == 2 ? ParseWeight(name, sides[1]) : 1.0);
  }
  if (std::all_of(names.begin(), names.end(),
                  [](const auto& known) { return *known.second == 0; })) {
    return InvalidInputError("loss: all weights of \"", text,
                             "\" are 0, expected one above");
  }
  return spec;
}

std::string LossSpecToString(const LossSpec& spec) {
  LossSpec copy = spec;
  std::string text;
  for (const auto& [name, weight] : NamesOf(copy)) {
    if (*weight == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ",", name, ":", *weight);
  }
  return text;
}

}  // namespace qeff
