// SPDX-License-Identifier: Apache-2.0
//
// Readers of the keys of config.json that several families share. All errors
// begin with the path of the file and name key and value.

#ifndef QEFF_TRANSFORMER_MAPPINGS_CONFIG_FIELDS_H_
#define QEFF_TRANSFORMER_MAPPINGS_CONFIG_FIELDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/util/json.h"

namespace qeff::internal_mappings {

// Bounds of what is sized by config.json alone: names are made for every layer
// (the deepest published models have some hundred), caches and tables for
// positions (the longest have ten million).
inline constexpr int64_t kMaxLayers = 10'000;
inline constexpr int64_t kMaxPositions = int64_t{1} << 24;

// kUnimplemented: `key` has a value whose meaning is known or possible, but
// only `supported` is computed here.
absl::Status Unsupported(const JsonObjectReader& config, const std::string& key,
                         absl::string_view supported);

// A size from 1 to 2^31 - 1.
absl::StatusOr<int64_t> Size(const JsonObjectReader& config,
                             const std::string& key);

// The same under either of two names, which must agree.
absl::StatusOr<int64_t> SizeOrAlias(const JsonObjectReader& config,
                                    const std::string& key,
                                    const std::string& alias);

absl::StatusOr<int64_t> NumLayers(const JsonObjectReader& config,
                                  const std::string& key,
                                  const std::string& alias);
absl::StatusOr<int64_t> MaxPositions(const JsonObjectReader& config,
                                     const std::string& key, int64_t fallback);

// A finite number above 0.
absl::StatusOr<double> PositiveOr(const JsonObjectReader& config,
                                  const std::string& key, double fallback);

// kUnimplemented unless the boolean `key` is `only` or missing.
absl::Status ExpectBool(const JsonObjectReader& config, const std::string& key,
                        bool only);

// kUnimplemented unless `key` is missing or null.
absl::Status ExpectNothing(const JsonObjectReader& config,
                           const std::string& key);

// kUnimplemented unless the string `key` is one of `allowed` or missing.
absl::Status ExpectOneOf(const JsonObjectReader& config, const std::string& key,
                         absl::Span<const absl::string_view> allowed);

// An activation by the names that transformers uses.
absl::StatusOr<Activation> ReadActivation(const JsonObjectReader& config,
                                          const std::string& key,
                                          const std::string& fallback);

// hidden_size / heads, kInvalidArgument naming `heads_key` if that is not
// whole.
absl::StatusOr<int64_t> DividedHeadDim(const JsonObjectReader& config,
                                       const std::string& heads_key,
                                       int64_t hidden_size, int64_t heads);

// rope_theta with rope_scaling (transformers 4) or rope_parameters (5).
absl::StatusOr<RopeSpec> ReadRope(const JsonObjectReader& config);

// Sets bos_token_id and eos_token_ids; checks pad_token_id.
absl::Status ReadSpecialTokens(const JsonObjectReader& config,
                               TransformerSpec* spec);

// Checks layer_types, where present, against a model whose layers are all
// alike and have spec.sliding_window.
absl::Status CheckLayerTypes(const JsonObjectReader& config,
                             const TransformerSpec& spec);

}  // namespace qeff::internal_mappings

#endif  // QEFF_TRANSFORMER_MAPPINGS_CONFIG_FIELDS_H_
