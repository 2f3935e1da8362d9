// SPDX-License-Identifier: Apache-2.0
//
// Configurations of well-known models, and tiny ones of every family: what
// benchmarks and `qeff synth` call shapes.

#ifndef QEFF_TRANSFORMER_KNOWN_SHAPES_H_
#define QEFF_TRANSFORMER_KNOWN_SHAPES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/util/json.h"

namespace qeff {

// Names of all shapes, such as "llama-1b" and "tiny-gpt2".
std::vector<std::string> KnownShapeNames();

// The config.json of shape `name`. Errors: kInvalidArgument, with all names.
absl::StatusOr<Json> KnownShapeConfig(absl::string_view name);

// The key of `config` that holds the number of layers in its family.
std::string NumLayersKey(const Json& config);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_KNOWN_SHAPES_H_
