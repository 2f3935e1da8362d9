// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/sparse_choices.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qeff {
namespace {

constexpr const char* kSchemes[] = {"int4_g128", "int8"};
// What compile takes for pruned, and half the weights and more (in
// qeff/prune/README.md 0.7 of int4 loses twice what int2 does).
constexpr double kLeast = 0.25;
constexpr double kMost = 0.7;
// Shares are handed out in steps, never above what was asked for: of
// tinystories6m 0.477 instead of 0.48.
constexpr double kMargin = 0.01;

}  // namespace

std::string SparseChoice::name() const {
  return absl::StrCat(
      pattern.empty() ? absl::StrFormat("%.2f", share) : pattern, " of ",
      scheme);
}

std::vector<SparseChoice> SparseChoicesWithin(double bits,
                                              const SchemeSizes& sizes) {
  std::vector<SparseChoice> choices;
  for (const char* scheme : kSchemes) {
    const SchemeSize* const size = sizes.Find(scheme);
    if (size == nullptr || size->bits_per_weight <= bits) continue;
    const double needed = (size->SparseBits(0) - bits) / size->bits + kMargin;
    SparseChoice choice;
    choice.scheme = scheme;
    choice.share = std::max(kLeast, std::ceil(100 * needed) / 100);
    if (choice.share <= kMost) choices.push_back(choice);
    if (size->bits == 4 && size->TwoOfFourBits() <= bits) {
      choices.push_back({scheme, "2:4"});
    }
  }
  return choices;
}

}  // namespace qeff
