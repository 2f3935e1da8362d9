// SPDX-License-Identifier: Apache-2.0
//
// A thread pool over std::thread alone, for the device and wherever the machine
// may be busy with other work: a loop ends when its ranges are done, and does
// not wait for a thread that the system has not let run. (pthreadpool's loops
// end when every thread has taken part.)

#ifndef QEFF_PARALLEL_STD_THREAD_POOL_H_
#define QEFF_PARALLEL_STD_THREAD_POOL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool_interface.h"

namespace qeff {

// A pool of `num_threads` threads, the caller of ParallelFor being one of them.
// Threads that have nothing to do look for work for about 50 us, then sleep.
// Errors: kInvalidArgument unless 1 <= num_threads <= 1024; kResourceExhausted
// when the system refuses to start threads.
absl::StatusOr<std::unique_ptr<ThreadPool>> CreateStdThreadPool(
    int num_threads);

}  // namespace qeff

#endif  // QEFF_PARALLEL_STD_THREAD_POOL_H_
