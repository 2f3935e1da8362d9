// SPDX-License-Identifier: Apache-2.0
//
// Rows of any scheme as steps: the values that a weight may have, counted from
// the lowest, and what a step is worth. For what learns both (tuned_layer.h),
// and need not know integers from blocks and tables.
//
//   evenly spaced:  value = (step - zero) * (scale * factor) - floor * below
//   of a table:     value = values()[step] * scale
//
// each operation in float32, rounded, as readers of the file have it.

#ifndef QEFF_QUANT_STEP_FORMAT_H_
#define QEFF_QUANT_STEP_FORMAT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// What is stored for one or several groups: a scale, of ggml's blocks that
// have offsets also the number that these are multiples of.
struct StepScale {
  float scale = 0;
  float floor = 0;
};

// Columns whose steps are worth the same.
struct StepGroup {
  float zero = 0;
  float factor = 1;  // 1 but in ggml's blocks
  float below = 0;   // 0 but in ggml's blocks
  // The step whose value is 0, where one is that whatever is learned: a weight
  // that was removed begins there. Else NaN.
  float removed = 0;
};

// Rows as they are stored.
struct StoredSteps {
  std::vector<uint8_t> codes, scales, zeros, blocks;
  QuantizedRowBytes bytes() const { return {codes, scales, zeros, blocks}; }
};

// Thread-safe.
class StepFormat {
 public:
  // Of rows of `cols`; scales are stored as `scale_dtype` but in ggml's blocks.
  StepFormat(const QuantScheme& scheme, DType scale_dtype, int64_t cols);

  int64_t cols() const { return cols_; }
  // Of every group but the last of a row.
  int64_t group_elems() const { return group_elems_; }
  int64_t groups() const { return groups_; }  // of a row
  // So many groups, one after another, share what is stored.
  int64_t groups_of_scale() const { return groups_of_scale_; }
  int64_t scales() const { return groups_ / groups_of_scale_; }  // of a row
  // Steps are 0 to levels() - 1, at most 256 of them.
  int levels() const { return levels_; }
  // [levels()], increasing; empty when they are evenly spaced.
  absl::Span<const float> values() const { return values_; }
  // Whether a scale may be any number, which RoundScale makes one that is
  // stored, and not a power of two only.
  bool free_scales() const { return scale_dtype_ != DType::kU8; }
  float RoundScale(float scale) const;

  // Row `row` of `rows`: steps [cols], scales [scales()], groups [groups()].
  // Precondition: no code is NaN.
  void Read(const QuantizedRowBytes& rows, int64_t row,
            absl::Span<uint8_t> steps, absl::Span<StepScale> scales,
            absl::Span<StepGroup> groups) const;

  // Room for rows that are written.
  StoredSteps Room(int64_t rows) const;
  // The inverse of Read. Different rows may be written at the same time.
  void Write(absl::Span<const uint8_t> steps,
             absl::Span<const StepScale> scales,
             absl::Span<const StepGroup> groups, int64_t row,
             StoredSteps* to) const;

 private:
  void ReadBlocks(absl::Span<const uint8_t> blocks, absl::Span<uint8_t> steps,
                  absl::Span<StepScale> scales,
                  absl::Span<StepGroup> groups) const;
  void WriteBlocks(absl::Span<const uint8_t> steps,
                   absl::Span<const StepScale> scales,
                   absl::Span<const StepGroup> groups,
                   absl::Span<uint8_t> blocks) const;
  void SortTable();

  const QuantScheme scheme_;
  const DType scale_dtype_;
  const GgmlBlockFormat* const blocks_;  // or null
  const int64_t cols_;
  int64_t group_elems_ = 0, groups_ = 0, groups_of_scale_ = 1;
  int64_t row_bytes_ = 0;
  bool asymmetric_ = false;
  int levels_ = 0;
  std::vector<float> values_;
  std::vector<uint8_t> step_of_, code_of_;  // of a table
  float zero_step_ = 0;                     // of a table
};

}  // namespace qeff

#endif  // QEFF_QUANT_STEP_FORMAT_H_
