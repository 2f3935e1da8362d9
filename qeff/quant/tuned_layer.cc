// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/tuned_layer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/types/span.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

// In [2^23, 2^24) floats are whole numbers (QuantizeValue).
constexpr float kRound = 12582912.0f;

QEFF_VECTOR_CLONES void RenderGroup(const float* steps, int64_t count,
                                    float zero, float scale, float offset,
                                    float* weights) {
  for (int64_t c = 0; c < count; ++c) {
    weights[c] = (((steps[c] + kRound) - kRound) - zero) * scale - offset;
  }
}

int Rounded(float step) { return static_cast<int>((step + kRound) - kRound); }

// Moves the steps, between 0 and `most` rounded. A step that is exactly
// `removed` is a weight that was removed, and stays.
QEFF_VECTOR_CLONES void MoveSteps(const float* gradient, int64_t count,
                                  float removed, float most, float rate,
                                  float* steps) {
  for (int64_t c = 0; c < count; ++c) {
    const float g = gradient[c];
    const float before = steps[c];
    float step = before;
    step -= g > 0 ? rate : g < 0 ? -rate : 0.0f;
    step = step < -0.49f ? -0.49f : step;
    step = step > most ? most : step;
    steps[c] = before == removed ? before : step;
  }
}

// Of a group: of the gradients, and of them times the steps above zero.
struct GradientSums {
  float plain = 0;
  float weighted = 0;
};

QEFF_VECTOR_CLONES GradientSums SumGradients(const float* gradient,
                                             const float* steps, int64_t count,
                                             float zero) {
  constexpr int64_t kLanes = 16;
  float plain[kLanes] = {}, weighted[kLanes] = {};
  const auto add = [&](int64_t c, int64_t lane) {
    plain[lane] += gradient[c];
    weighted[lane] += gradient[c] * (((steps[c] + kRound) - kRound) - zero);
  };
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(c + lane, lane);
  }
  for (int64_t lane = 0; c + lane < count; ++lane) add(c + lane, lane);
  GradientSums sums;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sums.plain += plain[lane];
    sums.weighted += weighted[lane];
  }
  return sums;
}

// The step, not a whole one, at which a table has `value`, near `code`.
float StepOf(absl::Span<const float> values, float value, uint8_t code) {
  const float step = code;
  const float here = values[code];
  if (value >= here) {
    if (static_cast<size_t>(code) + 1 == values.size()) return step + 1;
    return step + (value - here) / (values[code + 1u] - here);
  }
  return code == 0 ? step - 1
                   : step - (here - value) / (here - values[code - 1u]);
}

}  // namespace

TunedLayer::TunedLayer(const QuantScheme& scheme, DType scale_dtype,
                       int64_t rows, int64_t cols)
    : format_(scheme, scale_dtype, cols),
      rows_(rows),
      steps_(rows, cols),
      groups_(static_cast<size_t>(rows * format_.groups())),
      scales_(static_cast<size_t>(rows * format_.scales())),
      kept_steps_(static_cast<size_t>(rows * cols)),
      kept_scales_(scales_.size()) {
  while (1 << bits_ < format_.levels()) ++bits_;
}

template <class Body>
void TunedLayer::ForGroups(int64_t row, Body body) const {
  const int64_t elems = format_.group_elems();
  for (int64_t g = 0; g < format_.groups(); ++g) {
    body(static_cast<size_t>(row * format_.scales() +
                             g / format_.groups_of_scale()),
         static_cast<size_t>(row * format_.groups() + g), g * elems,
         std::min(elems, cols() - g * elems));
  }
}

void TunedLayer::SetRows(int64_t begin, MatrixView<const float> weights,
                         const QuantizedRowBytes& solved) {
  const size_t scales_of_row = static_cast<size_t>(format_.scales());
  const size_t groups_of_row = static_cast<size_t>(format_.groups());
  std::vector<uint8_t> codes(static_cast<size_t>(cols()));
  std::vector<StepScale> scales(scales_of_row);
  for (int64_t r = 0; r < weights.rows(); ++r) {
    const size_t row = static_cast<size_t>(begin + r);
    format_.Read(
        solved, r, absl::MakeSpan(codes), absl::MakeSpan(scales),
        absl::MakeSpan(groups_).subspan(row * groups_of_row, groups_of_row));
    for (size_t i = 0; i < scales_of_row; ++i) {
      const float scale = scales[i].scale, floor = scales[i].floor;
      scales_[row * scales_of_row + i] = {{scale, scale, scale},
                                          {floor, floor, floor}};
    }
    ForGroups(begin + r, [&](size_t s, size_t g, int64_t col, int64_t count) {
      const StepGroup& group = groups_[g];
      const float scale = scales_[s].scale.value * group.factor;
      const float offset = scales_[s].floor.value * group.below;
      float* steps = steps_.row(begin + r);
      for (int64_t c = col; c < col + count; ++c) {
        const uint8_t code = codes[static_cast<size_t>(c)];
        const float step = code;
        const float w = weights.row(r)[c];
        float wanted = step;
        if (!format_.values().empty()) {
          wanted = StepOf(format_.values(), w / scale, code);
        } else if (scale != 0) {
          wanted = (w + offset) / scale + group.zero;
        }
        steps[c] = std::min(std::max(wanted, step - kMargin), step + kMargin);
      }
    });
  }
}

void TunedLayer::Render(int64_t row, float* weights) const {
  const float* steps = steps_.row(row);
  ForGroups(row, [&](size_t s, size_t g, int64_t begin, int64_t count) {
    const StepGroup& group = groups_[g];
    const float scale = scales_[s].scale.value * group.factor;
    if (format_.values().empty()) {
      RenderGroup(steps + begin, count, group.zero, scale,
                  scales_[s].floor.value * group.below, weights + begin);
      return;
    }
    for (int64_t c = begin; c < begin + count; ++c) {
      weights[c] =
          format_.values()[static_cast<size_t>(Rounded(steps[c]))] * scale;
    }
  });
}

void TunedLayer::Move(float gradient, float rate, Learned* learned) const {
  const float move = gradient > 0 ? rate : gradient < 0 ? -rate : 0.0f;
  const float exact = learned->exact - move * std::abs(learned->start);
  const float value = format_.RoundScale(exact);
  // Less would count as 0 (ComputeGroupParams), more is not a number of F16.
  if (!(exact / learned->start > 0.25f) || std::abs(value) < 0x1p-126f ||
      !std::isfinite(value)) {
    return;
  }
  learned->exact = exact;
  learned->value = value;
}

void TunedLayer::Update(int64_t row, const float* gradient, float code_rate,
                        float scale_rate) {
  const float most = static_cast<float>(format_.levels() - 1) + 0.49f;
  float* steps = steps_.row(row);
  float in_scale = 0, in_floor = 0;
  ForGroups(row, [&](size_t s, size_t g, int64_t begin, int64_t count) {
    const StepGroup& group = groups_[g];
    if (g % static_cast<size_t>(format_.groups_of_scale()) == 0) {
      in_scale = in_floor = 0;
    }
    Scale& of = scales_[s];
    if (format_.values().empty()) {
      const GradientSums sums =
          SumGradients(gradient + begin, steps + begin, count, group.zero);
      in_scale += group.factor * sums.weighted;
      in_floor -= group.below * sums.plain;
    } else {
      for (int64_t c = begin; c < begin + count; ++c) {
        in_scale += gradient[c] *
                    format_.values()[static_cast<size_t>(Rounded(steps[c]))];
      }
    }
    const float scale = of.scale.value * group.factor;
    const float rate = scale > 0 ? code_rate : scale < 0 ? -code_rate : 0.0f;
    MoveSteps(gradient + begin, count, group.removed, most, rate,
              steps + begin);
    const size_t next = g + 1;
    if (next % static_cast<size_t>(format_.groups_of_scale()) != 0 ||
        !format_.free_scales()) {
      return;
    }
    Move(in_scale, scale_rate, &of.scale);
    if (of.floor.start != 0) Move(in_floor, scale_rate, &of.floor);
  });
}

void TunedLayer::Keep() {
  for (size_t i = 0; i < kept_steps_.size(); ++i) {
    kept_steps_[i] = static_cast<uint8_t>(Rounded(steps_.data()[i]));
  }
  for (size_t i = 0; i < scales_.size(); ++i) {
    kept_scales_[i] = {scales_[i].scale.value, scales_[i].floor.value};
  }
}

void TunedLayer::Return() {
  for (size_t i = 0; i < kept_steps_.size(); ++i) {
    steps_.data()[i] = kept_steps_[i];
  }
  for (size_t i = 0; i < scales_.size(); ++i) {
    scales_[i].scale.value = scales_[i].scale.exact = kept_scales_[i].scale;
    scales_[i].floor.value = scales_[i].floor.exact = kept_scales_[i].floor;
  }
}

StoredSteps TunedLayer::Pack(ThreadPool& pool) const {
  const size_t scales_of_row = static_cast<size_t>(format_.scales());
  const size_t groups_of_row = static_cast<size_t>(format_.groups());
  StoredSteps packed = format_.Room(rows_);
  pool.ParallelFor(rows_, kRowsOfTask, [&](int64_t r, int64_t end, int) {
    std::vector<uint8_t> codes(static_cast<size_t>(cols()));
    std::vector<StepScale> scales(scales_of_row);
    for (; r < end; ++r) {
      const size_t row = static_cast<size_t>(r);
      for (size_t c = 0; c < codes.size(); ++c) {
        codes[c] = static_cast<uint8_t>(Rounded(steps_.row(r)[c]));
      }
      for (size_t i = 0; i < scales_of_row; ++i) {
        const Scale& scale = scales_[row * scales_of_row + i];
        scales[i] = {scale.scale.value, scale.floor.value};
      }
      format_.Write(
          codes, scales,
          absl::MakeSpan(groups_).subspan(row * groups_of_row, groups_of_row),
          r, &packed);
    }
  });
  return packed;
}

}  // namespace qeff
