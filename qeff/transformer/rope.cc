// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/rope.h"

#include <cmath>
#include <vector>

#include "qeff/util/check.h"

namespace qeff {

RopeTable::RopeTable(const TransformerSpec& spec, int64_t positions)
    : cos_(positions, spec.head_dim / 2), sin_(positions, spec.head_dim / 2) {
  const std::vector<double> frequencies = RopeFrequencies(spec);
  for (int64_t p = 0; p < positions; ++p) {
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double angle = static_cast<double>(p) * frequencies[i];
      cos_.row(p)[i] = static_cast<float>(std::cos(angle));
      sin_.row(p)[i] = static_cast<float>(std::sin(angle));
    }
  }
}

namespace {

// Rotates by the angles of the table, or back.
template <bool kBack>
void Rotate(const RopeTable& table, int64_t first_position,
            MatrixView<float> x) {
  const int64_t head_dim = table.head_dim(), half = head_dim / 2;
  QEFF_CHECK(half > 0 && x.cols() % head_dim == 0);
  QEFF_CHECK(first_position >= 0 &&
             first_position + x.rows() <= table.positions());
  for (int64_t r = 0; r < x.rows(); ++r) {
    const float* cos = table.cos(first_position + r);
    const float* sin = table.sin(first_position + r);
    for (int64_t head = 0; head < x.cols(); head += head_dim) {
      float* first = x.row(r) + head;
      float* second = first + half;
      for (int64_t i = 0; i < half; ++i) {
        const float a = first[i], b = second[i];
        const float s = kBack ? -sin[i] : sin[i];
        first[i] = a * cos[i] - b * s;
        second[i] = b * cos[i] + a * s;
      }
    }
  }
}

}  // namespace

void ApplyRope(const RopeTable& table, int64_t first_position,
               MatrixView<float> x) {
  Rotate<false>(table, first_position, x);
}

void ApplyRopeBackward(const RopeTable& table, int64_t first_position,
                       MatrixView<float> dx) {
  Rotate<true>(table, first_position, dx);
}

}  // namespace qeff
