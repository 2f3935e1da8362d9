// SPDX-License-Identifier: Apache-2.0
//
// A program for one kind of processor that is linked with this says on another
// what that lacks and exits with 5, before its constructors run: the first new
// instruction would kill it with SIGILL. For programs that
// --config=device-... builds; the others choose their kernels at run time.

#ifndef QEFF_DEVICE_CPU_CHECK_H_
#define QEFF_DEVICE_CPU_CHECK_H_

#include "qeff/device/compiled_for.h"

namespace qeff {

// The first thing of `wanted` that this processor lacks, or null. Thread-safe.
const char* FindMissingInCpu(const CompiledFor& wanted);

}  // namespace qeff

#endif  // QEFF_DEVICE_CPU_CHECK_H_
