// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/timed_products.h"

#include <chrono>
#include <cstdint>

namespace qeff {

void TimedProducts::Run(const SgemmArgs& args) {
  const auto start = std::chrono::steady_clock::now();
  Sgemm(args, pool_, scratch_);
  work_.seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  const int64_t depth = args.a_transposed ? args.a.rows() : args.a.cols();
  work_.flops += 2.0 * static_cast<double>(args.c.rows()) *
                 static_cast<double>(args.c.cols()) *
                 static_cast<double>(depth);
}

}  // namespace qeff
