// SPDX-License-Identifier: Apache-2.0
//
// Random quantized matrices, row-major and packed, for tests and benchmarks.

#ifndef QEFF_KERNELS_MATMUL_INT_MATMUL_INT_TESTUTIL_H_
#define QEFF_KERNELS_MATMUL_INT_MATMUL_INT_TESTUTIL_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "qeff/kernels/matmul_int/matmul_int_reference.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/util/aligned.h"

namespace qeff {

// Every code is drawn with the same probability, so that extreme sums occur;
// so is every zero point; scales are of either sign and of
// `layout.scale_dtype()`.
class RandomIntMatrix {
 public:
  RandomIntMatrix(const PackedIntLayout& layout, uint64_t seed);

  // Sets the codes where removed(row, column) to those of 0.
  void Remove(const std::function<bool(int64_t, int64_t)>& removed);

  const PackedIntLayout& layout() const { return layout_; }
  // Borrows from this.
  QuantizedRowsView view() const;
  const std::vector<uint8_t>& codes() const { return codes_; }  // row-major
  const std::vector<uint8_t>& scales() const { return scales_; }
  // Empty when symmetric.
  const std::vector<uint8_t>& zeros() const { return zeros_; }

  ReferenceRow Row(int64_t row) const;
  AlignedArray<uint8_t> Pack() const;

 private:
  int ZeroOf(int64_t row, int64_t col) const;
  void PackDense();

  PackedIntLayout layout_;
  std::vector<uint8_t> codes_;
  std::vector<uint8_t> dense_;
  std::vector<uint8_t> scales_;
  std::vector<uint8_t> zeros_;
};

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_MATMUL_INT_TESTUTIL_H_
