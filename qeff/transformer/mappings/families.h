// SPDX-License-Identifier: Apache-2.0
//
// The model families, one function and one file each. A family reads its keys
// of config.json, refuses values that change the result and that qeff does not
// compute, and names the tensors. To add one see README.md.

#ifndef QEFF_TRANSFORMER_MAPPINGS_FAMILIES_H_
#define QEFF_TRANSFORMER_MAPPINGS_FAMILIES_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/json.h"

namespace qeff::internal_mappings {

using HasTensor = absl::FunctionRef<bool(absl::string_view name)>;

// Errors as MapConfig. The caller sets spec.family, reads the special tokens,
// checks `architectures` and calls ValidateSpec.
absl::StatusOr<ModelMap> MapLlama(const JsonObjectReader& config,
                                  HasTensor has_tensor);
absl::StatusOr<ModelMap> MapMistral(const JsonObjectReader& config,
                                    HasTensor has_tensor);
absl::StatusOr<ModelMap> MapQwen2(const JsonObjectReader& config,
                                  HasTensor has_tensor);
absl::StatusOr<ModelMap> MapQwen3(const JsonObjectReader& config,
                                  HasTensor has_tensor);
absl::StatusOr<ModelMap> MapGpt2(const JsonObjectReader& config,
                                 HasTensor has_tensor);
absl::StatusOr<ModelMap> MapMpt(const JsonObjectReader& config,
                                HasTensor has_tensor);

}  // namespace qeff::internal_mappings

#endif  // QEFF_TRANSFORMER_MAPPINGS_FAMILIES_H_
