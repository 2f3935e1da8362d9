// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/codebook_gptq.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>

#include "absl/types/span.h"
#include "qeff/format/codebook.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/quant/codebook_search.h"
#include "qeff/quant/gptq_choice.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = GptqLayer::kRowsOfTask;

// Groups and their scales.
class CodebookGroups {
 public:
  static constexpr bool kFreeScales = true;
  struct Params {
    float scale;
    float inverse;
  };

  // `energy`: importance of the columns; empty: those of rounding.
  CodebookGroups(MatrixView<const float> weights, const GptqOptions& options,
                 const std::vector<float>& energy, ThreadPool& pool)
      : format_(FormatOf(*options.scheme.codebook)),
        scale_dtype_(options.scale_dtype),
        shape_(options.scheme, weights.rows(), weights.cols()),
        params_(static_cast<size_t>(shape_.rows * shape_.groups)) {
    pool.ParallelFor(shape_.rows, kRowsOfTask,
                     [&](int64_t row, int64_t end, int /*thread*/) {
                       for (; row < end; ++row) {
                         ChooseRow(weights.row(row), row, options, energy);
                       }
                     });
  }

  void CopyRow(const CodebookGroups& from, int64_t row) {
    std::copy_n(from.params_.begin() + row * shape_.groups, shape_.groups,
                params_.begin() + row * shape_.groups);
  }

  const Params* Row(int64_t row) const {
    return params_.data() + row * shape_.groups;
  }
  int64_t group_elems() const { return shape_.group_elems; }

  uint8_t Code(float wanted, const Params& params) const {
    return NearestCode(format_, wanted * params.inverse);
  }
  float Value(uint8_t code, const Params& params) const {
    return format_.values[code] * params.scale;
  }
  bool Saturates(float wanted, uint8_t /*code*/, const Params& params) const {
    return std::abs(wanted * params.inverse) > format_.saturation;
  }

  float Unscaled(uint8_t code, const Params& /*params*/) const {
    return format_.values[code];
  }
  // Powers of two stay, and a scale that would be far off is not taken.
  void SetScale(int64_t row, int64_t group, double scale) {
    Params& params = params_[static_cast<size_t>(row * shape_.groups + group)];
    const double ratio = scale / static_cast<double>(params.scale);
    constexpr double kMost = 4;
    if (scale_dtype_ == DType::kU8 || !(ratio > 1 / kMost && ratio < kMost)) {
      return;
    }
    params.scale = RoundedScale(static_cast<float>(scale), scale_dtype_);
    params.inverse = 1.0f / params.scale;
  }

  std::vector<uint8_t> StoredScales(DType dtype) const {
    const size_t bytes = DTypeBytes(dtype);
    std::vector<uint8_t> scales(params_.size() * bytes);
    for (size_t i = 0; i < params_.size(); ++i) {
      StoreCodebookScale(params_[i].scale, dtype, scales.data() + i * bytes);
    }
    return scales;
  }

 private:
  void ChooseRow(const float* weights, int64_t row, const GptqOptions& options,
                 const std::vector<float>& energy) {
    const absl::Span<const float> all(weights,
                                      static_cast<size_t>(shape_.cols));
    const size_t group_elems = static_cast<size_t>(shape_.group_elems);
    Params* params = params_.data() + row * shape_.groups;
    for (size_t begin = 0; begin < all.size(); begin += group_elems) {
      const absl::Span<const float> group = all.subspan(begin, group_elems);
      const float scale =
          energy.empty()
              ? RoundingScale(options.scheme, group, options.scale_dtype)
              : SearchCodebookScale(
                    options.scheme, group,
                    absl::MakeSpan(energy).subspan(begin, group.size()),
                    options.scale_dtype);
      *params++ = {scale, 1.0f / scale};
    }
  }

  const CodebookFormat& format_;
  DType scale_dtype_;
  QuantizedShape shape_;
  std::vector<Params> params_;  // [rows, groups]
};

}  // namespace

absl::StatusOr<CodebookGptqResult> QuantizeCodebookGptq(
    MatrixView<const float> weights, const FactoredHessian& hessian,
    const GptqOptions& options, ThreadPool& pool) {
  QEFF_CHECK(options.scheme.codebook.has_value());
  QEFF_CHECK(!hessian.usable() || hessian.factor.rows() == weights.cols());
  QEFF_RETURN_IF_ERROR(CheckFinite(weights));
  std::function<CodebookGroups()> searched;
  if (options.search_groups) {
    searched = [&] {
      return CodebookGroups(weights, options, hessian.energy, pool);
    };
  }
  GptqChoice<CodebookGroups> choice = ChooseCodes<CodebookGroups>(
      weights, hessian.order, hessian.factor.view(), hessian.damped.view(),
      options.propagate, options.scheme.bits,
      CodebookGroups(weights, options, /*energy=*/{}, pool), searched, pool);
  CodebookGptqResult result;
  static_cast<GptqLosses&>(result) = choice.losses;
  result.codes = std::move(choice.codes);
  result.scales = choice.groups.StoredScales(options.scale_dtype);
  return result;
}

}  // namespace qeff
