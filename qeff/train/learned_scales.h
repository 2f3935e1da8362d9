// SPDX-License-Identifier: Apache-2.0
//
// A matrix as integer codes whose scales are trained together with the weights:
// what is left of training once few bits make the scales matter.
//
// Source: Esser et al. 2019 (learned step size quantization), arXiv 1902.08153;
// trained is the logarithm of a scale, so that a step changes it by a share of
// itself, whatever it is.

#ifndef QEFF_TRAIN_LEARNED_SCALES_H_
#define QEFF_TRAIN_LEARNED_SCALES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Not thread-safe. The same bits for any number of threads.
class LearnedScales {
 public:
  // Begins with the scales of LeastErrorParams for `weights` [rows, cols], in
  // BF16. Precondition: a symmetric scheme of integers. Throws std::bad_alloc.
  LearnedScales(const QuantScheme& scheme, MatrixView<const float> weights,
                ThreadPool& pool);

  // What is trained, [rows, groups], beginning with zeros: the scale of a group
  // is its first one times e^factor, rounded to BF16. And its gradient.
  Matrix<float>& log_factors() { return log_factors_; }
  Matrix<float>& gradient() { return gradient_; }

  // values = codes * scales of `weights`, shaped as they are.
  void Round(MatrixView<const float> weights, MatrixView<float> values,
             ThreadPool& pool) const;

  // From `gradient` in the values to that in the weights, in place, and to
  // gradient() (set): with w^ = clip(round(w / s)) s
  //   dw = dw^ where w / s is not clipped, else 0
  //   dlog s = sum over the group of dw^ s (clip(round(w / s)) - w / s), with
  //            0 for w / s where it is clipped
  void Backward(MatrixView<const float> weights, MatrixView<float> gradient,
                ThreadPool& pool);

  // Of rows [begin, begin + count) of `weights`: codes, packed densely, and
  // scales in BF16, as QuantizeRows lays them out.
  void Encode(MatrixView<const float> weights, int64_t begin, int64_t count,
              std::vector<uint8_t>* packed, std::vector<uint8_t>* scales) const;

 private:
  GroupParams ParamsOf(int64_t row, int64_t group) const;

  const QuantScheme scheme_;
  int64_t group_elems_;
  Matrix<float> first_;  // scales
  Matrix<float> log_factors_, gradient_;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_LEARNED_SCALES_H_
