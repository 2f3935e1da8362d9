// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/tuned_layer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/types/span.h"
#include "qeff/format/packing.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

// In [2^23, 2^24) floats are whole numbers (QuantizeValue).
constexpr float kRound = 12582912.0f;

float RoundTo(float x, DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return BF16ToFloat(FloatToBF16(x));
    case DType::kF16:
      return F16ToFloat(FloatToF16(x));
    default:
      return x;
  }
}

QEFF_VECTOR_CLONES void RenderGroup(const float* steps, int64_t count,
                                    float zero, float scale, float* weights) {
  for (int64_t c = 0; c < count; ++c) {
    weights[c] = (((steps[c] + kRound) - kRound) - zero) * scale;
  }
}

// Moves the steps, between 0 and `most` rounded, and returns the gradient in
// the scale before. A step that is exactly that of 0 is a weight that was
// removed, and stays.
QEFF_VECTOR_CLONES float MoveGroup(const float* gradient, int64_t count,
                                   float zero, float most, float rate,
                                   float* steps) {
  constexpr int64_t kLanes = 16;
  float sums[kLanes] = {};
  const auto move = [&](int64_t c, int64_t lane) {
    const float g = gradient[c];
    float step = steps[c];
    const bool removed = step == zero;
    sums[lane] += g * (((step + kRound) - kRound) - zero);
    step -= g > 0 ? rate : g < 0 ? -rate : 0.0f;
    step = step < -0.49f ? -0.49f : step;
    step = step > most ? most : step;
    steps[c] = removed ? zero : step;
  };
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) move(c + lane, lane);
  }
  for (int64_t lane = 0; c + lane < count; ++lane) move(c + lane, lane);
  float sum = 0;
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace

TunedLayer::TunedLayer(const QuantScheme& scheme, DType scale_dtype,
                       int64_t rows, int64_t cols)
    : scheme_(scheme),
      scale_dtype_(scale_dtype),
      shape_(scheme, rows, cols),
      steps_(rows, cols),
      groups_(static_cast<size_t>(rows * shape_.groups)),
      kept_codes_(static_cast<size_t>(rows * cols)),
      kept_scales_(groups_.size()) {}

template <class Body>
void TunedLayer::ForGroups(int64_t row, Body body) const {
  for (int64_t g = 0; g < shape_.groups; ++g) {
    const int64_t begin = g * shape_.group_elems;
    body(static_cast<size_t>(row * shape_.groups + g), begin,
         std::min(shape_.group_elems, shape_.cols - begin));
  }
}

void TunedLayer::SetRows(int64_t begin, MatrixView<const float> weights,
                         const QuantizedRowBytes& solved) {
  const size_t scale_bytes = DTypeBytes(scale_dtype_);
  const size_t row_bytes = static_cast<size_t>(4 * shape_.row_words);
  std::vector<uint8_t> codes(static_cast<size_t>(shape_.cols));
  for (int64_t r = 0; r < weights.rows(); ++r) {
    UnpackCodes(
        scheme_.bits,
        solved.packed.subspan(static_cast<size_t>(r) * row_bytes, row_bytes),
        absl::MakeSpan(codes));
    const size_t first = static_cast<size_t>(r * shape_.groups);
    ForGroups(begin + r, [&](size_t index, int64_t col, int64_t count) {
      Group& group = groups_[index];
      const size_t from =
          first + index - static_cast<size_t>((begin + r) * shape_.groups);
      group.scale =
          LoadScale(scale_dtype_, solved.scales.data() + from * scale_bytes);
      group.learned = group.start = group.scale;
      group.zero = static_cast<float>(
          shape_.asymmetric ? solved.zeros[from] : 1 << (scheme_.bits - 1));
      float* steps = steps_.row(begin + r);
      for (int64_t c = col; c < col + count; ++c) {
        const float code = static_cast<float>(codes[static_cast<size_t>(c)]);
        const float wanted = weights.row(r)[c] / group.scale + group.zero;
        steps[c] = std::min(std::max(wanted, code - kMargin), code + kMargin);
      }
    });
  }
}

void TunedLayer::Render(int64_t row, float* weights) const {
  ForGroups(row, [&](size_t index, int64_t begin, int64_t count) {
    const Group& group = groups_[index];
    RenderGroup(steps_.row(row) + begin, count, group.zero, group.scale,
                weights + begin);
  });
}

void TunedLayer::Update(int64_t row, const float* gradient, float code_rate,
                        float scale_rate) {
  const float most = static_cast<float>((1 << scheme_.bits) - 1) + 0.49f;
  ForGroups(row, [&](size_t index, int64_t begin, int64_t count) {
    Group& group = groups_[index];
    const float g = MoveGroup(gradient + begin, count, group.zero, most,
                              group.scale > 0 ? code_rate : -code_rate,
                              steps_.row(row) + begin);
    const float start = std::abs(group.start);
    const float move = g > 0 ? scale_rate : g < 0 ? -scale_rate : 0.0f;
    const float learned = group.learned - move * start;
    const float rounded = RoundTo(learned, scale_dtype_);
    // Less would count as 0 (ComputeGroupParams).
    if (!(learned / group.start > 0.25f) || std::abs(rounded) < 0x1p-126f) {
      return;
    }
    group.learned = learned;
    group.scale = rounded;
  });
}

void TunedLayer::Keep() {
  for (size_t i = 0; i < kept_codes_.size(); ++i) {
    kept_codes_[i] = static_cast<uint8_t>(
        static_cast<int>((steps_.data()[i] + kRound) - kRound));
  }
  for (size_t i = 0; i < groups_.size(); ++i) {
    kept_scales_[i] = groups_[i].scale;
  }
}

void TunedLayer::Return() {
  for (size_t i = 0; i < kept_codes_.size(); ++i) {
    steps_.data()[i] = static_cast<float>(kept_codes_[i]);
  }
  for (size_t i = 0; i < groups_.size(); ++i) {
    groups_[i].scale = groups_[i].learned = kept_scales_[i];
  }
}

TunedLayer::Packed TunedLayer::Pack(ThreadPool& pool) const {
  const size_t cols = static_cast<size_t>(shape_.cols);
  const size_t row_bytes = static_cast<size_t>(4 * shape_.row_words);
  Packed packed;
  packed.codes.resize(static_cast<size_t>(shape_.rows) * row_bytes);
  pool.ParallelFor(shape_.rows, kRowsOfTask, [&](int64_t r, int64_t end, int) {
    std::vector<uint8_t> codes(cols);
    for (; r < end; ++r) {
      for (size_t c = 0; c < cols; ++c) {
        codes[c] = static_cast<uint8_t>(
            static_cast<int>((steps_.row(r)[c] + kRound) - kRound));
      }
      PackCodes(scheme_.bits, codes,
                absl::MakeSpan(packed.codes)
                    .subspan(static_cast<size_t>(r) * row_bytes, row_bytes));
    }
  });
  const size_t scale_bytes = DTypeBytes(scale_dtype_);
  packed.scales.resize(groups_.size() * scale_bytes);
  for (size_t i = 0; i < groups_.size(); ++i) {
    StoreScale(groups_[i].scale, scale_dtype_,
               packed.scales.data() + i * scale_bytes);
    if (shape_.asymmetric) {
      packed.zeros.push_back(static_cast<uint8_t>(groups_[i].zero));
    }
  }
  return packed;
}

}  // namespace qeff
