// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/ops.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/device/scalar_math.h"
#include "qeff/util/check.h"

namespace qeff {
namespace internal_device {
namespace {

void RmsNorm(double epsilon, absl::Span<const float> weight,
             absl::Span<const float> x, absl::Span<float> out) {
  double squares = 0;
  for (float v : x) squares += static_cast<double>(v) * v;
  const double mean = squares / static_cast<double>(x.size());
  const double scale = 1.0 / std::sqrt(mean + epsilon);
  for (size_t i = 0; i < x.size(); ++i) {
    out[i] = static_cast<float>(x[i] * scale * weight[i]);
  }
}

void LayerNorm(double epsilon, const DeviceNorm& norm,
               absl::Span<const float> x, absl::Span<float> out) {
  const double size = static_cast<double>(x.size());
  double sum = 0;
  for (float v : x) sum += v;
  const double mean = sum / size;
  double squares = 0;
  for (float v : x) squares += (v - mean) * (v - mean);
  const double scale = 1.0 / std::sqrt(squares / size + epsilon);
  for (size_t i = 0; i < x.size(); ++i) {
    const double bias = norm.bias.empty() ? 0.0 : norm.bias[i];
    out[i] = static_cast<float>((x[i] - mean) * scale * norm.weight[i] + bias);
  }
}

double Sigmoid(double x) { return 1.0 / (1.0 + Exp(-x)); }

double Gelu(double x) { return 0.5 * x * (1.0 + Erf(x * 0.7071067811865476)); }

// x/2 (1 + tanh(u)) = x sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3).
// Source: Hendrycks and Gimpel 2016 ("Gaussian Error Linear Units").
double GeluTanh(double x) {
  const double u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  return x * Sigmoid(2.0 * u);
}

template <typename Function>
void Map(absl::Span<float> x, const Function& function) {
  for (float& v : x) v = static_cast<float>(function(v));
}

}  // namespace

void Normalize(NormKind kind, double epsilon, const DeviceNorm& norm,
               absl::Span<const float> x, absl::Span<float> out) {
  QEFF_DCHECK(x.size() == out.size() && x.size() == norm.weight.size());
  if (kind == NormKind::kLayerNorm) return LayerNorm(epsilon, norm, x, out);
  RmsNorm(epsilon, norm.weight, x, out);
  if (!norm.bias.empty()) Add(norm.bias, out);
}

void NormalizeHeads(double epsilon, absl::Span<const float> weight,
                    absl::Span<float> heads) {
  for (size_t at = 0; at < heads.size(); at += weight.size()) {
    const absl::Span<float> head = heads.subspan(at, weight.size());
    RmsNorm(epsilon, weight, head, head);
  }
}

void Rotate(absl::Span<const float> cosines, absl::Span<const float> sines,
            absl::Span<float> heads) {
  const size_t half = cosines.size();
  for (size_t at = 0; at < heads.size(); at += 2 * half) {
    float* first = heads.data() + at;
    float* second = first + half;
    for (size_t i = 0; i < half; ++i) {
      const float a = first[i], b = second[i];
      first[i] = a * cosines[i] - b * sines[i];
      second[i] = b * cosines[i] + a * sines[i];
    }
  }
}

void Clamp(float limit, absl::Span<float> x) {
  for (float& v : x) {
    if (v > limit) v = limit;
    if (v < -limit) v = -limit;
  }
}

void ScaledSoftmax(float scale, float slope, absl::Span<float> x) {
  QEFF_DCHECK(!x.empty());
  const size_t last = x.size() - 1;
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = x[i] * scale - slope * static_cast<float>(last - i);
  }
  const double max = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (float& v : x) {
    v = static_cast<float>(Exp(v - max));
    sum += v;
  }
  for (float& v : x) v = static_cast<float>(v / sum);
}

void Activate(Activation activation, absl::Span<float> x) {
  switch (activation) {
    case Activation::kSilu:
      return Map(x, [](double v) { return v * Sigmoid(v); });
    case Activation::kGelu:
      return Map(x, Gelu);
    case Activation::kGeluTanh:
      return Map(x, GeluTanh);
    case Activation::kRelu:
      return Map(x, [](double v) { return v < 0 ? 0.0 : v; });
  }
}

void Add(absl::Span<const float> y, absl::Span<float> x) {
  QEFF_DCHECK(x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

void Multiply(absl::Span<const float> y, absl::Span<float> x) {
  QEFF_DCHECK(x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
}

}  // namespace internal_device
}  // namespace qeff
