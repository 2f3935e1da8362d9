// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/host_forward.h"

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<const Transformer> Load(const TestModel& model) {
  return *Transformer::Load(OpenTestModel(model));
}

// Sequences of lengths that fill chunks and groups unevenly.
std::vector<std::vector<int32_t>> Sequences() {
  std::vector<std::vector<int32_t>> sequences;
  for (int64_t length : {7, 1, 30, 12, 2, 48, 5}) {
    sequences.push_back(TestTokens(length));
  }
  return sequences;
}

// Hidden states and logits of all sequences, as bytes.
std::string Results(HostForward& forward) {
  std::string results;
  int64_t expected = 0;
  const absl::Status status = forward.Run(
      Sequences(), nullptr,
      [&](int64_t sequence, MatrixView<const float> hidden) {
        EXPECT_EQ(sequence, expected++);
        const size_t row_bytes = sizeof(float) * hidden.cols();
        for (int64_t r = 0; r < hidden.rows(); ++r) {
          results.append(reinterpret_cast<const char*>(hidden.row(r)),
                         row_bytes);
        }
        const Matrix<float> logits = *forward.Logits(hidden);
        results.append(reinterpret_cast<const char*>(logits.data()),
                       logits.span().size() * sizeof(float));
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(expected, static_cast<int64_t>(Sequences().size()));
  return results;
}

TEST(HostForwardTest, SameBitsForAnyThreadsBudgetsAndChunks) {
  // Weights: nothing is kept; lm_head and one block; all. Activations: one
  // sequence at a time; some; all.
  struct Variant {
    uint64_t weight_bytes, activation_bytes;
    int64_t chunk_tokens;
  };
  const Variant variants[] = {{0, 1 << 20, 1024},       {40000, 1 << 20, 1024},
                              {1 << 30, 0, 1024},       {1 << 30, 4000, 1024},
                              {1 << 30, 1 << 20, 1},    {1 << 30, 1 << 20, 16},
                              {1 << 30, 1 << 20, 1024}, {40000, 4000, 16}};
  for (const char* family : {"llama", "qwen3", "gpt2", "mpt"}) {
    const auto model = Load(MakeTestModel(family));
    const auto one = *CreateThreadPool(1);
    const auto three = *CreateThreadPool(3);
    const std::string expected =
        Results(**HostForward::Create(model, one.get()));
    for (ThreadPool* pool : {one.get(), three.get()}) {
      for (const Variant& variant : variants) {
        HostForwardOptions options;
        options.weight_budget_bytes = variant.weight_bytes;
        options.activation_budget_bytes = variant.activation_bytes;
        options.chunk_tokens = variant.chunk_tokens;
        const auto forward = *HostForward::Create(model, pool, options);
        EXPECT_EQ(Results(*forward) == expected, true)
            << family << " " << pool->num_threads() << " "
            << options.weight_budget_bytes << " "
            << options.activation_budget_bytes << " " << options.chunk_tokens;
      }
    }
  }
}

TEST(HostForwardTest, RunsAgainWithTheSameBits) {
  const auto pool = *CreateThreadPool(2);
  const auto forward =
      *HostForward::Create(Load(MakeTestModel("mistral")), pool.get());
  const std::string first = Results(*forward);
  EXPECT_EQ(Results(*forward) == first, true);
}

// Recomputes every product in double and notes the order of modules.
class CheckingObserver : public ForwardObserver {
 public:
  explicit CheckingObserver(const Transformer& model) : model_(model) {}

  absl::Status OnLinear(const LinearTap& tap) override {
    const LinearModule& module = tap.module;
    if (modules_.empty() || modules_.back() != module.module) {
      modules_.push_back(module.module);
    }
    rows_ += tap.input.rows();
    EXPECT_EQ(tap.input.rows(), tap.output.rows());
    EXPECT_EQ(tap.input.cols(), module.in_features);
    EXPECT_EQ(tap.output.cols(), module.out_features);
    const LinearWeights w = *model_.LoadLinear(module.block, module.role);
    for (int64_t r = 0; r < tap.input.rows(); ++r) {
      for (int64_t o = 0; o < module.out_features; ++o) {
        double sum = w.bias.empty() ? 0.0 : w.bias[o];
        double magnitude = std::abs(sum);
        for (int64_t i = 0; i < module.in_features; ++i) {
          const double term =
              static_cast<double>(tap.input.row(r)[i]) * w.weight.row(o)[i];
          sum += term;
          magnitude += std::abs(term);
        }
        // See packed_linear_test.cc for the bound.
        EXPECT_NEAR(tap.output.row(r)[o], sum,
                    magnitude * 1.01 * (module.in_features + 1) / (1 << 24));
      }
    }
    return absl::OkStatus();
  }

  std::vector<std::string> modules_;
  int64_t rows_ = 0;

 private:
  const Transformer& model_;
};

TEST(HostForwardTest, ObserversSeeEveryLinearLayer) {
  const auto pool = *CreateThreadPool(2);
  for (const char* family : {"llama", "gpt2", "mpt"}) {
    const auto model = Load(MakeTestModel(family));
    const auto forward = *HostForward::Create(model, pool.get());
    CheckingObserver observer(*model);
    ASSERT_TRUE(forward
                    ->Run(Sequences(), &observer,
                          [](int64_t, MatrixView<const float>) {
                            return absl::OkStatus();
                          })
                    .ok());
    std::vector<std::string> expected;
    for (const BlockNames& block : model->map().blocks) {
      for (const LinearModule& linear : block.linears) {
        expected.push_back(linear.module);
      }
    }
    EXPECT_EQ(observer.modules_, expected);
    EXPECT_EQ(observer.rows_, static_cast<int64_t>(105 * expected.size()));
  }
}

TEST(HostForwardTest, ErrorsOfCallbacksEndTheRun) {
  class Failing : public ForwardObserver {
    absl::Status OnLinear(const LinearTap& tap) override {
      return tap.module.block == 1 ? absl::CancelledError("stop")
                                   : absl::OkStatus();
    }
  };
  const auto pool = *CreateThreadPool(1);
  const auto forward =
      *HostForward::Create(Load(MakeTestModel("llama")), pool.get());
  Failing observer;
  int64_t calls = 0;
  const auto count = [&](int64_t, MatrixView<const float>) {
    return ++calls == 2 ? absl::CancelledError("enough") : absl::OkStatus();
  };
  EXPECT_EQ(forward->Run(Sequences(), &observer, count).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(forward->Run(Sequences(), nullptr, count).message(), "enough");
  EXPECT_EQ(calls, 2);
}

TEST(HostForwardTest, RefusesBadTokensBeforeAnyWork) {
  const auto pool = *CreateThreadPool(1);
  const auto forward =
      *HostForward::Create(Load(MakeTestModel("gpt2")), pool.get());
  const auto run = [&](std::vector<std::vector<int32_t>> sequences) {
    const absl::Status status =
        forward->Run(sequences, nullptr, [](int64_t, MatrixView<const float>) {
          ADD_FAILURE() << "called";
          return absl::OkStatus();
        });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(run({{1}, {2, 20}}),
            "sequence 1: token at index 1: expected 0 to 19, found 20");
  EXPECT_THAT(run({{1}, {}}), HasSubstr("sequence 1: the sequence is empty"));
  EXPECT_THAT(run({TestTokens(49)}), HasSubstr("at most 48"));
  EXPECT_FALSE(forward->LogitsOf({-1}).ok());
  EXPECT_TRUE(forward
                  ->Run({}, nullptr,
                        [](int64_t, MatrixView<const float>) {
                          return absl::OkStatus();
                        })
                  .ok());
}

TEST(HostForwardTest, RopeModelsTakeSequencesOfAnyLength) {
  const auto pool = *CreateThreadPool(2);
  const TestModel model = MakeTestModel("llama");
  const auto forward = *HostForward::Create(Load(model), pool.get());
  const std::vector<int32_t> tokens = TestTokens(80);  // max 64
  EXPECT_LT(
      RelativeError(*forward->LogitsOf(tokens), ReferenceLogits(model, tokens)),
      1.2e-5);
}

TEST(HostForwardTest, LogitsOfChosenRows) {
  const auto pool = *CreateThreadPool(2);
  const auto forward =
      *HostForward::Create(Load(MakeTestModel("qwen2")), pool.get());
  const std::vector<int32_t> tokens = TestTokens(9);
  const Matrix<float> all = *forward->LogitsOf(tokens);
  ASSERT_TRUE(forward
                  ->Run({{tokens}}, nullptr,
                        [&](int64_t, MatrixView<const float> hidden) {
                          const Matrix<float> some =
                              *forward->Logits(hidden.Rows(4, 2));
                          EXPECT_EQ(some.rows(), 2);
                          EXPECT_EQ(std::memcmp(some.data(), all.row(4),
                                                2 * 20 * sizeof(float)),
                                    0);
                          EXPECT_EQ(forward->Logits(hidden.Rows(0, 0))->rows(),
                                    0);
                          return absl::OkStatus();
                        })
                  .ok());
}

TEST(HostForwardTest, RefusesNonsenseOptions) {
  const auto pool = *CreateThreadPool(1);
  HostForwardOptions options;
  options.chunk_tokens = 0;
  EXPECT_FALSE(
      HostForward::Create(Load(MakeTestModel("llama")), pool.get(), options)
          .ok());
}

}  // namespace
}  // namespace qeff
