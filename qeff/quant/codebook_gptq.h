// SPDX-License-Identifier: Apache-2.0
//
// GPTQ into codes of a table (nf4, fp8_e4m3, mxfp4, mxfp6, mxint8): what gptq.h
// does for integers.
//
//   GptqOptions options;
//   QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("mxfp4"));
//   options.scale_dtype = ScaleDType(options.scheme, DType::kBF16);
//   const FactoredHessian factored =
//       FactorHessian(std::move(hessian), options, pool);
//   QEFF_ASSIGN_OR_RETURN(
//       CodebookGptqResult result,
//       QuantizeCodebookGptq(weights, factored, options, pool));

#ifndef QEFF_QUANT_CODEBOOK_GPTQ_H_
#define QEFF_QUANT_CODEBOOK_GPTQ_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Rounding is to the nearest value with the scales of RoundingScale.
struct CodebookGptqResult : GptqLosses {
  std::vector<uint8_t> codes;   // [rows, cols], one a byte
  std::vector<uint8_t> scales;  // [rows, groups] of scale_dtype
};

// Codes of `weights` [rows, cols], which may be some rows of a matrix. Scales
// are fixed first: those of rounding and, with search_groups, those that lose
// least by the Hessian's diagonal (SearchCodebookScale); row by row the better
// is kept, or rounding. Without a usable Hessian weights are rounded. Errors:
// kDataLoss naming the first weight that is NaN or infinite. Preconditions
// (checked): scheme.codebook, the sizes. Cost and memory: as QuantizeGptq. The
// same bits for any number of threads. Thread-safe; throws std::bad_alloc.
absl::StatusOr<CodebookGptqResult> QuantizeCodebookGptq(
    MatrixView<const float> weights, const FactoredHessian& hessian,
    const GptqOptions& options, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_CODEBOOK_GPTQ_H_
