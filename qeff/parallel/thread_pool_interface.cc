// SPDX-License-Identifier: Apache-2.0

#include "qeff/parallel/thread_pool_interface.h"

#include <algorithm>

#include "qeff/util/checked.h"

namespace qeff {

int64_t BalancedGrain(int64_t count, int num_threads, int64_t min_grain) {
  return std::max(min_grain,
                  CeilDiv(count, static_cast<int64_t>(num_threads) * 8));
}

}  // namespace qeff
