// SPDX-License-Identifier: Apache-2.0
//
// The models whose weights lie beside the config.json that config_fuzz.cc
// reads.

#ifndef QEFF_FUZZ_CONFIG_MODELS_H_
#define QEFF_FUZZ_CONFIG_MODELS_H_

#include <vector>

#include "qeff/transformer/reference_testutil.h"

namespace qeff {

// One of each family and of what changes a family's weights or positions. At
// most ten: a digit chooses one.
std::vector<TestModel> ConfigModels();

}  // namespace qeff

#endif  // QEFF_FUZZ_CONFIG_MODELS_H_
