// SPDX-License-Identifier: Apache-2.0
//
// Gradient checks: finite differences in double of plain double functions, and
// such a function for a block, written from TransformerSpec's definition. It
// shares nothing with the float32 code but the frequencies and slopes of the
// spec, which have tests of their own.

#ifndef QEFF_TRANSFORMER_GRADIENT_TESTUTIL_H_
#define QEFF_TRANSFORMER_GRADIENT_TESTUTIL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

using DoubleFunction = std::function<double(const std::vector<double>&)>;

// Central differences (f(x + h) - f(x - h)) / 2h with h = 2^-17, one element
// after the other. For f of about 10 to 100 that is a sum of values of about 1,
// rounding takes 100 * 2^-53 / h = 1.5e-9 and the third derivative f''' h^2/6 =
// 1e-11 f''': below 1e-7 of gradients of about 1.
std::vector<double> FiniteDifferences(const DoubleFunction& f,
                                      std::vector<double> x);

// ||a - b|| / ||b||, 0 when both are.
double RelativeDistance(absl::Span<const float> a, absl::Span<const double> b);

std::vector<double> ToDouble(absl::Span<const float> values);

Matrix<float> RandomMatrix(int64_t rows, int64_t cols, uint64_t stream,
                           float deviation = 1.0f, float mean = 0.0f);

// A vector of `weights`, for instance "q.weight".
struct NamedPart {
  std::string name;
  absl::Span<float> values;
};

// All vectors of a block that are not empty, always in the same order.
std::vector<NamedPart> PartsOf(BlockWeights& weights);

// Random weights in the shapes of `spec`.
BlockWeights RandomBlockWeights(const TransformerSpec& spec);

// The block of `spec` of x [tokens, hidden] in double. `values` are those of
// the parts of the block one after another, then x.
std::vector<double> ReferenceBlock(const TransformerSpec& spec,
                                   const std::vector<int64_t>& lengths,
                                   const std::vector<double>& values);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_GRADIENT_TESTUTIL_H_
