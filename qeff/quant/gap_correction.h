// SPDX-License-Identifier: Apache-2.0
//
// Weights that make up for what the layers before have lost. GPTQ keeps a
// layer's outputs for the inputs that it gets; but these inputs come from
// quantized layers, and so does what its outputs are added to. The weights that
// bring the sum closest to the original model's are found by least squares, and
// quantized in place of the original ones.

#ifndef QEFF_QUANT_GAP_CORRECTION_H_
#define QEFF_QUANT_GAP_CORRECTION_H_

#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// rows = rows H^-1 for `rows` [any, cols] and a damped Hessian [cols, cols]: of
// least squares with the products `rows` of errors and inputs. Preconditions
// (checked), numerics and cost: as CorrectForGaps.
void SolveHessian(const FactoredHessian& hessian, MatrixView<float> rows,
                  ThreadPool& pool);

// weights += (weights G + R) H^-1 for `weights` [rows, cols], the rows of a
// layer that `residual_gap` R [rows, cols] (or an empty view, for 0) belongs
// to, and its inputs' damped Hessian H and `input_gap` G [cols, cols]. With
// inputs x, residuals r and those x', r' of the original model,
// H = E x x^T, G = E (x' - x) x^T and R = E (r' - r) x^T
// (InputStatistics), this minimizes
//   E |weights' x' + r' - (weights x + r)|^2
// for the original weights', but for the damping. Preconditions (checked):
// hessian.usable(), the sizes. In float32; the same bits for any number of
// threads. Cost: 2 rows cols^2 multiplications and additions as products of
// blocks. Memory: one matrix of the weights' size. Throws std::bad_alloc.
//
// Source: the term of G is that of Li et al., "GPTAQ: Efficient Finetuning-Free
// Quantization for Asymmetric Calibration", arXiv 2504.02692, in closed form;
// the term of R extends it to the residual stream.
void CorrectForGaps(const FactoredHessian& hessian,
                    MatrixView<const float> input_gap,
                    MatrixView<const float> residual_gap,
                    MatrixView<float> weights, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_GAP_CORRECTION_H_
