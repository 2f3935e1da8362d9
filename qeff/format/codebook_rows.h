// SPDX-License-Identifier: Apache-2.0
//
// Rows of weights that are codes of a table (codebook.h): the scale of a group,
// and codes packed and decoded. Which scale is best is decided elsewhere.
//
//   const float scale = CodebookScale(scheme, absmax, scale_dtype);
//   code = NearestCode(format, x / scale);

#ifndef QEFF_FORMAT_CODEBOOK_ROWS_H_
#define QEFF_FORMAT_CODEBOOK_ROWS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/format/codebook.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// The scale that the definition gives a group whose largest magnitude is
// `absmax`, finite; a value of `scale_dtype`, which is ScaleDType of the
// scheme's and the weights' type:
//   E8M0: 2^(floor(log2(absmax)) - max_exponent), within E8M0's range;
//   else absmax / largest, rounded to `scale_dtype`.
// A group without magnitude, or whose scale would be below 2^-126 (2^-24 in
// F16), gets 1. Precondition: scheme.codebook is set. Thread-safe, as all here.
// Source: OCP MX 1.0, section 6.3; QLoRA, section 2.
float CodebookScale(const QuantScheme& scheme, float absmax, DType scale_dtype);

// `scale` rounded to `scale_dtype` as CodebookScale does, F16 or BF16.
float RoundedScale(float scale, DType scale_dtype);

// Stores `scale`, one of the above, and reads it back. Unlike StoreScale and
// LoadScale they know kU8, which is E8M0; 255 there is NaN.
void StoreCodebookScale(float scale, DType dtype, uint8_t* to);
float LoadCodebookScale(DType dtype, const uint8_t* from);

// Packs the codes of a row densely (packing.h); `packed` may lack up to three
// bytes of the last word. Precondition (checked): no code is left out.
void PackCodebookRow(int bits, absl::Span<const uint8_t> codes,
                     absl::Span<uint8_t> packed);

// Borrowed rows.
struct CodebookRowsView {
  Codebook codebook = Codebook::kNf4;
  int64_t cols = 0;
  int64_t group_elems = 0;  // >= 1; of every group but the last of a row
  int64_t row_bytes = 0;    // of packed codes
  DType scale_dtype = DType::kBF16;  // kU8: E8M0
  absl::Span<const uint8_t> packed;  // [rows, row_bytes]
  absl::Span<const uint8_t> scales;  // [rows, groups]
};

// Writes row `row` as float32: table[code] * scale. NaN where a code or scale
// is; infinite where the product overflows. Preconditions: the row exists; out
// has `cols` elements (checked). The same bits on all machines.
void DecodeCodebookRow(const CodebookRowsView& rows, int64_t row,
                       absl::Span<float> out);

// Codes of a row, one a byte. Preconditions as above.
void UnpackCodebookRow(const CodebookRowsView& rows, int64_t row,
                       absl::Span<uint8_t> codes);

}  // namespace qeff

#endif  // QEFF_FORMAT_CODEBOOK_ROWS_H_
