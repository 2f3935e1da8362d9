// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/adamw.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

// What is the same for all elements, with everything that can be multiplied
// beforehand.
struct Factors {
  float gradient;     // gradient_scale
  float old_first;    // beta1
  float new_first;    // 1 - beta1
  float old_second;   // beta2
  float new_second;   // 1 - beta2
  float second_root;  // 1 / sqrt(1 - beta2^t)
  float epsilon;
  float rate;   // learning rate / (1 - beta1^t)
  float decay;  // learning rate * weight decay
};

// Moments of rows that get no gradient (those of rare tokens) shrink until they
// are subnormal, and are not 0 even then: 0.9 times the smallest number rounds
// to itself. Processors take longer for these: AMD's twice as long (AVX2, in
// cache), others much more.
inline float FlushSubnormal(float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0f : x;
}

QEFF_VECTOR_CLONES void StepElements(const Factors& factors, size_t count,
                                     const float* __restrict gradient,
                                     float* __restrict first,
                                     float* __restrict second,
                                     float* __restrict value) {
  const Factors f = factors;
  for (size_t i = 0; i < count; ++i) {
    const float g = f.gradient * gradient[i];
    const float m = FlushSubnormal(f.old_first * first[i] + f.new_first * g);
    const float v =
        FlushSubnormal(f.old_second * second[i] + f.new_second * (g * g));
    first[i] = m;
    second[i] = v;
    const float root = std::sqrt(v) * f.second_root + f.epsilon;
    value[i] -= f.rate * m / root + f.decay * value[i];
  }
}

// base^exponent from products alone: the same bits on every machine.
double Power(double base, int64_t exponent) {
  double power = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) power *= base;
  }
  return power;
}

}  // namespace

AdamW::AdamW(const OptimizerOptions& options,
             const std::vector<ParameterShape>& shapes)
    : options_(options) {
  for (const ParameterShape& shape : shapes) {
    const size_t elems = static_cast<size_t>(shape.rows * shape.cols);
    parameters_.push_back(
        {shape, AlignedArray<float>(elems), AlignedArray<float>(elems)});
  }
}

void AdamW::Step(size_t parameter, int64_t step, double learning_rate,
                 float gradient_scale, absl::Span<const float> gradient,
                 absl::Span<float> value, ThreadPool& pool) {
  QEFF_CHECK(parameter < parameters_.size() && step >= 1);
  Parameter& p = parameters_[parameter];
  QEFF_CHECK(gradient.size() == p.first.size());
  QEFF_CHECK(value.size() == p.first.size());
  Factors factors;
  factors.gradient = gradient_scale;
  factors.old_first = static_cast<float>(options_.beta1);
  factors.new_first = static_cast<float>(1 - options_.beta1);
  factors.old_second = static_cast<float>(options_.beta2);
  factors.new_second = static_cast<float>(1 - options_.beta2);
  factors.second_root =
      static_cast<float>(1 / std::sqrt(1 - Power(options_.beta2, step)));
  factors.epsilon = static_cast<float>(options_.epsilon);
  factors.rate =
      static_cast<float>(learning_rate / (1 - Power(options_.beta1, step)));
  factors.decay =
      p.shape.decays ? static_cast<float>(learning_rate * options_.weight_decay)
                     : 0.0f;
  const int64_t count = static_cast<int64_t>(value.size());
  // Below 16 KiB an array, starting threads costs more than they save.
  const int64_t grain = BalancedGrain(count, pool.num_threads(), 4096);
  pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int) {
    StepElements(factors, static_cast<size_t>(end - begin),
                 gradient.data() + begin, p.first.data() + begin,
                 p.second.data() + begin, value.data() + begin);
  });
}

std::vector<std::pair<std::string, absl::Span<float>>> AdamW::State() {
  std::vector<std::pair<std::string, absl::Span<float>>> state;
  for (Parameter& p : parameters_) {
    state.emplace_back(absl::StrCat(p.shape.name, ".first_moment"),
                       p.first.span());
    state.emplace_back(absl::StrCat(p.shape.name, ".second_moment"),
                       p.second.span());
  }
  return state;
}

}  // namespace qeff
