// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/solve_rows.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/types/span.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/quant/codebook_gptq.h"
#include "qeff/quant/ggml_gptq.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

// Codes [rows, cols], one a byte, packed row by row.
std::vector<uint8_t> PackRows(const QuantizedShape& shape, int bits,
                              absl::Span<const uint8_t> codes,
                              ThreadPool& pool) {
  const size_t row_bytes = static_cast<size_t>(shape.row_bytes);
  const size_t cols = static_cast<size_t>(shape.cols);
  std::vector<uint8_t> packed(static_cast<size_t>(shape.rows) * row_bytes);
  pool.ParallelFor(
      shape.rows, kRowsOfTask, [&](int64_t begin, int64_t end, int /*thread*/) {
        for (size_t r = static_cast<size_t>(begin);
             r < static_cast<size_t>(end); ++r) {
          PackCodebookRow(
              bits, codes.subspan(r * cols, cols),
              absl::MakeSpan(packed).subspan(r * row_bytes, row_bytes));
        }
      });
  return packed;
}

// What the codes stand for, as a reader of the file computes it.
void Dequantize(const QuantizedShape& shape, const QuantScheme& scheme,
                DType scale_dtype, const GptqResult& result,
                MatrixView<float> out, ThreadPool& pool) {
  const size_t scale_bytes = DTypeBytes(scale_dtype);
  pool.ParallelFor(
      shape.rows, kRowsOfTask, [&](int64_t row, int64_t end, int /*thread*/) {
        for (; row < end; ++row) {
          const uint8_t* codes = result.codes.data() + row * shape.cols;
          for (int64_t g = 0; g < shape.groups; ++g) {
            const size_t group = static_cast<size_t>(row * shape.groups + g);
            const float scale = LoadScale(
                scale_dtype, result.scales.data() + group * scale_bytes);
            const int zero =
                shape.asymmetric ? result.zeros[group] : 1 << (scheme.bits - 1);
            const int64_t last =
                std::min(shape.cols, (g + 1) * shape.group_elems);
            for (int64_t c = g * shape.group_elems; c < last; ++c) {
              out.row(row)[c] = DequantizeValue(codes[c], zero, scale);
            }
          }
        }
      });
}

absl::StatusOr<SolvedRows> SolveIntegers(MatrixView<float> weights,
                                         const FactoredHessian& hessian,
                                         const GptqOptions& options,
                                         ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(GptqResult result,
                        QuantizeGptq(weights, hessian, options, pool));
  const QuantizedShape shape(options.scheme, weights.rows(), weights.cols());
  SolvedRows solved;
  static_cast<GptqLosses&>(solved) = result;
  solved.packed = PackRows(shape, options.scheme.bits, result.codes, pool);
  Dequantize(shape, options.scheme, options.scale_dtype, result, weights, pool);
  solved.scales = std::move(result.scales);
  solved.zeros = std::move(result.zeros);
  return solved;
}

absl::StatusOr<SolvedRows> SolveCodebook(MatrixView<float> weights,
                                         const FactoredHessian& hessian,
                                         const GptqOptions& options,
                                         ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(CodebookGptqResult result,
                        QuantizeCodebookGptq(weights, hessian, options, pool));
  const QuantizedShape shape(options.scheme, weights.rows(), weights.cols());
  SolvedRows solved;
  static_cast<GptqLosses&>(solved) = result;
  solved.packed = PackRows(shape, options.scheme.bits, result.codes, pool);
  solved.scales = std::move(result.scales);
  CodebookRowsView rows;
  rows.codebook = *options.scheme.codebook;
  rows.cols = shape.cols;
  rows.group_elems = shape.group_elems;
  rows.row_bytes = shape.row_bytes;
  rows.scale_dtype = options.scale_dtype;
  rows.packed = solved.packed;
  rows.scales = solved.scales;
  pool.ParallelFor(
      shape.rows, kRowsOfTask, [&](int64_t row, int64_t end, int /*thread*/) {
        for (; row < end; ++row) {
          DecodeCodebookRow(rows, row,
                            absl::MakeSpan(weights.row(row),
                                           static_cast<size_t>(shape.cols)));
        }
      });
  return solved;
}

absl::StatusOr<SolvedRows> SolveBlocks(MatrixView<float> weights,
                                       const FactoredHessian& hessian,
                                       const GptqOptions& options,
                                       ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(GgmlGptqResult result,
                        QuantizeGgmlGptq(weights, hessian, options, pool));
  SolvedRows solved;
  static_cast<GptqLosses&>(solved) = result;
  solved.blocks = std::move(result.blocks);
  const size_t cols = static_cast<size_t>(weights.cols());
  const size_t row_bytes =
      solved.blocks.size() / static_cast<size_t>(weights.rows());
  pool.ParallelFor(
      weights.rows(), kRowsOfTask,
      [&](int64_t row, int64_t end, int /*thread*/) {
        for (; row < end; ++row) {
          DecodeGgmlRow(
              *options.scheme.ggml,
              absl::MakeConstSpan(solved.blocks)
                  .subspan(static_cast<size_t>(row) * row_bytes, row_bytes),
              absl::MakeSpan(weights.row(row), cols));
        }
      });
  return solved;
}

}  // namespace

absl::StatusOr<SolvedRows> SolveRows(MatrixView<float> weights,
                                     const FactoredHessian& hessian,
                                     const GptqOptions& options,
                                     ThreadPool& pool) {
  if (options.scheme.ggml.has_value()) {
    return SolveBlocks(weights, hessian, options, pool);
  }
  if (options.scheme.codebook.has_value()) {
    return SolveCodebook(weights, hessian, options, pool);
  }
  return SolveIntegers(weights, hessian, options, pool);
}

}  // namespace qeff
