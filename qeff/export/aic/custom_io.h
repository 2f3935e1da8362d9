// SPDX-License-Identifier: Apache-2.0
//
// custom_io.yaml: types of inputs and outputs that differ from the graph's,
// which is how the Cloud AI compiler is told what the KV cache is stored as.

#ifndef QEFF_EXPORT_AIC_CUSTOM_IO_H_
#define QEFF_EXPORT_AIC_CUSTOM_IO_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qeff {

// What the compiler calls the output that an input's buffer is kept from.
inline constexpr absl::string_view kRetainedStateSuffix = "_RetainedState";

enum class KvPrecision { kFloat16, kBfloat16, kMxint8 };

// "float16", "bfloat16", "mxint8".
absl::string_view KvPrecisionName(KvPrecision precision);

// The file's content for the cache inputs `kv_inputs` (past_key.0,
// past_value.0, past_key.1, ...) and, after each, the output of its retained
// state. Source: QEfficient 1.23, QEFFBaseModel._compile.
std::string CustomIoYaml(const std::vector<std::string>& kv_inputs,
                         KvPrecision precision);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_CUSTOM_IO_H_
