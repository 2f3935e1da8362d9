// SPDX-License-Identifier: Apache-2.0
//
// AdamW; see optimizer.h.

#ifndef QEFF_TRAIN_ADAMW_H_
#define QEFF_TRAIN_ADAMW_H_

#include <vector>

#include "qeff/train/optimizer.h"
#include "qeff/util/aligned.h"

namespace qeff {

// Options are checked already.
class AdamW final : public Optimizer {
 public:
  AdamW(const OptimizerOptions& options,
        const std::vector<ParameterShape>& shapes);

  void Step(size_t parameter, int64_t step, double learning_rate,
            float gradient_scale, absl::Span<const float> gradient,
            absl::Span<float> value, ThreadPool& pool) override;
  std::vector<std::pair<std::string, absl::Span<float>>> State() override;

 private:
  struct Parameter {
    ParameterShape shape;
    AlignedArray<float> first;  // moments
    AlignedArray<float> second;
  };

  const OptimizerOptions options_;
  std::vector<Parameter> parameters_;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_ADAMW_H_
