// SPDX-License-Identifier: Apache-2.0
//
// What bounds bf16 matrix products on this machine: dot products that wait for
// nothing. For benchmarks; reading is in matmul_int_peak.h.

#ifndef QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_PEAK_H_
#define QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_PEAK_H_

#include <cstdint>

namespace qeff {

// `steps` times twelve independent dot products of the widest vectors (with
// AVX512_BF16: 512-bit VDPBF16PS), operands in registers, by this thread.
void RunBF16DotProducts(int64_t steps);

// Multiplications and additions of one step.
int64_t OperationsOfBF16DotProducts();

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_PEAK_H_
