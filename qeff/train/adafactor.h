// SPDX-License-Identifier: Apache-2.0
//
// Adafactor; see optimizer.h.

#ifndef QEFF_TRAIN_ADAFACTOR_H_
#define QEFF_TRAIN_ADAFACTOR_H_

#include <vector>

#include "qeff/train/optimizer.h"
#include "qeff/util/aligned.h"

namespace qeff {

// Options are checked already.
class Adafactor final : public Optimizer {
 public:
  Adafactor(const OptimizerOptions& options,
            const std::vector<ParameterShape>& shapes);

  void Step(size_t parameter, int64_t step, double learning_rate,
            float gradient_scale, absl::Span<const float> gradient,
            absl::Span<float> value, ThreadPool& pool) override;
  std::vector<std::pair<std::string, absl::Span<float>>> State() override;

 private:
  struct Parameter {
    ParameterShape shape;
    // Means of squares: of each row and of each column, or, for a vector, the
    // decayed square of each element and nothing.
    AlignedArray<float> rows;
    AlignedArray<float> cols;

    bool factored() const { return !cols.empty(); }
  };
  // Of one step.
  struct Rates {
    double old_share;     // beta
    double square_scale;  // gradient_scale^2
    float gradient_scale;
    double learning_rate;
    float decay;
  };

  void StepMatrix(const Rates& rates, const float* gradient, float* value,
                  Parameter& p, ThreadPool& pool);
  // The means of a matrix, and from them what to multiply its rows and columns
  // with.
  void UpdateMeans(const Rates& rates, const float* gradient, Parameter& p,
                   ThreadPool& pool);

  const double weight_decay_;
  std::vector<Parameter> parameters_;

  // For the largest matrix. Sums of columns are made in kRuns runs of rows,
  // whatever the number of threads.
  static constexpr int64_t kRuns = 32;
  AlignedArray<double> col_sums_;  // [kRuns][cols]
  AlignedArray<double> row_sums_;  // [rows]
  AlignedArray<float> row_factors_;
  AlignedArray<float> col_factors_;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_ADAFACTOR_H_
