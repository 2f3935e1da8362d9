// SPDX-License-Identifier: Apache-2.0
//
// Creates thread pools for hosts. Code that only uses a pool needs
// thread_pool_interface.h.

#ifndef QEFF_PARALLEL_THREAD_POOL_H_
#define QEFF_PARALLEL_THREAD_POOL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool_interface.h"  // IWYU pragma: export

namespace qeff {

// A pool over pthreadpool with `num_threads` threads (the caller is one of
// them). Errors: kInvalidArgument unless 1 <= num_threads <= 1024;
// kResourceExhausted when the system refuses to start threads.
absl::StatusOr<std::unique_ptr<ThreadPool>> CreateThreadPool(int num_threads);

// Number of processors that this process may use, at least 1.
int NumAvailableProcessors();

}  // namespace qeff

#endif  // QEFF_PARALLEL_THREAD_POOL_H_
