// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/add_scaled.h"

#include "qeff/util/vector_clones.h"

namespace qeff {

QEFF_VECTOR_CLONES void AddScaled(int64_t count, float factor, const float* x,
                                  float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

}  // namespace qeff
