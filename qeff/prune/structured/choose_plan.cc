// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/choose_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// What a search may take at most, as the authors of Minitron do.
constexpr double kLeastWidth = 0.6;
constexpr double kLeastDepth = 0.8;

// The `count` most important, rising.
std::vector<int64_t> Best(absl::Span<const double> importance, int64_t count) {
  QEFF_CHECK(count >= 1 && count <= static_cast<int64_t>(importance.size()));
  std::vector<int64_t> order(importance.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return importance[static_cast<size_t>(a)] >
           importance[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

absl::Status CheckSize(absl::string_view flag, int64_t size, int64_t most) {
  if (size >= 0 && size <= most) return absl::OkStatus();
  return InvalidInputError("--", flag, "=", size, ": expected 1 to ", most,
                           ", what the model has");
}

// A multiple of this keeps whatever alignment `size` has, up to 64.
int64_t Step(int64_t size) {
  int64_t step = 1;
  while (step < 64 && size % (2 * step) == 0) step *= 2;
  return step;
}

// About `share` of `size`.
int64_t Part(int64_t size, double share, int64_t step) {
  const double steps = static_cast<double>(size / step) * share;
  return std::max<int64_t>(std::llround(steps), 1) * step;
}

// Distinct sizes of an axis, from the whole down.
std::vector<int64_t> Grid(int64_t size, int64_t step, double least) {
  std::vector<int64_t> sizes;
  for (double share = 1.0; share > least - 1e-9; share -= 0.1) {
    const int64_t part = Part(size, share, step);
    if (static_cast<double>(part) < least * static_cast<double>(size) - 1e-9) {
      continue;
    }
    if (sizes.empty() || sizes.back() != part) sizes.push_back(part);
  }
  return sizes;
}

TransformerSpec WithSizes(TransformerSpec spec, const PrunedSizes& sizes) {
  const int64_t group = spec.num_heads / spec.num_kv_heads;
  spec.num_layers = sizes.layers;
  spec.hidden_size = sizes.hidden_size;
  spec.num_heads = sizes.heads;
  spec.num_kv_heads = sizes.heads / group;
  spec.ffn_size = sizes.ffn_size;
  return spec;
}

// The most neurons that `limit` parameters have room for, or 0.
int64_t FittingNeurons(const TransformerSpec& spec, PrunedSizes sizes,
                       double limit) {
  const int64_t step = Step(spec.ffn_size);
  sizes.ffn_size = step;
  const int64_t one = CountParameters(WithSizes(spec, sizes));
  sizes.ffn_size = 2 * step;
  const int64_t more = CountParameters(WithSizes(spec, sizes)) - one;
  const double steps = std::floor((limit - static_cast<double>(one)) /
                                  static_cast<double>(more));
  const int64_t neurons =
      steps < 0 ? 0 : (static_cast<int64_t>(steps) + 1) * step;
  return std::min(neurons, spec.ffn_size);
}

}  // namespace

PrunedSizes WholeSizes(const TransformerSpec& spec, PrunedSizes sizes) {
  const auto fill = [](int64_t whole, int64_t* size) {
    if (*size == 0) *size = whole;
  };
  fill(spec.num_layers, &sizes.layers);
  fill(spec.hidden_size, &sizes.hidden_size);
  fill(spec.num_heads, &sizes.heads);
  fill(spec.ffn_size, &sizes.ffn_size);
  return sizes;
}

absl::Status CheckSizes(const TransformerSpec& spec, const PrunedSizes& sizes) {
  QEFF_RETURN_IF_ERROR(CheckSize("layers", sizes.layers, spec.num_layers));
  QEFF_RETURN_IF_ERROR(
      CheckSize("hidden_size", sizes.hidden_size, spec.hidden_size));
  QEFF_RETURN_IF_ERROR(CheckSize("heads", sizes.heads, spec.num_heads));
  QEFF_RETURN_IF_ERROR(CheckSize("ffn_size", sizes.ffn_size, spec.ffn_size));
  const int64_t group = spec.num_heads / spec.num_kv_heads;
  if (sizes.heads % group != 0) {
    return InvalidInputError(
        "--heads=", sizes.heads, ": expected a multiple of ", group,
        ", the heads that share keys and values, up to ", spec.num_heads);
  }
  const PrunedSizes whole = WholeSizes(spec, sizes);
  if (whole.layers == spec.num_layers &&
      whole.hidden_size == spec.hidden_size && whole.heads == spec.num_heads &&
      whole.ffn_size == spec.ffn_size) {
    return InvalidInputError("expected a size below the model's, which has ",
                             FormatSizes(WholeSizes(spec, {})));
  }
  return absl::OkStatus();
}

StructuredPlan ChoosePlan(const TransformerSpec& spec,
                          const StructuredImportance& importance,
                          const PrunedSizes& sizes) {
  const PrunedSizes whole = WholeSizes(spec, sizes);
  const int64_t group = spec.num_heads / spec.num_kv_heads;
  QEFF_CHECK(whole.heads % group == 0);
  StructuredPlan plan;
  plan.layers = Best(importance.layers, whole.layers);
  plan.hidden = Best(importance.hidden, whole.hidden_size);
  for (const int64_t index : plan.layers) {
    const size_t layer = static_cast<size_t>(index);
    plan.ffn.push_back(Best(importance.ffn[layer], whole.ffn_size));
    plan.kv_groups.push_back(
        spec.position == PositionKind::kAlibi
            ? AlibiHeads(spec, whole.heads)
            : Best(importance.kv_groups[layer], whole.heads / group));
  }
  return plan;
}

std::string FormatSizes(const PrunedSizes& sizes) {
  return absl::StrCat(sizes.layers, " layers, hidden_size ", sizes.hidden_size,
                      ", ", sizes.heads, " heads, ffn_size ", sizes.ffn_size);
}

absl::StatusOr<std::vector<PrunedSizes>> SizesWithin(
    const TransformerSpec& spec, double share) {
  if (!(share > 0 && share < 1)) {
    return InvalidInputError("--parameters=", share,
                             ": expected a share above 0 and below 1");
  }
  const double limit = share * static_cast<double>(CountParameters(spec));
  const int64_t group = spec.num_heads / spec.num_kv_heads;
  std::vector<PrunedSizes> found;
  double most = 0;
  for (const int64_t layers : Grid(spec.num_layers, 1, kLeastDepth)) {
    for (const int64_t hidden :
         Grid(spec.hidden_size, Step(spec.hidden_size), kLeastWidth)) {
      for (const int64_t heads : Grid(spec.num_heads, group, kLeastWidth)) {
        PrunedSizes sizes = {layers, hidden, heads, 0};
        sizes.ffn_size = FittingNeurons(spec, sizes, limit);
        if (static_cast<double>(sizes.ffn_size) <
            kLeastWidth * static_cast<double>(spec.ffn_size)) {
          continue;
        }
        const double used =
            static_cast<double>(CountParameters(WithSizes(spec, sizes)));
        if (used > limit) continue;
        most = std::max(most, used);
        found.push_back(sizes);
      }
    }
  }
  // Where even all neurons leave more than 3 % unused there are better
  // combinations.
  found.erase(std::remove_if(found.begin(), found.end(),
                             [&](const PrunedSizes& sizes) {
                               return static_cast<double>(CountParameters(
                                          WithSizes(spec, sizes))) <
                                      0.97 * most;
                             }),
              found.end());
  if (!found.empty()) return found;
  return InvalidInputError(
      "--parameters=", share,
      ": no sizes with at least 80 % of the layers and 60 % of the hidden "
      "channels, heads and neurons come to that; give sizes, or prune and "
      "train in steps");
}

}  // namespace qeff
