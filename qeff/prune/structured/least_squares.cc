// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/least_squares.h"

#include <cmath>
#include <utility>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/gap_correction.h"
#include "qeff/quant/gptq.h"
#include "qeff/util/check.h"

namespace qeff {

void LeastSquares::Add(MatrixView<const float> inputs,
                       MatrixView<const float> errors, ThreadPool& pool) {
  QEFF_CHECK(inputs.rows() == errors.rows());
  SgemmArgs args;
  args.a = args.b = inputs;
  args.a_transposed = true;
  args.c = hessian_.view();
  args.update = SgemmUpdate::kAdd;
  args.upper_only = true;
  Sgemm(args, pool);
  args.a = errors;
  args.c = product_.view();
  args.upper_only = false;
  Sgemm(args, pool);
}

bool LeastSquares::Correct(double damping, MatrixView<float> weights,
                           ThreadPool& pool) {
  QEFF_CHECK(weights.rows() == product_.rows() &&
             weights.cols() == product_.cols());
  GptqOptions options;
  options.refine = false;
  options.damping = damping;
  const FactoredHessian factored =
      FactorHessian(std::move(hessian_), options, pool);
  if (!factored.usable()) return false;
  SolveHessian(factored, product_.view(), pool);
  for (const float value : product_.span()) {
    if (!std::isfinite(value)) return false;
  }
  for (int64_t r = 0; r < weights.rows(); ++r) {
    for (int64_t c = 0; c < weights.cols(); ++c) {
      weights.row(r)[c] += product_.row(r)[c];
    }
  }
  return true;
}

}  // namespace qeff
