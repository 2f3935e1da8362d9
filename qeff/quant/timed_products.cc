// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/timed_products.h"

#include <cstdint>

namespace qeff {

void TimedProducts::Run(const SgemmArgs& args) {
  const WorkWatch watch(&work_.seconds);
  Sgemm(args, pool_, scratch_);
  const int64_t depth = args.a_transposed ? args.a.rows() : args.a.cols();
  work_.flops += 2.0 * static_cast<double>(args.c.rows()) *
                 static_cast<double>(args.c.cols()) *
                 static_cast<double>(depth);
}

}  // namespace qeff
