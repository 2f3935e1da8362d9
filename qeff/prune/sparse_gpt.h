// SPDX-License-Identifier: Apache-2.0
//
// Prunes a layer with its inputs in sight: which weights go is decided column
// after column, by what removing one costs after all later columns have made up
// for it, and these do.
//
//   const FactoredHessian hessian = FactorHessian(
//       std::move(inputs), SparseGptFactorOptions(pattern, damping), pool);
//   PruneSparseGpt(pattern, hessian, kFitPasses, weights, pool);
//
// Source: Frantar and Alistarh, "SparseGPT", arXiv 2301.00774.

#ifndef QEFF_PRUNE_SPARSE_GPT_H_
#define QEFF_PRUNE_SPARSE_GPT_H_

#include <cstdint>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/sparsity_pattern.h"
#include "qeff/quant/gptq.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// How a Hessian is to be factored: groups of the pattern stay together.
GptqOptions SparseGptFactorOptions(const SparsityPattern& pattern,
                                   double damping);

// Prunes `weights` W [rows, cols] = [out, in features] to Q. Weights that are 0
// before stay 0 and count as removed. Returns, by row, (W - Q) H (W - Q)^T with
// the damped Hessian.
//
// With H = R R^T (FactorUpper) the loss is the sum over columns j of (sum over
// i <= j of d_i R_ij)^2, d being what is taken away: a column that is kept
// makes its term 0, one that is removed pays (wanted_j R_jj)^2, which is the
// paper's w_j^2 / U_jj^2 with U = R^-1. That decides: in blocks of 128 columns,
// once for all rows of a block before it is gone through; or with N:M for each
// group when it comes. Beyond the paper, columns come in falling order of their
// inputs' energy (groups of M stay together), and `fit_passes` of FitSurvivors
// follow, in which early columns make up for later ones, too; 0 for none.
//
// Cost: rows * cols^2 multiplications and additions as products of blocks, and
// those of FitSurvivors. Memory: three matrices of the weights' size. The same
// bits for any number of threads. Preconditions (checked): hessian.usable(),
// with its damped matrix if there are passes; the sizes. Throws std::bad_alloc.
std::vector<double> PruneSparseGpt(const SparsityPattern& pattern,
                                   const FactoredHessian& hessian,
                                   int fit_passes, MatrixView<float> weights,
                                   ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_SPARSE_GPT_H_
