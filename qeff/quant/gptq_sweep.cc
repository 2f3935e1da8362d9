// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq_sweep.h"

namespace qeff {

std::vector<uint8_t> CodesInPlace(const std::vector<uint8_t>& codes,
                                  const std::vector<int64_t>& order,
                                  ThreadPool& pool) {
  const int64_t cols = static_cast<int64_t>(order.size());
  std::vector<uint8_t> result(codes.size());
  pool.ParallelFor(static_cast<int64_t>(codes.size()) / cols,
                   GptqLayer::kRowsOfTask,
                   [&](int64_t row, int64_t end, int /*thread*/) {
                     for (; row < end; ++row) {
                       const uint8_t* from = codes.data() + row * cols;
                       uint8_t* to = result.data() + row * cols;
                       for (int64_t i = 0; i < cols; ++i) {
                         to[order[static_cast<size_t>(i)]] = from[i];
                       }
                     }
                   });
  return result;
}

}  // namespace qeff
