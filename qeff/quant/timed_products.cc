// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/timed_products.h"

#include <algorithm>
#include <cstdint>

namespace qeff {

void TimedProducts::Run(const SgemmArgs& args) {
  const WorkWatch watch(&work_.seconds);
  Sgemm(args, pool_, scratch_);
  const int64_t depth = args.a_transposed ? args.a.rows() : args.a.cols();
  const double rows = static_cast<double>(args.c.rows());
  const double cols = static_cast<double>(args.c.cols());
  // On and above the diagonal: all of the first rows, one less of each.
  const double height = std::min(rows, cols);
  const double elements =
      args.upper_only ? height * cols - height * (height - 1) / 2 : rows * cols;
  work_.flops += 2 * elements * static_cast<double>(depth);
}

}  // namespace qeff
