// SPDX-License-Identifier: Apache-2.0
//
// The inner step of solvers that go through columns one by one.

#ifndef QEFF_QUANT_ADD_SCALED_H_
#define QEFF_QUANT_ADD_SCALED_H_

#include <cstdint>

namespace qeff {

// y[i] += factor * x[i] for i < count, both rounded. Thread-safe. The same bits
// on every machine.
void AddScaled(int64_t count, float factor, const float* x, float* y);

}  // namespace qeff

#endif  // QEFF_QUANT_ADD_SCALED_H_
