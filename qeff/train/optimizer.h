// SPDX-License-Identifier: Apache-2.0
//
// From gradients to weights: AdamW, and Adafactor where two more floats a
// weight are too much.

#ifndef QEFF_TRAIN_OPTIMIZER_H_
#define QEFF_TRAIN_OPTIMIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

enum class OptimizerKind : uint8_t { kAdamW, kAdafactor };

// "adamw", "adafactor". Errors: kInvalidArgument.
absl::StatusOr<OptimizerKind> ParseOptimizerKind(absl::string_view name);
absl::string_view OptimizerKindName(OptimizerKind kind);

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double weight_decay = 0.1;  // times the learning rate, each step
  // AdamW only.
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
};

struct ParameterShape {
  std::string name;
  int64_t rows = 1;  // 1 for vectors
  int64_t cols = 1;
  bool decays = true;  // false for norms and biases
};

// Changes the parameters that it was created for. Not thread-safe.
//
// kAdamW, with the gradient g (scaled) in step t:
//   m = beta1 m + (1 - beta1) g         v = beta2 v + (1 - beta2) g^2
//   value -= rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
//                  + weight_decay value)
// Moments below the smallest normal float32 are taken for 0. Source: Loshchilov
// and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2.
//
// kAdafactor, without momentum, with a rate from outside and the same decay:
//   beta = 1 - t^-0.8       r, c = means over columns, over rows, of
//                           beta (r, c) + (1 - beta) (g^2 + 1e-30)
//   u = g / sqrt(r c / mean(r))       value -= rate (u / max(1, rms(u))
//                                                    + weight_decay value)
// and with the squares as they are instead of r c where there is one row or one
// column. Source: Shazeer and Stern, "Adafactor: adaptive learning rates with
// sublinear memory cost", 2018, arXiv 1804.04235, algorithms 4 and 5.
class Optimizer {
 public:
  // Before the first step. The state takes two floats a weight for AdamW, and
  // for Adafactor rows + cols (for vectors one a weight). Errors:
  // kInvalidArgument for an option out of its range. Throws std::bad_alloc.
  // Precondition (checked): rows and cols are positive.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(
      const OptimizerOptions& options,
      const std::vector<ParameterShape>& shapes);

  virtual ~Optimizer() = default;

  // Takes step `step`, the first being 1, of parameter number `parameter` with
  // `learning_rate`. The gradient is `gradient_scale` times `gradient`, so that
  // clipping or averaging it takes no pass of its own. A gradient that is not
  // finite spoils state and value: look first (squared_norm.h). The same bits
  // for any number of threads. Cost: AdamW 28 bytes, Adafactor 20 bytes of
  // memory traffic a weight. Preconditions (checked): both spans have rows *
  // cols elements, step >= 1.
  virtual void Step(size_t parameter, int64_t step, double learning_rate,
                    float gradient_scale, absl::Span<const float> gradient,
                    absl::Span<float> value, ThreadPool& pool) = 0;

  // All that later steps depend on, by names ("NAME.first_moment") that are the
  // same for the same options and shapes, in their order. Who resumes writes
  // into the spans, which live as long as the optimizer.
  virtual std::vector<std::pair<std::string, absl::Span<float>>> State() = 0;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_OPTIMIZER_H_
