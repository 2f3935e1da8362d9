// SPDX-License-Identifier: Apache-2.0
//
// Which of several choices of groups GPTQ keeps, row by row, and what all of
// them lose: what gptq.h, ggml_gptq.h and codebook_gptq.h have in common.

#ifndef QEFF_QUANT_GPTQ_CHOICE_H_
#define QEFF_QUANT_GPTQ_CHOICE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq_refine.h"
#include "qeff/quant/gptq_sweep.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Codes [rows, cols], one a byte, and the groups that they are of.
template <class Groups>
struct GptqChoice {
  Groups groups;
  std::vector<uint8_t> codes;
  GptqLosses losses;
};

// Starts from rounding to nearest with `rounding` groups and takes whatever
// loses less, row by row: with `propagate` GPTQ, with the same groups if
// `searched` is null; codes with the groups that it makes, propagated or not;
// and with `damped` (no rows: without) what GptqRefiner makes of these.
// `order`, `factor` and `damped` are those of a FactoredHessian; without an
// order, which is when it is not usable, weights are rounded. Groups is as
// gptq_refine.h says. Preconditions: finite weights; the sizes.
template <class Groups>
GptqChoice<Groups> ChooseCodes(MatrixView<const float> weights,
                               const std::vector<int64_t>& order,
                               MatrixView<const float> factor,
                               MatrixView<const float> damped, bool propagate,
                               int bits, Groups rounding,
                               const std::function<Groups()>& searched,
                               ThreadPool& pool) {
  const int64_t rows = weights.rows(), cols = weights.cols();
  GptqChoice<Groups> choice{std::move(rounding), {}, {}};
  if (order.empty() || rows * cols == 0) {
    choice.codes.reserve(static_cast<size_t>(rows * cols));
    for (int64_t r = 0; r < rows; ++r) {
      const typename Groups::Params* row = choice.groups.Row(r);
      for (int64_t c = 0; c < cols; ++c) {
        choice.codes.push_back(choice.groups.Code(
            weights.row(r)[c], row[c / choice.groups.group_elems()]));
      }
    }
    choice.losses.rounded_rows = rows;
    return choice;
  }
  // Refining takes as much memory again.
  auto layer = std::make_unique<GptqLayer>(weights, order, factor, pool);
  GptqSweep best = layer->Quantize(choice.groups, /*propagate=*/false);
  const std::vector<double> rounding_losses = best.losses;
  const auto take = [&](const Groups& tried) {
    const GptqSweep sweep = layer->Quantize(tried, propagate);
    for (int64_t r = 0; r < rows; ++r) {
      TakeRowIfBetter(sweep, tried, r, cols, &best, &choice.groups);
    }
  };
  if (searched != nullptr) {
    take(searched());
  } else if (propagate) {
    take(Groups(choice.groups));
  }
  choice.losses.products += layer->products();
  layer.reset();
  choice.codes = CodesInPlace(best.codes, order, pool);
  if (propagate && damped.rows() > 0) {
    GptqRefiner refiner(weights, damped, order, GptqRefiner::TurnsFor(bits),
                        pool);
    refiner.Refine(&choice.groups, &choice.codes, &best.losses,
                   &best.saturated);
    choice.losses.products += refiner.products();
  }
  for (size_t r = 0; r < best.losses.size(); ++r) {
    choice.losses.rounding_loss += rounding_losses[r];
    choice.losses.loss += best.losses[r];
    choice.losses.saturated += best.saturated[r];
    choice.losses.rounded_rows += best.losses[r] == rounding_losses[r];
  }
  return choice;
}

}  // namespace qeff

#endif  // QEFF_QUANT_GPTQ_CHOICE_H_
