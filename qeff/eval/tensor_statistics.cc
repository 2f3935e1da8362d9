// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/tensor_statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr int64_t kChunkElems = int64_t{1} << 20;
constexpr int64_t kBufferElems = 4096;

struct Partial {
  double sum = 0;
  double squares = 0;
  double max_abs = 0;
  int64_t finite = 0;
  int64_t not_finite = 0;
};

Partial Accumulate(const TensorView& tensor, int64_t begin, int64_t end) {
  Partial partial;
  float buffer[kBufferElems];
  for (int64_t i = begin; i < end; i += kBufferElems) {
    const int64_t count = std::min(kBufferElems, end - i);
    ReadFloats(tensor, i, absl::MakeSpan(buffer, count));
    for (int64_t j = 0; j < count; ++j) {
      const double v = buffer[j];
      if (!std::isfinite(v)) {
        ++partial.not_finite;
        continue;
      }
      ++partial.finite;
      partial.sum += v;
      partial.squares += v * v;
      partial.max_abs = std::max(partial.max_abs, std::abs(v));
    }
  }
  return partial;
}

}  // namespace

TensorStatistics ComputeStatistics(
    const TensorView& tensor, ThreadPool* pool,
    absl::FunctionRef<void(const TensorView&)> chunk_done) {
  QEFF_CHECK(IsFloating(tensor.dtype));
  const int64_t elems = tensor.num_elements();
  const int64_t element_bytes = static_cast<int64_t>(DTypeBytes(tensor.dtype));
  std::vector<Partial> partials(
      static_cast<size_t>(CeilDiv(elems, kChunkElems)));
  pool->ParallelFor(elems, kChunkElems, [&](int64_t begin, int64_t end, int) {
    partials[begin / kChunkElems] = Accumulate(tensor, begin, end);
    TensorView part = tensor;
    part.bytes = tensor.bytes.subspan(begin * element_bytes,
                                      (end - begin) * element_bytes);
    chunk_done(part);
  });
  Partial total;
  for (const Partial& p : partials) {
    total.sum += p.sum;
    total.squares += p.squares;
    total.max_abs = std::max(total.max_abs, p.max_abs);
    total.finite += p.finite;
    total.not_finite += p.not_finite;
  }
  TensorStatistics statistics;
  statistics.not_finite = total.not_finite;
  if (total.finite == 0) return statistics;
  const double n = static_cast<double>(total.finite);
  statistics.mean = total.sum / n;
  statistics.standard_deviation = std::sqrt(
      std::max(0.0, total.squares / n - statistics.mean * statistics.mean));
  statistics.max_abs = total.max_abs;
  return statistics;
}

}  // namespace qeff
