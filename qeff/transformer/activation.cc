// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/activation.h"

#include <cmath>

#include "qeff/transformer/vector_math.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

struct Silu {
  float operator()(float x) const { return x / (1.0f + ExpFloat(-x)); }
};

struct Gelu {
  float operator()(float x) const {
    return 0.5f * x * (1.0f + std::erf(x * 0.707106781f));
  }
};

struct GeluTanh {
  float operator()(float x) const {
    constexpr float kTwoRootTwoOverPi = 1.59576912f;  // 2 sqrt(2/pi)
    const float twice_u = kTwoRootTwoOverPi * (x + 0.044715f * x * x * x);
    return x / (1.0f + ExpFloat(-twice_u));
  }
};

struct Relu {
  float operator()(float x) const { return x < 0.0f ? 0.0f : x; }
};

// Calls body(function) with the function object of `activation`.
template <typename Body>
void Dispatch(Activation activation, Body body) {
  switch (activation) {
    case Activation::kSilu:
      return body(Silu());
    case Activation::kGelu:
      return body(Gelu());
    case Activation::kGeluTanh:
      return body(GeluTanh());
    case Activation::kRelu:
      return body(Relu());
  }
  QEFF_CHECK(false && "unknown activation");
}

template <typename Function>
void ForEach(MatrixView<float> x, Function function) {
  for (int64_t r = 0; r < x.rows(); ++r) {
    float* row = x.row(r);
    for (int64_t c = 0; c < x.cols(); ++c) row[c] = function(row[c]);
  }
}

// x = function(x, y).
template <typename Function>
void ForEach(MatrixView<float> x, MatrixView<const float> y,
             Function function) {
  QEFF_CHECK(x.rows() == y.rows() && x.cols() == y.cols());
  for (int64_t r = 0; r < x.rows(); ++r) {
    float* a = x.row(r);
    const float* b = y.row(r);
    for (int64_t c = 0; c < x.cols(); ++c) a[c] = function(a[c], b[c]);
  }
}

}  // namespace

float ActivationOf(Activation activation, float x) {
  ApplyActivation(activation, MatrixView<float>(&x, 1, 1));
  return x;
}

void ApplyActivation(Activation activation, MatrixView<float> x) {
  Dispatch(activation, [&](auto function) { ForEach(x, function); });
}

void ApplyGatedActivation(Activation activation, MatrixView<float> gate,
                          MatrixView<const float> up) {
  Dispatch(activation, [&](auto function) {
    ForEach(gate, up, [&](float g, float u) { return function(g) * u; });
  });
}

void AddTo(MatrixView<float> x, MatrixView<const float> y) {
  ForEach(x, y, [](float a, float b) { return a + b; });
}

void Clip(float limit, MatrixView<float> x) {
  QEFF_CHECK(limit > 0);
  ForEach(x, [&](float v) {
    return v > limit ? limit : (v < -limit ? -limit : v);
  });
}

}  // namespace qeff
