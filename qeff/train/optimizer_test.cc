// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr int kSteps = 20;
constexpr double kRate = 0.01;

std::vector<float> Normal(size_t count, uint64_t seed, float scale = 1) {
  const Random random(seed);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = scale * random.NormalAt(i);
  return values;
}

// Rows with gradients of different size, as models have them, the first of
// zeros.
std::vector<float> Gradient(const ParameterShape& shape, int64_t step) {
  std::vector<float> gradient =
      Normal(static_cast<size_t>(shape.rows * shape.cols),
             static_cast<uint64_t>(step) + 100);
  for (size_t i = 0; i < gradient.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / shape.cols;
    gradient[i] *= 0.01f * static_cast<float>(row);
    if (step == kSteps) gradient[i] *= 50;  // to be clipped by Adafactor
  }
  return gradient;
}

// All that an optimizer leaves behind.
struct Outcome {
  std::vector<float> value;
  std::vector<float> state;
};

std::vector<float> Flat(Optimizer& optimizer) {
  std::vector<float> flat;
  for (const auto& part : optimizer.State()) {
    flat.insert(flat.end(), part.second.begin(), part.second.end());
  }
  return flat;
}

std::unique_ptr<Optimizer> Make(const OptimizerOptions& options,
                                const ParameterShape& shape) {
  auto optimizer = Optimizer::Create(options, {shape});
  EXPECT_TRUE(optimizer.ok()) << optimizer.status();
  return *std::move(optimizer);
}

Outcome Train(const OptimizerOptions& options, const ParameterShape& shape,
              int threads, float scale = 1, int resume_at = 0) {
  const auto pool = CreateThreadPool(threads).value();
  auto optimizer = Make(options, shape);
  Outcome outcome;
  outcome.value = Normal(static_cast<size_t>(shape.rows * shape.cols), 1);
  for (int64_t step = 1; step <= kSteps; ++step) {
    std::vector<float> gradient = Gradient(shape, step);
    for (float& g : gradient) g /= scale;
    optimizer->Step(0, step, kRate, scale, gradient,
                    absl::MakeSpan(outcome.value), *pool);
    if (step == resume_at) {
      auto resumed = Make(options, shape);
      const auto from = optimizer->State(), to = resumed->State();
      for (size_t i = 0; i < from.size(); ++i) {
        EXPECT_EQ(from[i].first, to[i].first);
        std::copy(from[i].second.begin(), from[i].second.end(),
                  to[i].second.begin());
      }
      optimizer = std::move(resumed);
    }
  }
  outcome.state = Flat(*optimizer);
  return outcome;
}

// The formulas of optimizer.h in double.

std::vector<double> AdamWReference(const OptimizerOptions& options,
                                   const ParameterShape& shape) {
  const auto start = Normal(static_cast<size_t>(shape.rows * shape.cols), 1);
  std::vector<double> value(start.begin(), start.end());
  std::vector<double> m(value.size()), v(value.size());
  for (int64_t t = 1; t <= kSteps; ++t) {
    const std::vector<float> gradient = Gradient(shape, t);
    for (size_t i = 0; i < value.size(); ++i) {
      const double g = gradient[i];
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
      const double step = m[i] / (1 - std::pow(options.beta1, t)) /
                          (std::sqrt(v[i] / (1 - std::pow(options.beta2, t))) +
                           options.epsilon);
      value[i] -=
          kRate * (step + (shape.decays ? options.weight_decay : 0) * value[i]);
    }
  }
  return value;
}

std::vector<double> AdafactorReference(const OptimizerOptions& options,
                                       const ParameterShape& shape,
                                       bool* clipped) {
  const size_t rows = static_cast<size_t>(shape.rows);
  const size_t cols = static_cast<size_t>(shape.cols);
  const auto start = Normal(rows * cols, 1);
  std::vector<double> value(start.begin(), start.end());
  std::vector<double> r(rows), c(cols), v(rows * cols), u(rows * cols);
  for (int64_t t = 1; t <= kSteps; ++t) {
    const std::vector<float> gradient = Gradient(shape, t);
    const double beta = 1 - std::pow(static_cast<double>(t), -0.8);
    for (double& mean : r) mean *= beta;
    for (double& mean : c) mean *= beta;
    for (size_t i = 0; i < value.size(); ++i) {
      const double g = gradient[i];
      const double square = (1 - beta) * (g * g + 1e-30);
      r[i / cols] += square / static_cast<double>(cols);
      c[i % cols] += square / static_cast<double>(rows);
      v[i] = beta * v[i] + square;
    }
    double mean = 0, sum = 0;
    for (const double of_row : r) mean += of_row / static_cast<double>(rows);
    for (size_t i = 0; i < value.size(); ++i) {
      const double second =
          rows >= 2 && cols >= 2 ? r[i / cols] * c[i % cols] / mean : v[i];
      u[i] = static_cast<double>(gradient[i]) / std::sqrt(second);
      sum += u[i] * u[i];
    }
    const double rms = std::sqrt(sum / static_cast<double>(value.size()));
    if (rms > 1.5) *clipped = true;
    for (size_t i = 0; i < value.size(); ++i) {
      value[i] -=
          kRate * (u[i] / std::max(1.0, rms) +
                   (shape.decays ? options.weight_decay : 0) * value[i]);
    }
  }
  return value;
}

// In each step the new value is rounded (half a unit of values below 4), and an
// update of at most about 5 rates has a relative error of some 20 roundings.
constexpr double kTolerance =
    kSteps * (2 + 5 * kRate * 20) *
    static_cast<double>(std::numeric_limits<float>::epsilon());

void ExpectNear(const std::vector<float>& actual,
                const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  double worst = 0;
  size_t worst_index = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error =
        std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (!(error <= worst)) {
      worst = error;
      worst_index = i;
    }
  }
  EXPECT_LE(worst, kTolerance) << "at " << worst_index;
}

std::vector<ParameterShape> Shapes() {
  return {{"vector", 1, 77, false}, {"decaying", 1, 16, true},
          {"column", 33, 1, true},  {"small", 2, 2, true},
          {"odd", 37, 53, true},    {"frozen", 3, 1027, false},
          {"tall", 1500, 33, true}};
}

TEST(AdamWTest, IsTheFormula) {
  for (const ParameterShape& shape : Shapes()) {
    SCOPED_TRACE(shape.name);
    const OptimizerOptions options;
    ExpectNear(Train(options, shape, 2).value, AdamWReference(options, shape));
  }
  OptimizerOptions options;
  options.beta1 = 0;
  options.beta2 = 0.999;
  options.epsilon = 0.1;
  options.weight_decay = 0.5;
  ExpectNear(Train(options, Shapes().back(), 2).value,
             AdamWReference(options, Shapes().back()));
}

// Of torch.optim.AdamW of PyTorch 1.13, lr 0.01, betas (0.9, 0.95), in float32:
// values (i * 5 % 17 - 8) / 8 after 20 steps t with gradients
// ((i * 7 + t * 13) % 31 - 15) / 16.
TEST(AdamWTest, IsWhatPyTorchComputes) {
  constexpr size_t kElems = 12;
  struct Case {
    double weight_decay;
    float value[kElems];
  };
  const Case cases[] = {
      {0.0,
       {-1.00475991f, -0.371511608f, 0.215021104f, 0.885208786f, -0.591470361f,
        -0.0375289284f, 0.612902522f, -0.844730079f, -0.213507101f,
        0.356415898f, 0.982697546f, -0.513429284f}},
      {0.1,
       {-0.984937966f, -0.364064008f, 0.210586444f, 0.867622316f, -0.579538524f,
        -0.0368593596f, 0.600655019f, -0.827878535f, -0.209063649f,
        0.349182904f, 0.963088095f, -0.503226697f}}};
  const float first[kElems] = {0.0485708304f,  0.0164090674f,  0.00569742126f,
                               -0.0216296539f, -0.0327305123f, -0.0584136695f,
                               0.0729932636f,  0.062136706f,   -0.0162997302f,
                               -0.0709027052f, 0.0713105202f,  0.0162751023f};
  const float second[kElems] = {0.195600167f, 0.187550575f, 0.209658116f,
                                0.211324885f, 0.195496023f, 0.189582363f,
                                0.196188688f, 0.220627502f, 0.198849112f,
                                0.195889816f, 0.19035545f,  0.210839584f};
  const auto pool = CreateThreadPool(1).value();
  for (const Case& golden : cases) {
    OptimizerOptions options;
    options.weight_decay = golden.weight_decay;
    const auto optimizer = Make(options, {"w", 3, 4, true});
    std::vector<float> value(kElems), gradient(kElems);
    for (int i = 0; i < 12; ++i) {
      value[static_cast<size_t>(i)] = static_cast<float>(i * 5 % 17 - 8) / 8;
    }
    for (int t = 1; t <= kSteps; ++t) {
      for (int i = 0; i < 12; ++i) {
        gradient[static_cast<size_t>(i)] =
            static_cast<float>((i * 7 + t * 13) % 31 - 15) / 16;
      }
      optimizer->Step(0, t, 0.01, 1, gradient, absl::MakeSpan(value), *pool);
    }
    const auto state = optimizer->State();
    for (size_t i = 0; i < kElems; ++i) {
      // Both round each step in their own order.
      EXPECT_NEAR(value[i], golden.value[i], kTolerance) << i;
      EXPECT_NEAR(state[0].second[i], first[i], 2e-7) << i;
      EXPECT_NEAR(state[1].second[i], second[i], 2e-7) << i;
    }
  }
}

TEST(AdamWTest, MomentsWithoutGradientBecomeZero) {
  const auto pool = CreateThreadPool(1).value();
  const auto optimizer = Make(OptimizerOptions(), {"w", 2, 9, true});
  std::vector<float> value(18, 1.0f), gradient(18, 1.0f);
  for (int64_t step = 1; step <= 2000; ++step) {
    optimizer->Step(0, step, 1e-3, 1, gradient, absl::MakeSpan(value), *pool);
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    for (const float moment : Flat(*optimizer)) {
      ASSERT_NE(std::fpclassify(moment), FP_SUBNORMAL) << step;
    }
  }
  EXPECT_THAT(Flat(*optimizer), testing::Each(0.0f));
}

TEST(AdafactorTest, IsTheFormula) {
  bool clipped = false;
  for (const ParameterShape& shape : Shapes()) {
    SCOPED_TRACE(shape.name);
    OptimizerOptions options;
    options.kind = OptimizerKind::kAdafactor;
    ExpectNear(Train(options, shape, 2).value,
               AdafactorReference(options, shape, &clipped));
  }
  EXPECT_TRUE(clipped) << "no step of the test is clipped";
}

TEST(AdafactorTest, RemembersRowsAndColumnsOfMatrices) {
  OptimizerOptions options;
  options.kind = OptimizerKind::kAdafactor;
  const auto optimizer =
      Optimizer::Create(options, {{"w", 30, 40, true}, {"b", 1, 40, false}})
          .value();
  std::vector<std::pair<std::string, size_t>> sizes;
  for (const auto& part : optimizer->State()) {
    sizes.emplace_back(part.first, part.second.size());
  }
  EXPECT_THAT(sizes,
              ElementsAre(Pair("w.row_moment", 30), Pair("w.column_moment", 40),
                          Pair("b.second_moment", 40)));
}

// What holds for every optimizer.
class OptimizerTest : public testing::TestWithParam<OptimizerKind> {
 protected:
  OptimizerTest() { options_.kind = GetParam(); }
  OptimizerOptions options_;
};

TEST_P(OptimizerTest, SameBitsForAnyNumberOfThreads) {
  for (const ParameterShape& shape : Shapes()) {
    const Outcome one = Train(options_, shape, 1);
    for (const int threads : {2, 3, 8}) {
      const Outcome several = Train(options_, shape, threads);
      EXPECT_EQ(several.value, one.value) << shape.name << ", " << threads;
      EXPECT_EQ(several.state, one.state) << shape.name << ", " << threads;
    }
  }
}

TEST_P(OptimizerTest, SameBitsAfterResume) {
  for (const ParameterShape& shape : Shapes()) {
    const Outcome whole = Train(options_, shape, 2);
    for (const int at : {1, 10}) {
      const Outcome resumed = Train(options_, shape, 2, 1, at);
      EXPECT_EQ(resumed.value, whole.value) << shape.name << ", " << at;
      EXPECT_EQ(resumed.state, whole.state) << shape.name << ", " << at;
    }
  }
}

TEST_P(OptimizerTest, ScaleIsThatOfTheGradient) {
  // A power of two changes no bits.
  for (const ParameterShape& shape : Shapes()) {
    const Outcome plain = Train(options_, shape, 1);
    const Outcome scaled = Train(options_, shape, 1, 1024);
    EXPECT_EQ(scaled.value, plain.value) << shape.name;
    EXPECT_EQ(scaled.state, plain.state) << shape.name;
  }
}

TEST_P(OptimizerTest, FindsTheMinimumOfAParabola) {
  // f = sum of w (x - target)^2, with w from 1 to 100.
  const ParameterShape shape = {"x", 10, 10, false};
  const auto pool = CreateThreadPool(1).value();
  const auto optimizer = Make(options_, shape);
  const std::vector<float> target = Normal(100, 3);
  std::vector<float> x(100), gradient(100);
  for (int64_t step = 1; step <= 2000; ++step) {
    for (size_t i = 0; i < x.size(); ++i) {
      gradient[i] = 2 * static_cast<float>(i + 1) * (x[i] - target[i]);
    }
    optimizer->Step(0, step, 0.02 * (1 - static_cast<double>(step) / 2001), 1,
                    gradient, absl::MakeSpan(x), *pool);
  }
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], target[i], 1e-3) << i;
}

TEST_P(OptimizerTest, DecayIsOfTheWeightsAlone) {
  // Without a gradient there is nothing else; and none where it is not wanted.
  const auto pool = CreateThreadPool(1).value();
  options_.weight_decay = 0.25;
  for (const bool decays : {true, false}) {
    const auto optimizer = Make(options_, {"w", 2, 3, decays});
    std::vector<float> value(6, 8.0f);
    const std::vector<float> gradient(6);
    optimizer->Step(0, 1, 0.5, 1, gradient, absl::MakeSpan(value), *pool);
    EXPECT_THAT(value, testing::Each(decays ? 7.0f : 8.0f));
  }
}

TEST_P(OptimizerTest, ParametersDoNotTouchEachOther) {
  const std::vector<ParameterShape> shapes = Shapes();
  const auto optimizer = Optimizer::Create(options_, shapes).value();
  const auto pool = CreateThreadPool(2).value();
  std::vector<std::vector<float>> values;
  for (const ParameterShape& shape : shapes) {
    values.push_back(Normal(static_cast<size_t>(shape.rows * shape.cols), 1));
  }
  for (int64_t step = 1; step <= kSteps; ++step) {
    for (size_t i = 0; i < shapes.size(); ++i) {
      optimizer->Step(i, step, kRate, 1, Gradient(shapes[i], step),
                      absl::MakeSpan(values[i]), *pool);
    }
  }
  for (size_t i = 0; i < shapes.size(); ++i) {
    EXPECT_EQ(values[i], Train(options_, shapes[i], 1).value);
  }
}

INSTANTIATE_TEST_SUITE_P(All, OptimizerTest,
                         testing::Values(OptimizerKind::kAdamW,
                                         OptimizerKind::kAdafactor),
                         [](const auto& info) {
                           return std::string(OptimizerKindName(info.param));
                         });

TEST(OptimizerOptionsTest, NamesGoBothWays) {
  for (const OptimizerKind kind :
       {OptimizerKind::kAdamW, OptimizerKind::kAdafactor}) {
    EXPECT_EQ(ParseOptimizerKind(OptimizerKindName(kind)).value(), kind);
  }
  EXPECT_THAT(ParseOptimizerKind("adam").status().message(),
              HasSubstr("\"adam\": expected adamw or adafactor"));
}

TEST(OptimizerOptionsTest, RefusesWhatCannotBe) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto message = [](auto change) {
    OptimizerOptions options;
    change(options);
    const auto optimizer = Optimizer::Create(options, {});
    EXPECT_EQ(optimizer.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(optimizer.status().message());
  };
  EXPECT_THAT(message([](auto& o) { o.beta1 = 1; }),
              HasSubstr("beta1: expected a number from 0 to below 1, found 1"));
  EXPECT_THAT(message([](auto& o) { o.beta2 = kNan; }), HasSubstr("beta2"));
  EXPECT_THAT(message([](auto& o) { o.epsilon = 0; }), HasSubstr("epsilon"));
  EXPECT_THAT(message([](auto& o) { o.epsilon = 1e-60; }), HasSubstr("1e-60"));
  EXPECT_THAT(message([](auto& o) { o.weight_decay = -1; }),
              HasSubstr("weight decay: expected 0 or more, found -1"));
}

}  // namespace
}  // namespace qeff
