// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq_refine.h"

#include "Eigen/Cholesky"
#include "Eigen/Core"

namespace qeff {

bool SolveSymmetric(MatrixView<const double> a, absl::Span<double> b) {
  const Eigen::Index n = static_cast<Eigen::Index>(b.size());
  Eigen::MatrixXd matrix(n, n);
  for (Eigen::Index i = 0; i < n; ++i) {
    for (Eigen::Index j = 0; j < n; ++j) {
      matrix(i, j) = (a.row(i)[j] + a.row(j)[i]) / 2;
    }
    // A group without codes has no say.
    if (!(matrix(i, i) > 0)) {
      matrix(i, i) = 1;
      b[static_cast<size_t>(i)] = 0;
    }
  }
  const Eigen::LDLT<Eigen::MatrixXd> factor(matrix);
  if (factor.info() != Eigen::Success || !factor.isPositive()) return false;
  Eigen::Map<Eigen::VectorXd> x(b.data(), n);
  x = factor.solve(x).eval();
  return x.allFinite();
}

}  // namespace qeff
