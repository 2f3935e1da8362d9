// SPDX-License-Identifier: Apache-2.0
//
// Rows of weights to packed integer codes with the parameters of least squared
// error. Rounding with those of the range: qeff/kernels/quantize/quantize.h.

#ifndef QEFF_QUANT_MSE_ROWS_H_
#define QEFF_QUANT_MSE_ROWS_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// As QuantizeRows, with the parameters of LeastErrorParams for each group.
// Thread-safe. Allocates for one row.
absl::optional<int64_t> QuantizeRowsByError(const QuantScheme& scheme,
                                            DType scale_dtype, DType dtype,
                                            absl::Span<const uint8_t> from,
                                            int64_t rows, int64_t cols,
                                            const QuantizedRows& to);

}  // namespace qeff

#endif  // QEFF_QUANT_MSE_ROWS_H_
