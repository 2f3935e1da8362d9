// SPDX-License-Identifier: Apache-2.0
//
// The quantization_config of GPTQ and AWQ folders: one way of quantizing for
// the whole model. It does not say which layers are quantized: those are that
// have the tensors. Source: AutoGPTQ and GPTQModel, quantization/config;
// AutoAWQ, models/_config.

#ifndef QEFF_IO_GPTQ_AWQ_CONFIG_H_
#define QEFF_IO_GPTQ_AWQ_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/weight_quantization.h"
#include "qeff/util/json.h"

namespace qeff {

struct GptqAwqConfig {
  QuantizedLayout layout;  // IsInputMajor
  // With kAwq not symmetric: zero points are always stored.
  WeightQuantization weights;
  // Written as desc_act; not read, because g_idx says it.
  bool activation_order = false;
};

// Reads the object quantization_config; nullopt when its quant_method is
// neither "gptq" nor "awq". Keys that say how the codes were found are not
// looked at, nor is desc_act: g_idx says what came of it. Errors:
// kInvalidArgument for a missing or malformed bits or group_size;
// kUnimplemented, naming key and value, for bits other than 2, 3, 4 and 8
// (AWQ: 4), a checkpoint_format other than "gptq" and "gptq_v2", a version
// other than GEMM, zero_point = false, a pack_dtype other than int32, and
// other arguments for some of the layers (`dynamic`; leaving layers out is
// read).
absl::StatusOr<absl::optional<GptqAwqConfig>> ParseGptqAwqConfig(
    const JsonObjectReader& reader);

// The value of quantization_config. `kept`: linear layers that are not
// quantized, "lm_head" also where it is tied.
Json GptqAwqConfigToJson(const GptqAwqConfig& config,
                         const std::vector<std::string>& kept);

}  // namespace qeff

#endif  // QEFF_IO_GPTQ_AWQ_CONFIG_H_
