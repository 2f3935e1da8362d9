// SPDX-License-Identifier: Apache-2.0
//
// The inner steps of solvers that go through columns one by one.

#ifndef QEFF_QUANT_ADD_SCALED_H_
#define QEFF_QUANT_ADD_SCALED_H_

#include <cstdint>

namespace qeff {

// y[i] += factor * x[i] for i < count, both rounded. Thread-safe. The same bits
// on every machine.
void AddScaled(int64_t count, float factor, const float* x, float* y);

// The same to `rows` rows of y, which lie `stride_elems` apart, with a factor
// each: one call for short rows, whose sums do not wait for one another.
void AddScaledToRows(int64_t rows, int64_t count, const float* factors,
                     const float* x, float* y, int64_t stride_elems);

// The sum of a[i] * b[i] for i < count in double, as eight sums, of every eighth
// product each, that are added up in order, and then what is left of count.
// Thread-safe. The same bits on every machine.
double DotInDouble(int64_t count, const float* a, const float* b);

}  // namespace qeff

#endif  // QEFF_QUANT_ADD_SCALED_H_
