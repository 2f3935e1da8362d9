// SPDX-License-Identifier: Apache-2.0
//
// A block of one of ggml's formats as parameters and codes: for encoders that
// choose the two apart, as a solver does that carries the error of each weight
// into the next. Whole rows are in ggml_codec.h.
//
// Each sub-block has a scale and an offset, each element a code:
//
//   value = scale * code - offset                    (float32, rounded twice)
//
//   format  block  sub-block  codes        what the bytes hold
//   Q8_0       32         32  -128 .. 127  F16 d; code
//   Q4_0       32         32    -8 .. 7    F16 d; code + 8
//   Q5_0       32         32   -16 .. 15   F16 d; code + 16
//   Q4_1       32         32     0 .. 15   F16 d, m; code
//   Q5_1       32         32     0 .. 31   F16 d, m; code
//   MXFP4      32         32   -12 .. 12   E8M0 of 2 d; twice the value of E2M1
//   Q4_K      256         32     0 .. 15   F16 d, dmin; 6 bits of scale and of
//   Q5_K      256         32     0 .. 31     minimum a sub-block; code
//   Q6_K      256         16   -32 .. 31   F16 d; 8 bits of scale; code + 32
//
// with scale = d * scale code and offset = dmin * minimum code, both exact in
// float32. Offsets are 0 but in Q4_K and Q5_K, and in Q4_1 and Q5_1, where dmin
// is -m and the minimum code 1. Codes of MXFP4 are 0, 1, 2, 3, 4, 6, 8 and 12
// of either sign; its -0 is read as 0.
//
//   GgmlBlockParams params = ChooseGgmlParams(type, x, importance);
//   int8_t codes[256];
//   RoundToGgmlCodes(type, params, x, codes);   // or codes of your own
//   PackGgmlBlock(type, params, codes, bytes);
//
// Source: ggml's ggml-common.h and ggml-quants.c.

#ifndef QEFF_FORMAT_GGML_BLOCK_PARAMS_H_
#define QEFF_FORMAT_GGML_BLOCK_PARAMS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/format/ggml_blocks.h"

namespace qeff {

inline constexpr int kMaxGgmlBlockElems = 256;
inline constexpr int kMaxGgmlSubBlocks = 16;

// Sizes in elements, and the range of codes, both ends included.
struct GgmlBlockFormat {
  GgmlType type;
  int block_elems;
  int sub_block_elems;
  int min_code;
  int max_code;
  int64_t block_bytes;

  constexpr int num_sub_blocks() const { return block_elems / sub_block_elems; }
  constexpr bool has_offsets() const { return min_code == 0; }
  // Whether scales and offsets of sub-blocks have codes of their own.
  constexpr bool has_scale_codes() const { return block_elems == 256; }
};

// The format of one of the types above, null for all others.
const GgmlBlockFormat* FindGgmlBlockFormat(GgmlType type);

// What a block stores besides its codes, and what that means.
// Thread-compatible.
struct GgmlBlockParams {
  float d = 0;     // values of F16; a power of two in MXFP4
  float dmin = 0;  // 0 but in formats with offsets
  // Per sub-block. Of formats without scale codes the only one is 1, and so is
  // that of minimums with offsets.
  int8_t scale_codes[kMaxGgmlSubBlocks] = {};  // Q6_K: signed; else 0 to 63
  uint8_t min_codes[kMaxGgmlSubBlocks] = {};   // 0 to 63

  float scale(int sub_block) const {
    return d * static_cast<float>(scale_codes[sub_block]);
  }
  float offset(int sub_block) const {
    return dmin * static_cast<float>(min_codes[sub_block]);
  }
};

// Rounds each element to the code of the nearest value, ties to the even code.
// Codes of sub-blocks whose scale is 0 stay as they are. Preconditions
// (checked): `type` has a format other than that of MXFP4; x and codes have
// block_elems elements. x is finite (not checked).
void RoundToGgmlCodes(GgmlType type, const GgmlBlockParams& params,
                      absl::Span<const float> x, absl::Span<int8_t> codes);

// Writes a block. Preconditions (checked): `type` has a format, the sizes; not
// checked: codes and parameters lie in their ranges.
void PackGgmlBlock(GgmlType type, const GgmlBlockParams& params,
                   absl::Span<const int8_t> codes, absl::Span<uint8_t> bytes);

// The inverse of PackGgmlBlock, for any bytes: d and dmin may be NaN or
// infinite. Preconditions (checked): as there.
void UnpackGgmlBlock(GgmlType type, absl::Span<const uint8_t> bytes,
                     GgmlBlockParams* params, absl::Span<int8_t> codes);

}  // namespace qeff

#endif  // QEFF_FORMAT_GGML_BLOCK_PARAMS_H_
