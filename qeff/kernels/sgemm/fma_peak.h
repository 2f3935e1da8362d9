// SPDX-License-Identifier: Apache-2.0
//
// What bounds float32 products on this machine: fused multiply-adds that wait
// for nothing. For benchmarks.

#ifndef QEFF_KERNELS_SGEMM_FMA_PEAK_H_
#define QEFF_KERNELS_SGEMM_FMA_PEAK_H_

#include <cstdint>

namespace qeff {

// `steps` times twelve independent multiply-adds of the widest vectors, in
// registers, by this thread; fused where the target can.
void RunFusedMultiplyAdds(int64_t steps);

// Multiplications and additions of one step.
int64_t OperationsOfFusedMultiplyAdds();

}  // namespace qeff

#endif  // QEFF_KERNELS_SGEMM_FMA_PEAK_H_
