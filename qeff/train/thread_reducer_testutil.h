// SPDX-License-Identifier: Apache-2.0
//
// Ranks that are threads of a test, to try what processes do without MPI.

#ifndef QEFF_TRAIN_THREAD_REDUCER_TESTUTIL_H_
#define QEFF_TRAIN_THREAD_REDUCER_TESTUTIL_H_

#include <functional>

#include "qeff/train/gradient_reducer.h"

namespace qeff {

// Calls `work` in `ranks` threads, each with the reducer of its rank, until all
// have returned. Checks that all make the same calls in the same order, and
// that nobody waits for a call for more than a minute.
void RunRanks(int ranks, const std::function<void(GradientReducer*)>& work);

}  // namespace qeff

#endif  // QEFF_TRAIN_THREAD_REDUCER_TESTUTIL_H_
