// SPDX-License-Identifier: Apache-2.0
//
// A quantized layer whose codes and scales are learned by gradients in the
// weights that they stand for (straight through the rounding). A code is a
// number of steps that is rounded: gradients move it until it rounds to
// another one.
//
// Source: Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent
// for the Quantization of LLMs", arXiv 2309.05516. There steps begin at
// w / scale, and V in [-0.5, 0.5] is added. Here they begin at codes that were
// solved already, moved towards w / scale by at most kMargin.

#ifndef QEFF_QUANT_TUNED_LAYER_H_
#define QEFF_QUANT_TUNED_LAYER_H_

#include <cstdint>
#include <vector>

#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Functions of a row are thread-safe for different rows; the rest is not.
class TunedLayer {
 public:
  // What steps of a solved code may be off: less than half, so that it takes
  // several gradients of one direction to change it.
  static constexpr float kMargin = 0.45f;

  // Of a layer [rows, cols] with a scheme of integers, whose scales are stored
  // as `scale_dtype`. Memory: 5 bytes a weight. Throws std::bad_alloc.
  TunedLayer(const QuantScheme& scheme, DType scale_dtype, int64_t rows,
             int64_t cols);

  int64_t rows() const { return shape_.rows; }
  int64_t cols() const { return shape_.cols; }
  int bits() const { return scheme_.bits; }

  // Rows from `begin` on begin with `solved` for what was `weights`.
  void SetRows(int64_t begin, MatrixView<const float> weights,
               const QuantizedRowBytes& solved);

  // What row `row` stands for, as a reader of the file computes it.
  void Render(int64_t row, float* weights) const;

  // But for weights that are exactly 0, which stay so, steps move by
  // `code_rate` against the sign of their gradients, scales by
  // `scale_rate` times what they began with, neither through 0 nor to less
  // than a quarter of that. `gradient`: of a loss in the row's weights.
  void Update(int64_t row, const float* gradient, float code_rate,
              float scale_rate);

  // Remembers codes and scales; returns to those that were remembered last.
  void Keep();
  void Return();

  // What is stored of all rows.
  struct Packed {
    std::vector<uint8_t> codes, scales, zeros;
    QuantizedRowBytes bytes() const { return {codes, scales, zeros}; }
  };
  Packed Pack(ThreadPool& pool) const;

 private:
  struct Group {
    float scale;    // as it is stored
    float learned;  // before it is rounded to that
    float start;
    float zero;
  };

  // body(group, first column, number of columns).
  template <class Body>
  void ForGroups(int64_t row, Body body) const;

  QuantScheme scheme_;
  DType scale_dtype_;
  QuantizedShape shape_;
  Matrix<float> steps_;        // [rows, cols]
  std::vector<Group> groups_;  // [rows, groups]
  std::vector<uint8_t> kept_codes_;
  std::vector<float> kept_scales_;
};

}  // namespace qeff

#endif  // QEFF_QUANT_TUNED_LAYER_H_
