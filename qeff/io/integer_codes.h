// SPDX-License-Identifier: Apache-2.0
//
// Quantized matrices that are not stored as qeff's integers but could be, for
// products that take nothing else.

#ifndef QEFF_IO_INTEGER_CODES_H_
#define QEFF_IO_INTEGER_CODES_H_

#include "absl/status/statusor.h"
#include "qeff/io/quantized_tensor.h"

namespace qeff {

// Whether what is no packed integers in `matrix` are integers nevertheless:
// ggml's Q4_0 and Q8_0 and mxint8, in groups of 32 with a scale each, and
// signed bytes.
bool HasIntegerCodes(const QuantizedMatrix& matrix);

// The same matrix with the blocks, or mxint8, as integers of 4 or 8 bits and
// scales of F16, or BF16, of the same values; or with signed bytes as packed
// codes, and all else as it is. Precondition (checked):
// HasIntegerCodes. Errors: kInvalidArgument as for DequantizeRows. Throws
// std::bad_alloc.
absl::StatusOr<QuantizedMatrix> IntegerCodes(const QuantizedMatrix& matrix);

}  // namespace qeff

#endif  // QEFF_IO_INTEGER_CODES_H_
