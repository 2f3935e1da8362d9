// SPDX-License-Identifier: Apache-2.0
//
// Whether a folder that was written holds the model that it was made of.

#ifndef QEFF_EXPORT_READ_BACK_H_
#define QEFF_EXPORT_READ_BACK_H_

#include <string>

#include "absl/status/status.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Opens `folder` as a model and compares every weight of its linear layers with
// that of `model`: equal, or both NaN. When one is not, or the folder cannot be
// read, the folder is removed. Errors: kUnavailable naming layer and row; those
// of Checkpoint::Open and Transformer::Load.
absl::Status ReadBack(const Transformer& model, const std::string& folder);

}  // namespace qeff

#endif  // QEFF_EXPORT_READ_BACK_H_
