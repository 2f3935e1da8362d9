// SPDX-License-Identifier: Apache-2.0
//
// Codes of a quantized layer as blocks of ggml, without rounding them again:
// every value of the block is the value of the layer, bit for bit.
//
//   QEFF_ASSIGN_OR_RETURN(const GgmlType type, FindRepackType(matrix));
//   RepackRows(matrix, type, begin, count, absl::MakeSpan(blocks));

#ifndef QEFF_EXPORT_GGML_REPACK_H_
#define QEFF_EXPORT_GGML_REPACK_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/io/quantized_tensor.h"

namespace qeff {

// The type that holds the codes and scales of `matrix`:
//   blocks of ggml                             their own
//   symmetric integers of 2 to 4, 5, 6 to 8 bits  Q4_0, Q5_0, Q8_0
//   mxint8                                     Q8_0
//   mxfp4                                      MXFP4
// Integers may be in groups of a multiple of 32, or one group a row: each block
// of 32 has a copy of its group's scale. Errors
// (kInvalidArgument, naming the layer): zero points, other tables, other
// groups, rows that are not whole blocks, inputs that become codes, of which a
// GGUF file knows nothing, and a scale that is no F16 (naming which).
absl::StatusOr<GgmlType> FindRepackType(const QuantizedMatrix& matrix);

// Writes rows [begin, begin + count) as blocks of `type`, which
// FindRepackType has found. Preconditions (checked): the rows exist; blocks has
// room for exactly as many. Throws std::bad_alloc.
void RepackRows(const QuantizedMatrix& matrix, GgmlType type, int64_t begin,
                int64_t count, absl::Span<uint8_t> blocks);

}  // namespace qeff

#endif  // QEFF_EXPORT_GGML_REPACK_H_
