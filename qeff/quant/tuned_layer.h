// SPDX-License-Identifier: Apache-2.0
//
// A quantized layer whose codes and scales are learned by gradients in the
// weights that they stand for (straight through the rounding). A code is a
// number of steps (step_format.h) that is rounded: gradients move it until it
// rounds to another one.
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
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/quant/step_format.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Functions of a row are thread-safe for different rows; the rest is not.
class TunedLayer {
 public:
  // What steps of a solved code may be off: less than half, so that it takes
  // several gradients of one direction to change it.
  static constexpr float kMargin = 0.45f;

  // Of a layer [rows, cols], whose scales are stored as `scale_dtype` but in
  // ggml's blocks. Memory: 5 bytes a weight, and what is around a group.
  // Throws std::bad_alloc.
  TunedLayer(const QuantScheme& scheme, DType scale_dtype, int64_t rows,
             int64_t cols);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return format_.cols(); }
  int bits() const { return bits_; }  // that its steps take

  // Rows from `begin` on begin with `solved` for what was `weights`.
  void SetRows(int64_t begin, MatrixView<const float> weights,
               const QuantizedRowBytes& solved);

  // What row `row` stands for, as a reader of the file computes it.
  void Render(int64_t row, float* weights) const;

  // But for weights that are exactly 0, which stay so, steps move by
  // `code_rate` against the sign of their gradients, scales, and in ggml's
  // blocks the unit of offsets, by `scale_rate` times what they began with,
  // neither through 0 nor to less than a quarter of that. Powers of two stay.
  // `gradient`: of a loss in the row's weights.
  void Update(int64_t row, const float* gradient, float code_rate,
              float scale_rate);

  // Remembers codes and scales; returns to those that were remembered last.
  void Keep();
  void Return();

  // What is stored of all rows.
  StoredSteps Pack(ThreadPool& pool) const;

 private:
  // A number that is stored.
  struct Learned {
    float value = 0;  // as it is stored
    float exact = 0;  // before it is rounded to that
    float start = 0;
  };
  struct Scale {
    Learned scale, floor;
  };

  // body(scale, group, first column, number of columns).
  template <class Body>
  void ForGroups(int64_t row, Body body) const;

  void Move(float gradient, float rate, Learned* learned) const;

  const StepFormat format_;
  int bits_ = 0;
  int64_t rows_;
  Matrix<float> steps_;  // [rows, cols]
  std::vector<StepGroup> groups_;
  std::vector<Scale> scales_;
  std::vector<uint8_t> kept_steps_;
  std::vector<StepScale> kept_scales_;
};

}  // namespace qeff

#endif  // QEFF_QUANT_TUNED_LAYER_H_
