// SPDX-License-Identifier: Apache-2.0
//
// Where a model is sensitive to quantization, for the report of an
// optimization: cheap enough to be measured every time. For several schemes,
// and for choosing among them, see qeff/quant/sensitivity.h.

#ifndef QEFF_PIPELINE_LAYER_SENSITIVITY_H_
#define QEFF_PIPELINE_LAYER_SENSITIVITY_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"

namespace qeff {

// Tokens for LayerSensitivities to take at most about 10 s on two cores: 64 to
// 512.
int64_t LayerSensitivityTokens(const Transformer& model);

// A list of {name, role, block, scheme, sensitivity}, one for each set of
// layers with the same inputs (role: qkv, o, gate_up, down): the KL divergence
// of the whole model from itself with these layers alone rounded to `scheme`,
// in nats a token, on the first LayerSensitivityTokens of `sample`. Layers that
// cannot be in that scheme are left out. The same bits for any number of
// threads. `check`, which may be null, is called between pieces of work; an
// error ends it. Errors: kInvalidArgument for a model that is quantized;
// kDataLoss when a divergence is not finite; those of `check` and of reading
// the model. Precondition: `sample` is not empty.
absl::StatusOr<Json> LayerSensitivities(
    const std::shared_ptr<const Transformer>& model, const QuantScheme& scheme,
    const TokenSample& sample, const std::function<absl::Status()>& check,
    ThreadPool* pool);

}  // namespace qeff

#endif  // QEFF_PIPELINE_LAYER_SENSITIVITY_H_
