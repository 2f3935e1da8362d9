// SPDX-License-Identifier: Apache-2.0
//
// Rows of a layer through GPTQ, whatever their scheme: what is stored of them,
// and what a reader makes of that.

#ifndef QEFF_QUANT_SOLVE_ROWS_H_
#define QEFF_QUANT_SOLVE_ROWS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// As QuantizedRowBytes; what the scheme does not have is empty.
struct SolvedRows : GptqLosses {
  std::vector<uint8_t> packed;
  std::vector<uint8_t> scales;
  std::vector<uint8_t> zeros;
  std::vector<uint8_t> blocks;

  QuantizedRowBytes bytes() const { return {packed, scales, zeros, blocks}; }
};

// QuantizeGptq, QuantizeGgmlGptq or QuantizeCodebookGptq, by options.scheme;
// `weights` are replaced by the values of the result. Errors and costs: those
// of the function that is called.
absl::StatusOr<SolvedRows> SolveRows(MatrixView<float> weights,
                                     const FactoredHessian& hessian,
                                     const GptqOptions& options,
                                     ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_SOLVE_ROWS_H_
