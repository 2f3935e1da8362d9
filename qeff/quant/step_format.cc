// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/step_format.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "qeff/format/codebook.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"

namespace qeff {
namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

}  // namespace

StepFormat::StepFormat(const QuantScheme& scheme, DType scale_dtype,
                       int64_t cols)
    : scheme_(scheme),
      scale_dtype_(scheme.ggml.has_value() ? DType::kF16 : scale_dtype),
      blocks_(scheme.ggml.has_value() ? FindGgmlBlockFormat(*scheme.ggml)
                                      : nullptr),
      cols_(cols) {
  const QuantizedShape shape(scheme, /*rows=*/1, cols);
  if (blocks_ != nullptr) {
    group_elems_ = blocks_->sub_block_elems;
    groups_ = cols / group_elems_;
    groups_of_scale_ = blocks_->num_sub_blocks();
    row_bytes_ = shape.block_row_bytes;
    levels_ = blocks_->max_code - blocks_->min_code + 1;
    return;
  }
  group_elems_ = shape.group_elems;
  groups_ = shape.groups;
  row_bytes_ = shape.row_bytes;
  asymmetric_ = shape.asymmetric;
  levels_ = 1 << scheme.bits;
  if (scheme.codebook.has_value()) SortTable();
}

// Without what GPTQ and rounding never choose: NaN, -0 and mxint8's -2.
void StepFormat::SortTable() {
  const CodebookFormat& format = FormatOf(*scheme_.codebook);
  std::vector<uint8_t> codes;
  for (int code = 0; code < 1 << format.bits; ++code) {
    const float value = format.values[code];
    if (!(value >= -format.largest)) continue;
    if (value == 0 && std::signbit(value)) continue;
    codes.push_back(static_cast<uint8_t>(code));
  }
  std::sort(codes.begin(), codes.end(), [&](uint8_t a, uint8_t b) {
    return format.values[a] < format.values[b];
  });
  levels_ = static_cast<int>(codes.size());
  step_of_.resize(256);
  for (size_t step = 0; step < codes.size(); ++step) {
    values_.push_back(format.values[codes[step]]);
    step_of_[codes[step]] = static_cast<uint8_t>(step);
  }
  const auto zero = std::find(values_.begin(), values_.end(), 0.0f);
  zero_step_ = static_cast<float>(zero - values_.begin());
  for (int code = 0; code < 1 << format.bits; ++code) {
    if (format.values[code] != 0) continue;  // both zeros are one step
    step_of_[static_cast<size_t>(code)] = static_cast<uint8_t>(zero_step_);
  }
  code_of_ = std::move(codes);
}

float StepFormat::RoundScale(float scale) const {
  switch (scale_dtype_) {
    case DType::kBF16:
      return BF16ToFloat(FloatToBF16(scale));
    case DType::kF16:
      return F16ToFloat(FloatToF16(scale));
    default:
      return scale;
  }
}

void StepFormat::Read(const QuantizedRowBytes& rows, int64_t row,
                      absl::Span<uint8_t> steps, absl::Span<StepScale> scales,
                      absl::Span<StepGroup> groups) const {
  const size_t bytes = static_cast<size_t>(row_bytes_);
  const size_t begin = static_cast<size_t>(row) * bytes;
  if (blocks_ != nullptr) {
    return ReadBlocks(rows.blocks.subspan(begin, bytes), steps, scales, groups);
  }
  const size_t first = static_cast<size_t>(row * groups_);
  const size_t scale_bytes = DTypeBytes(scale_dtype_);
  float zero = static_cast<float>(1 << (scheme_.bits - 1));
  if (scheme_.codebook.has_value()) {
    CodebookRowsView view;
    view.codebook = *scheme_.codebook;
    view.cols = cols_;
    view.group_elems = group_elems_;
    view.row_bytes = row_bytes_;
    view.packed = rows.packed;
    UnpackCodebookRow(view, row, steps);
    for (uint8_t& step : steps) step = step_of_[step];
    zero = zero_step_;
  } else {
    UnpackCodes(scheme_.bits, rows.packed.subspan(begin, bytes), steps);
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    const uint8_t* scale = rows.scales.data() + (first + g) * scale_bytes;
    scales[g].scale = scheme_.codebook.has_value()
                          ? LoadCodebookScale(scale_dtype_, scale)
                          : LoadScale(scale_dtype_, scale);
    groups[g].zero = asymmetric_ ? rows.zeros[first + g] : zero;
    groups[g].removed = groups[g].zero;
  }
}

void StepFormat::ReadBlocks(absl::Span<const uint8_t> blocks,
                            absl::Span<uint8_t> steps,
                            absl::Span<StepScale> scales,
                            absl::Span<StepGroup> groups) const {
  const size_t elems = static_cast<size_t>(blocks_->block_elems);
  const size_t bytes = static_cast<size_t>(blocks_->block_bytes);
  std::vector<int8_t> codes(elems);
  StepGroup* group = groups.data();
  for (size_t b = 0; b < scales.size(); ++b) {
    GgmlBlockParams params;
    UnpackGgmlBlock(blocks_->type, blocks.subspan(b * bytes, bytes), &params,
                    absl::MakeSpan(codes));
    scales[b] = {params.d, params.dmin};
    for (size_t i = 0; i < elems; ++i) {
      steps[b * elems + i] = static_cast<uint8_t>(codes[i] - blocks_->min_code);
    }
    for (int s = 0; s < blocks_->num_sub_blocks(); ++s, ++group) {
      group->zero = static_cast<float>(-blocks_->min_code);
      group->factor = params.scale_codes[s];
      group->below = params.min_codes[s];
      group->removed = blocks_->has_offsets() ? kNone : group->zero;
    }
  }
}

StoredSteps StepFormat::Room(int64_t rows) const {
  StoredSteps stored;
  const size_t bytes = static_cast<size_t>(rows * row_bytes_);
  if (blocks_ != nullptr) {
    stored.blocks.resize(bytes);
    return stored;
  }
  stored.codes.resize(bytes);
  const size_t groups = static_cast<size_t>(rows * groups_);
  stored.scales.resize(groups * DTypeBytes(scale_dtype_));
  if (asymmetric_) stored.zeros.resize(groups);
  return stored;
}

void StepFormat::Write(absl::Span<const uint8_t> steps,
                       absl::Span<const StepScale> scales,
                       absl::Span<const StepGroup> groups, int64_t row,
                       StoredSteps* to) const {
  const size_t bytes = static_cast<size_t>(row_bytes_);
  const size_t begin = static_cast<size_t>(row) * bytes;
  if (blocks_ != nullptr) {
    return WriteBlocks(steps, scales, groups,
                       absl::MakeSpan(to->blocks).subspan(begin, bytes));
  }
  const absl::Span<uint8_t> packed =
      absl::MakeSpan(to->codes).subspan(begin, bytes);
  const bool table = scheme_.codebook.has_value();
  if (table) {
    std::vector<uint8_t> codes(steps.size());
    for (size_t c = 0; c < steps.size(); ++c) codes[c] = code_of_[steps[c]];
    PackCodebookRow(scheme_.bits, codes, packed);
  } else {
    PackCodes(scheme_.bits, steps, packed);
  }
  const size_t first = static_cast<size_t>(row * groups_);
  const size_t scale_bytes = DTypeBytes(scale_dtype_);
  for (size_t g = 0; g < groups.size(); ++g) {
    uint8_t* scale = to->scales.data() + (first + g) * scale_bytes;
    if (table) {
      StoreCodebookScale(scales[g].scale, scale_dtype_, scale);
    } else {
      StoreScale(scales[g].scale, scale_dtype_, scale);
    }
    if (asymmetric_) {
      to->zeros[first + g] = static_cast<uint8_t>(groups[g].zero);
    }
  }
}

void StepFormat::WriteBlocks(absl::Span<const uint8_t> steps,
                             absl::Span<const StepScale> scales,
                             absl::Span<const StepGroup> groups,
                             absl::Span<uint8_t> blocks) const {
  const size_t elems = static_cast<size_t>(blocks_->block_elems);
  const size_t bytes = static_cast<size_t>(blocks_->block_bytes);
  std::vector<int8_t> codes(elems);
  const StepGroup* group = groups.data();
  for (size_t b = 0; b < scales.size(); ++b) {
    GgmlBlockParams params;
    params.d = scales[b].scale;
    params.dmin = scales[b].floor;
    for (int s = 0; s < blocks_->num_sub_blocks(); ++s, ++group) {
      params.scale_codes[s] = static_cast<int8_t>(group->factor);
      params.min_codes[s] = static_cast<uint8_t>(group->below);
    }
    for (size_t i = 0; i < elems; ++i) {
      codes[i] = static_cast<int8_t>(steps[b * elems + i] + blocks_->min_code);
    }
    PackGgmlBlock(blocks_->type, params, codes,
                  blocks.subspan(b * bytes, bytes));
  }
}

}  // namespace qeff
