// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/activation.h"

#include <cmath>

#include "qeff/transformer/vector_math.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// A value of an activation and its derivative there.
struct ValueAndSlope {
  float value;
  float slope;
};

struct Silu {
  float operator()(float x) const { return x / (1.0f + ExpFloat(-x)); }
  ValueAndSlope Both(float x) const {
    const float e = ExpFloat(-x);
    const float s = 1.0f / (1.0f + e);
    return {x * s, s + x * (s * (e * s))};
  }
};

struct Gelu {
  float operator()(float x) const { return x * Cdf(x); }
  ValueAndSlope Both(float x) const {
    constexpr float kRootTwoPiInverse = 0.398942280f;
    const float cdf = Cdf(x);
    return {x * cdf, cdf + x * (kRootTwoPiInverse * ExpFloat(-0.5f * x * x))};
  }

 private:
  static float Cdf(float x) {
    return 0.5f * (1.0f + std::erf(x * 0.707106781f));
  }
};

struct GeluTanh {
  float operator()(float x) const { return x / (1.0f + ExpFloat(-TwiceU(x))); }
  ValueAndSlope Both(float x) const {
    const float e = ExpFloat(-TwiceU(x));
    const float s = 1.0f / (1.0f + e);
    const float inner = kTwoRootTwoOverPi * (1.0f + 0.134145f * x * x);
    return {x * s, s + (x * (s * (e * s))) * inner};
  }

 private:
  static constexpr float kTwoRootTwoOverPi = 1.59576912f;  // 2 sqrt(2/pi)
  static float TwiceU(float x) {
    return kTwoRootTwoOverPi * (x + 0.044715f * x * x * x);
  }
};

struct Relu {
  float operator()(float x) const { return x < 0.0f ? 0.0f : x; }
  ValueAndSlope Both(float x) const {
    return {(*this)(x), x > 0.0f ? 1.0f : 0.0f};
  }
};

// Calls body(function) with the function object of `activation`. Inlined, with
// body, into callers that are compiled for wider vectors.
template <typename Body>
inline __attribute__((always_inline)) void Dispatch(Activation activation,
                                                    Body body) {
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

// The steps for a row of n elements.

QEFF_VECTOR_CLONES void ActivateRow(Activation activation, int64_t n,
                                    float* x) {
  Dispatch(
      activation, [=](auto function) __attribute__((always_inline)) {
        for (int64_t i = 0; i < n; ++i) x[i] = function(x[i]);
      });
}

QEFF_VECTOR_CLONES void ActivateGateRow(Activation activation, int64_t n,
                                        float* __restrict gate,
                                        const float* __restrict up) {
  Dispatch(
      activation, [=](auto function) __attribute__((always_inline)) {
        for (int64_t i = 0; i < n; ++i) gate[i] = function(gate[i]) * up[i];
      });
}

QEFF_VECTOR_CLONES void ActivateRowBackward(Activation activation, int64_t n,
                                            float* __restrict x,
                                            const float* __restrict dy) {
  Dispatch(
      activation, [=](auto function) __attribute__((always_inline)) {
        for (int64_t i = 0; i < n; ++i)
          x[i] = function.Both(x[i]).slope * dy[i];
      });
}

QEFF_VECTOR_CLONES void ActivateGateRowBackward(Activation activation,
                                                int64_t n,
                                                float* __restrict gate,
                                                float* __restrict up,
                                                const float* __restrict dy) {
  Dispatch(
      activation, [=](auto function) __attribute__((always_inline)) {
        for (int64_t i = 0; i < n; ++i) {
          const ValueAndSlope act = function.Both(gate[i]);
          gate[i] = act.slope * up[i] * dy[i];
          up[i] = act.value * dy[i];
        }
      });
}

}  // namespace

float ActivationOf(Activation activation, float x) {
  ApplyActivation(activation, MatrixView<float>(&x, 1, 1));
  return x;
}

void ApplyActivation(Activation activation, MatrixView<float> x) {
  for (int64_t r = 0; r < x.rows(); ++r) {
    ActivateRow(activation, x.cols(), x.row(r));
  }
}

void ApplyGatedActivation(Activation activation, MatrixView<float> gate,
                          MatrixView<const float> up) {
  QEFF_CHECK(gate.rows() == up.rows() && gate.cols() == up.cols());
  for (int64_t r = 0; r < gate.rows(); ++r) {
    ActivateGateRow(activation, gate.cols(), gate.row(r), up.row(r));
  }
}

float ActivationSlopeOf(Activation activation, float x) {
  const float one = 1.0f;
  ApplyActivationBackward(activation, MatrixView<float>(&x, 1, 1),
                          MatrixView<const float>(&one, 1, 1));
  return x;
}

void ApplyActivationBackward(Activation activation, MatrixView<float> x,
                             MatrixView<const float> dy) {
  QEFF_CHECK(x.rows() == dy.rows() && x.cols() == dy.cols());
  for (int64_t r = 0; r < x.rows(); ++r) {
    ActivateRowBackward(activation, x.cols(), x.row(r), dy.row(r));
  }
}

void ApplyGatedActivationBackward(Activation activation, MatrixView<float> gate,
                                  MatrixView<float> up,
                                  MatrixView<const float> dy) {
  QEFF_CHECK(gate.rows() == dy.rows() && gate.cols() == dy.cols());
  QEFF_CHECK(up.rows() == dy.rows() && up.cols() == dy.cols());
  for (int64_t r = 0; r < dy.rows(); ++r) {
    ActivateGateRowBackward(activation, dy.cols(), gate.row(r), up.row(r),
                            dy.row(r));
  }
}

void AddTo(MatrixView<float> x, MatrixView<const float> y) {
  ForEach(x, y, [](float a, float b) { return a + b; });
}

void Clip(float limit, MatrixView<float> x) {
  QEFF_CHECK(limit > 0);
  for (int64_t r = 0; r < x.rows(); ++r) {
    float* row = x.row(r);
    for (int64_t c = 0; c < x.cols(); ++c) {
      const float v = row[c];
      row[c] = v > limit ? limit : (v < -limit ? -limit : v);
    }
  }
}

void ClipBackward(float limit, MatrixView<const float> clipped,
                  MatrixView<float> dx) {
  QEFF_CHECK(limit > 0);
  ForEach(dx, clipped, [&](float d, float v) {
    return v >= limit || v <= -limit ? 0.0f : d;
  });
}

}  // namespace qeff
