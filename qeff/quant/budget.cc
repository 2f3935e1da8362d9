// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/budget.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "qeff/quant/bit_allocation.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

struct Unit {
  const char* name;
  double size;
};

// "B" is the end of the others: it comes last.
constexpr Unit kUnits[] = {{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}};

// The most that is taken for a size.
constexpr double kMostBytes = 0x1p48;

// What `plan` writes besides the codes and scales of the blocks' layers, and
// how many weights these have.
struct Rest {
  uint64_t bytes = 0;
  double weights = 0;
};

Rest RestOf(const QuantizePlan& plan) {
  Rest rest;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (!tensor.quantized() || tensor.block < 0) {
      rest.bytes += tensor.bytes_after;
      continue;
    }
    rest.bytes += 2 * sizeof(int64_t);  // weight_shape
    rest.weights +=
        static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
  }
  return rest;
}

// "model.layers.3.self_attn q_proj k_proj v_proj".
std::string NameOf(const LayerGroup& group) {
  std::string name;
  for (const LinearModule* module : group.modules) {
    const size_t dot = module->module.rfind('.');
    if (name.empty()) {
      name = module->module;
      if (dot != std::string::npos) name[dot] = ' ';
    } else {
      absl::StrAppend(&name, " ",
                      dot == std::string::npos
                          ? module->module
                          : module->module.substr(dot + 1));
    }
  }
  return name;
}

double BitsOf(const LayerGroup& group, const LayerGroup::Choice& choice) {
  return 8 * static_cast<double>(choice.bytes) /
         static_cast<double>(group.Weights());
}

}  // namespace

absl::StatusOr<Budget> ParseBudget(absl::string_view text) {
  Budget budget;
  double number = 0;
  absl::string_view rest = text;
  if (absl::ConsumeSuffix(&rest, "bpw")) {
    if (absl::SimpleAtod(rest, &number) && number > 0 && number <= 32) {
      budget.bits_per_weight = number;
      return budget;
    }
  } else {
    for (const Unit& unit : kUnits) {
      if (!absl::ConsumeSuffix(&rest, unit.name)) continue;
      if (!absl::SimpleAtod(rest, &number)) break;
      number *= unit.size;
      if (!(number >= 1 && number <= kMostBytes)) break;
      budget.bytes = static_cast<uint64_t>(number);
      return budget;
    }
  }
  return InvalidInputError(
      "expected bits a weight such as 4.25bpw, or bytes such as 600MB; found "
      "\"",
      absl::CHexEscape(text), "\"");
}

absl::StatusOr<double> BudgetBitsPerWeight(const Budget& budget,
                                           const QuantizePlan& plan) {
  if (budget.bytes == 0) return budget.bits_per_weight;
  const Rest rest = RestOf(plan);
  if (budget.bytes <= rest.bytes) {
    return InvalidInputError(
        "budget: expected more than the ", rest.bytes,
        " bytes of what is not in the blocks' layers, found ", budget.bytes);
  }
  return 8 * static_cast<double>(budget.bytes - rest.bytes) / rest.weights;
}

absl::StatusOr<SchemeAllocation> AllocateSchemes(
    const Budget& budget, const QuantizePlan& plan,
    absl::Span<const QuantScheme> schemes,
    absl::Span<const LayerGroup> groups) {
  QEFF_ASSIGN_OR_RETURN(const double bits, BudgetBitsPerWeight(budget, plan));
  SchemeAllocation result;
  result.budget_bytes =
      static_cast<uint64_t>(std::floor(bits * RestOf(plan).weights / 8));
  std::vector<AllocationItem> items;
  for (const LayerGroup& group : groups) {
    AllocationItem item;
    item.name = NameOf(group);
    for (const LayerGroup::Choice& choice : group.choices) {
      item.choices.push_back({choice.bytes, choice.cost});
    }
    items.push_back(std::move(item));
  }
  QEFF_ASSIGN_OR_RETURN(Allocation best,
                        AllocateBits(items, result.budget_bytes));
  for (size_t g = 0; g < groups.size(); ++g) {
    const size_t scheme = groups[g].choices[best.choices[g]].scheme;
    for (const LinearModule* module : groups[g].modules) {
      result.modules.emplace(module->module, schemes[scheme]);
    }
  }
  result.choices = std::move(best.choices);
  result.bytes = best.bytes;
  result.cost = best.cost;
  return result;
}

std::string FormatAllocation(const SchemeAllocation& allocation,
                             absl::Span<const QuantScheme> schemes,
                             absl::Span<const LayerGroup> groups) {
  size_t width = 6;
  for (const LayerGroup& group : groups) {
    width = std::max(width, NameOf(group).size());
  }
  std::string text =
      absl::StrFormat("%-*s  %-10s  %10s  %-10s  %6s  %10s\n", width, "layers",
                      "measured", "KL", "chosen", "bits/w", "cost");
  for (size_t g = 0; g < groups.size(); ++g) {
    const LayerGroup& group = groups[g];
    const LayerGroup::Choice& choice = group.choices[allocation.choices[g]];
    absl::StrAppendFormat(
        &text, "%-*s  %-10s  %10.3g  %-10s  %6.3f  %10.3g\n", width,
        NameOf(group),
        QuantSchemeName(schemes[group.choices[group.measured].scheme]),
        group.divergence, QuantSchemeName(schemes[choice.scheme]),
        BitsOf(group, choice), choice.cost);
  }
  absl::StrAppendFormat(
      &text,
      "budget: %d of %d bytes; KL divergence of the parts, rounded: %.4g\n",
      allocation.bytes, allocation.budget_bytes, allocation.cost);
  return text;
}

}  // namespace qeff
