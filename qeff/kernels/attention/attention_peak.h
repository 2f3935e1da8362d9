// SPDX-License-Identifier: Apache-2.0
//
// What bounds attention over a cache that is near: float32 multiplications and
// additions that wait for nothing. For benchmarks.

#ifndef QEFF_KERNELS_ATTENTION_ATTENTION_PEAK_H_
#define QEFF_KERNELS_ATTENTION_ATTENTION_PEAK_H_

#include <cstdint>

namespace qeff {

// `steps` times one multiplication and one addition, not fused, for each of 24
// independent sums (8 where there are 16 registers) of the widest vectors, by
// this thread. One factor is in a register, the other comes from L1.
void RunMultiplyAdds(int64_t steps);

// Multiplications and additions of one step.
int64_t OperationsOfMultiplyAdds();

}  // namespace qeff

#endif  // QEFF_KERNELS_ATTENTION_ATTENTION_PEAK_H_
