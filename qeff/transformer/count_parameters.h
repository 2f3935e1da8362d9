// SPDX-License-Identifier: Apache-2.0

#ifndef QEFF_TRANSFORMER_COUNT_PARAMETERS_H_
#define QEFF_TRANSFORMER_COUNT_PARAMETERS_H_

#include <cstdint>

#include "qeff/transformer/model_map.h"

namespace qeff {

// Weights of all layers, norms and embeddings; what is tied counts once, and a
// weight counts whether it is stored as a float or a code.
int64_t CountParameters(const ModelMap& map);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_COUNT_PARAMETERS_H_
