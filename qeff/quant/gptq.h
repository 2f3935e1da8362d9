// SPDX-License-Identifier: Apache-2.0
//
// GPTQ: codes of one linear layer that propagate the error of each column into
// those that follow, so that the layer's outputs on calibration data stay
// close.
//
//   GptqOptions options;
//   QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("int4_g128"));
//   const FactoredHessian factored =
//       FactorHessian(std::move(hessian), options, pool);
//   QEFF_ASSIGN_OR_RETURN(GptqResult result,
//                         QuantizeGptq(weights, factored, options, pool));
//
// Source: Frantar et al., "GPTQ", arXiv 2210.17323; the order by H's diagonal
// with groups that are fixed first ("static groups"): its reference code.

#ifndef QEFF_QUANT_GPTQ_H_
#define QEFF_QUANT_GPTQ_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq_sweep.h"
#include "qeff/quant/timed_products.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

struct GptqOptions {
  QuantScheme scheme;
  DType scale_dtype = DType::kBF16;
  // Columns in falling order of their inputs' energy; else as they come. Small
  // models need it: without, they end up worse than rounding.
  bool order_by_energy = true;
  // Columns [i * order_group, (i + 1) * order_group) stay together, in their
  // order.
  int order_group = 1;
  // False: rounding to nearest, for which the Hessian says what it loses.
  bool propagate = true;
  // Tries LeastErrorParams with the Hessian's diagonal beside the parameters
  // of ranges, and keeps, row by row, what loses less.
  bool search_groups = true;
  // Then improves codes and scales in turns (gptq_refine.h).
  bool refine = true;
  // Added to the diagonal, relative to its mean. Where the Hessian is not
  // positive definite then, ten and a hundred times this is tried.
  double damping = 0.01;
};

// The Hessian of inputs that several layers may share, ready to quantize them.
struct FactoredHessian {
  // The column that comes i-th; empty without a factor.
  std::vector<int64_t> order;
  Matrix<float> factor;       // R of FactorUpper, in that order
  Matrix<float> inverses;     // of its blocks on the diagonal
  std::vector<float> energy;  // the Hessian's diagonal, by column
  Matrix<float> damped;       // the damped Hessian, to refine with; or empty
  double damping = 0;         // that was added to the diagonal
  int64_t dead_inputs = 0;    // that were always 0
  TimedWork products;         // that factoring took

  // False where no damping made the Hessian positive definite, or it is not
  // finite: layers are rounded then.
  bool usable() const { return !order.empty(); }
};

// Factors `hessian` [cols, cols] = sum over tokens of x x^T times any factor,
// of which only what is on and above the diagonal is read. Cost: FactorUpper's.
// Memory: a copy of it.
// The same bits for any number of threads. Precondition (checked): square.
FactoredHessian FactorHessian(Matrix<float> hessian, const GptqOptions& options,
                              ThreadPool& pool);

struct GptqResult : GptqLosses {
  std::vector<uint8_t> codes;   // [rows, cols], one a byte
  std::vector<uint8_t> scales;  // [rows, groups] of scale_dtype
  std::vector<uint8_t> zeros;   // [rows, groups] codes of 0; symmetric: empty
};

// Errors: kDataLoss naming the first weight that is NaN or infinite.
absl::Status CheckFinite(MatrixView<const float> weights);

// Codes of `weights` [rows, cols] = [out, in features], which may be some rows
// of a matrix. Weights that are exactly 0 were removed by pruning and stay 0.
// Errors: kDataLoss naming the first weight that is NaN or
// infinite. Precondition (checked): the sizes.
//
// With H = R R^T (FactorUpper) the loss is the sum over columns j of
// (sum over i <= j of d_i R_ij)^2, d being what rounding leaves: column j is
// rounded where that is least, w_j + (sum over i < j of d_i R_ij) / R_jj. This
// gives the codes of the paper's update by U = R^-1, without inverting.
// Cost: a product of the weights with a matrix [cols, cols], half of it for
// rounding_loss; refine takes GptqRefiner::ProductsFor more. Memory: two
// matrices of the weights' size beside the arguments, and three times the
// result. The same bits for any number of threads. Thread-safe; throws
// std::bad_alloc.
absl::StatusOr<GptqResult> QuantizeGptq(MatrixView<const float> weights,
                                        const FactoredHessian& hessian,
                                        const GptqOptions& options,
                                        ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_GPTQ_H_
