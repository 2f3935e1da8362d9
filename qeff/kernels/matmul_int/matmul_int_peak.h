// SPDX-License-Identifier: Apache-2.0
//
// What bounds integer matrix products on this machine: dot products that wait
// for nothing, and reading that computes nothing. For benchmarks.

#ifndef QEFF_KERNELS_MATMUL_INT_MATMUL_INT_PEAK_H_
#define QEFF_KERNELS_MATMUL_INT_MATMUL_INT_PEAK_H_

#include <cstdint>

namespace qeff {

// `steps` times twelve independent dot products of the widest vectors (with
// AVX-512 VNNI: 512-bit VPDPBUSD), operands in registers, by this thread.
void RunDotProducts(int64_t steps);

// Multiplications and additions of one step.
int64_t OperationsOfDotProducts();

// Reads 64-byte aligned bytes in order, whole pages of 4 KiB; with
// `fetch_pages` a line of each page is fetched 16 KiB ahead, which is faster on
// some machines.
void ReadMemory(const uint8_t* from, int64_t size_bytes, bool fetch_pages);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_MATMUL_INT_PEAK_H_
