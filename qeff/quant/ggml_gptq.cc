// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/ggml_gptq.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/ggml_importance.h"
#include "qeff/quant/gptq_choice.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = GptqLayer::kRowsOfTask;

// Blocks and their sub-blocks, the groups of a sweep. Codes of a sweep are
// those of the format less its smallest.
class GgmlGroups {
 public:
  // Those of a block's sub-blocks are multiples of one.
  static constexpr bool kFreeScales = false;
  struct Params {
    float scale;
    float inverse;  // 0 where the scale is
    float offset;
  };

  // Of blocks that ChooseGgmlParams finds; `importance` is one number a column.
  GgmlGroups(const GgmlBlockFormat& format, MatrixView<const float> weights,
             const std::vector<float>& importance, ThreadPool& pool)
      : format_(format),
        lo_(static_cast<float>(format.min_code)),
        hi_(static_cast<float>(format.max_code)),
        row_blocks_(weights.cols() / format.block_elems),
        row_groups_(weights.cols() / format.sub_block_elems),
        blocks_(static_cast<size_t>(weights.rows() * row_blocks_)),
        groups_(static_cast<size_t>(weights.rows() * row_groups_)) {
    const size_t elems = static_cast<size_t>(format.block_elems);
    pool.ParallelFor(
        weights.rows(), kRowsOfTask,
        [&](int64_t row, int64_t end, int /*thread*/) {
          for (; row < end; ++row) {
            for (int64_t b = 0; b < row_blocks_; ++b) {
              const int64_t first = b * format_.block_elems;
              SetBlock(row, b,
                       ChooseGgmlParams(
                           format_.type,
                           absl::MakeSpan(weights.row(row) + first, elems),
                           absl::MakeSpan(importance)
                               .subspan(static_cast<size_t>(first), elems)));
            }
          }
        });
  }

  void CopyRow(const GgmlGroups& from, int64_t row) {
    std::copy_n(from.blocks_.begin() + row * row_blocks_, row_blocks_,
                blocks_.begin() + row * row_blocks_);
    std::copy_n(from.groups_.begin() + row * row_groups_, row_groups_,
                groups_.begin() + row * row_groups_);
  }

  const Params* Row(int64_t row) const {
    return groups_.data() + row * row_groups_;
  }
  int64_t group_elems() const { return format_.sub_block_elems; }

  uint8_t Code(float wanted, const Params& params) const {
    // Between 2^23 and 2^24 floats are whole numbers: the sum rounds.
    constexpr float kBase = 12582912.0f;  // 1.5 * 2^23
    float v = (wanted + params.offset) * params.inverse;
    v = v < lo_ ? lo_ : v;
    v = v > hi_ ? hi_ : v;
    return static_cast<uint8_t>(static_cast<int>((v + kBase) - kBase) -
                                format_.min_code);
  }
  float Value(uint8_t code, const Params& params) const {
    return params.scale *
               static_cast<float>(static_cast<int>(code) + format_.min_code) -
           params.offset;
  }
  bool Saturates(float wanted, uint8_t code, const Params& params) const {
    const float steps =
        (wanted + params.offset) * params.inverse -
        static_cast<float>(static_cast<int>(code) + format_.min_code);
    return std::abs(steps) > 0.501f;
  }

  // Writes the blocks of `row`. codes [cols] are those of the sweep.
  void Pack(int64_t row, const uint8_t* codes, uint8_t* bytes) const {
    int8_t signed_codes[kMaxGgmlBlockElems];
    const size_t elems = static_cast<size_t>(format_.block_elems);
    for (int64_t b = 0; b < row_blocks_; ++b) {
      for (size_t i = 0; i < elems; ++i) {
        signed_codes[i] = static_cast<int8_t>(*codes++ + format_.min_code);
      }
      PackGgmlBlock(
          format_.type, blocks_[static_cast<size_t>(row * row_blocks_ + b)],
          absl::MakeSpan(signed_codes, elems),
          absl::MakeSpan(bytes, static_cast<size_t>(format_.block_bytes)));
      bytes += format_.block_bytes;
    }
  }

  int64_t row_bytes() const { return row_blocks_ * format_.block_bytes; }

 private:
  void SetBlock(int64_t row, int64_t block, const GgmlBlockParams& params) {
    blocks_[static_cast<size_t>(row * row_blocks_ + block)] = params;
    const int count = format_.num_sub_blocks();
    Params* groups = groups_.data() + row * row_groups_ + block * count;
    for (int s = 0; s < count; ++s) {
      const float scale = params.scale(s);
      groups[s] = {scale, scale == 0 ? 0 : 1 / scale, params.offset(s)};
    }
  }

  const GgmlBlockFormat& format_;
  const float lo_, hi_;  // the range of codes
  const int64_t row_blocks_;
  const int64_t row_groups_;
  std::vector<GgmlBlockParams> blocks_;  // [rows, row_blocks]
  std::vector<Params> groups_;           // [rows, row_groups]
};

absl::Status CheckFits(GgmlType type, MatrixView<const float> weights) {
  const size_t cols = static_cast<size_t>(weights.cols());
  for (int64_t r = 0; r < weights.rows(); ++r) {
    const int64_t at =
        FirstUnfitForGgml(type, absl::MakeSpan(weights.row(r), cols));
    if (at == weights.cols()) continue;
    return absl::DataLossError(absl::StrCat(
        "element [", r, ", ", at, "] is NaN, infinite or too large for ",
        FindGgmlType(type)->name));
  }
  return absl::OkStatus();
}

void PackRows(const GgmlGroups& groups, MatrixView<const float> weights,
              const std::vector<uint8_t>& codes, ThreadPool& pool,
              GgmlGptqResult* result) {
  const int64_t row_bytes = groups.row_bytes();
  result->blocks.resize(static_cast<size_t>(weights.rows() * row_bytes));
  pool.ParallelFor(weights.rows(), kRowsOfTask,
                   [&](int64_t row, int64_t end, int /*thread*/) {
                     for (; row < end; ++row) {
                       groups.Pack(row, codes.data() + row * weights.cols(),
                                   result->blocks.data() + row * row_bytes);
                     }
                   });
}

}  // namespace

absl::StatusOr<GgmlGptqResult> QuantizeGgmlGptq(MatrixView<const float> weights,
                                                const FactoredHessian& hessian,
                                                const GptqOptions& options,
                                                ThreadPool& pool) {
  QEFF_CHECK(options.scheme.ggml.has_value());
  const GgmlType type = *options.scheme.ggml;
  const GgmlBlockFormat* format = FindGgmlBlockFormat(type);
  QEFF_CHECK(format != nullptr && weights.cols() % format->block_elems == 0);
  QEFF_CHECK(!hessian.usable() || hessian.factor.rows() == weights.cols());
  if (absl::Status status = CheckFits(type, weights); !status.ok()) {
    return status;
  }
  const std::vector<float> equal(static_cast<size_t>(weights.cols()), 1.0f);
  std::function<GgmlGroups()> searched;
  if (options.search_groups) {
    searched = [&] {
      return GgmlGroups(*format, weights, hessian.energy, pool);
    };
  }
  const GptqChoice<GgmlGroups> choice = ChooseCodes<GgmlGroups>(
      weights, hessian.order, hessian.factor.view(), hessian.damped.view(),
      options.propagate, options.scheme.bits,
      GgmlGroups(*format, weights, equal, pool), searched, pool);
  GgmlGptqResult result;
  static_cast<GptqLosses&>(result) = choice.losses;
  PackRows(choice.groups, weights, choice.codes, pool, &result);
  return result;
}

}  // namespace qeff
