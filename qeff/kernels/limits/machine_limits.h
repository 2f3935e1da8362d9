// SPDX-License-Identifier: Apache-2.0
//
// How fast this machine can compute and read, measured beside a kernel so that
// other work slows both alike. For benchmarks.
//
//   const double time = SecondsOf(pool, [&] { MatMulInt(...); });
//   const double peak =
//       PeakRate(pool, RunDotProducts, OperationsOfDotProducts());
//   ... operations / time / peak ...

#ifndef QEFF_KERNELS_LIMITS_MACHINE_LIMITS_H_
#define QEFF_KERNELS_LIMITS_MACHINE_LIMITS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"

namespace qeff {

// Seconds that `body` takes, which runs on `pool`: with one thread of processor
// time, which does not count what others do, else of the clock.
double SecondsOf(const ThreadPool& pool, absl::FunctionRef<void()> body);

// The larger of the two in the middle. Precondition: not empty.
double Median(std::vector<double> values);

// Operations a second of all threads of `pool` at once, each calling
// `run_steps`, a step of which has `operations_of_step`.
double PeakRate(ThreadPool& pool, void (*run_steps)(int64_t steps),
                int64_t operations_of_step);

// Memory for ReadBandwidth, every page of it written: pages that are not are
// one page of zeros, which caches hold. Throws std::bad_alloc.
AlignedArray<uint8_t> MemoryToRead(size_t bytes);

// Bytes a second of all threads at once that read `memory` in order, as
// MatMulInt reads weights: the faster of with and without fetching pages ahead.
// `memory` is written before (MemoryToRead), 64-byte aligned and larger than
// the caches, 256 KiB or more.
double ReadBandwidth(ThreadPool& pool, absl::Span<const uint8_t> memory);

}  // namespace qeff

#endif  // QEFF_KERNELS_LIMITS_MACHINE_LIMITS_H_
