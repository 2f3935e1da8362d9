// SPDX-License-Identifier: Apache-2.0
//
// GPTQ into ggml's blocks: what gptq.h does, for groups whose value is
// scale * code - offset and whose scales share a block's. llama.cpp's quantizer
// weights its rounding by an importance matrix, the Hessian's diagonal; this
// one carries errors on by all of the Hessian.
//
//   GptqOptions options;
//   QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("q4_k"));
//   const FactoredHessian factored =
//       FactorHessian(std::move(hessian), options, pool);
//   QEFF_ASSIGN_OR_RETURN(GgmlGptqResult result,
//                         QuantizeGgmlGptq(weights, factored, options, pool));

#ifndef QEFF_QUANT_GGML_GPTQ_H_
#define QEFF_QUANT_GGML_GPTQ_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Rounding is to the nearest value of the blocks that ChooseGgmlParams finds
// with all columns equally important.
struct GgmlGptqResult : GptqLosses {
  std::vector<uint8_t> blocks;  // [rows, bytes of a row]
};

// Blocks of options.scheme.ggml for `weights` [rows, cols], which may be some
// rows of a matrix. Parameters are fixed first (ChooseGgmlParams): without
// importance of the columns and, with search_groups, with; row by row the
// better is kept, or rounding. Without a usable Hessian weights are rounded.
// Errors: kDataLoss naming the first weight that is NaN, infinite or too large
// for the type. Preconditions (checked): a type that is set, the sizes, and
// rows that are whole blocks. Cost: as QuantizeGptq, and twice ChooseGgmlParams
// for each block. The same bits for any number of threads. Thread-safe; throws
// std::bad_alloc.
absl::StatusOr<GgmlGptqResult> QuantizeGgmlGptq(MatrixView<const float> weights,
                                                const FactoredHessian& hessian,
                                                const GptqOptions& options,
                                                ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_GGML_GPTQ_H_
