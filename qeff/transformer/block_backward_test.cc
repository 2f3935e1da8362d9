// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/block_backward.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/gradient_testutil.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

const std::vector<int64_t> kLengths = {5, 1, 4};
constexpr int64_t kTokens = 10;

// Like Llama: RMSNorm, rope, two query heads share a key, gated.
TransformerSpec BaseSpec() {
  TransformerSpec spec;
  spec.hidden_size = 12;
  spec.num_layers = 1;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.head_dim = 4;
  spec.ffn_size = 14;
  spec.vocab_size = 20;
  spec.max_positions = 16;
  spec.rope.theta = 100.0;
  spec.attention_scale = 0.5;
  return spec;
}

// A block with everything that it borrows.
struct Problem {
  TransformerSpec spec;
  std::vector<int64_t> lengths;
  Matrix<float> x, dy;
  BlockWeights weights;
  RopeTable rope;
  std::vector<float> alibi;

  explicit Problem(const TransformerSpec& s,
                   std::vector<int64_t> sequence_lengths = kLengths)
      : spec(s), lengths(std::move(sequence_lengths)) {
    int64_t tokens = 0;
    for (int64_t length : lengths) tokens += length;
    x = RandomMatrix(tokens, spec.hidden_size, 1);
    dy = RandomMatrix(tokens, spec.hidden_size, 2);
    weights = RandomBlockWeights(spec);
    if (spec.position == PositionKind::kRope) rope = RopeTable(spec, tokens);
    if (spec.position == PositionKind::kAlibi) {
      for (double slope : AlibiSlopes(spec)) {
        alibi.push_back(static_cast<float>(slope));
      }
    }
  }

  BlockContext Context(ThreadPool& pool) const {
    return {&spec, &pool, &rope, alibi};
  }

  // Weights, then x.
  std::vector<double> Values() {
    std::vector<double> values;
    for (const NamedPart& part : PartsOf(weights)) {
      values.insert(values.end(), part.values.begin(), part.values.end());
    }
    values.insert(values.end(), x.span().begin(), x.span().end());
    return values;
  }
};

struct Result {
  Matrix<float> y, dx;
  BlockWeights gradient;

  // Those of the weights, then of x.
  std::vector<NamedPart> Parts() {
    std::vector<NamedPart> parts = PartsOf(gradient);
    parts.push_back({"x", dx.span()});
    return parts;
  }
};

Result RunBlock(const Problem& p, int threads, int64_t chunk_tokens) {
  const auto pool = *CreateThreadPool(threads);
  DifferentiableBlock block(p.Context(*pool));
  Result result = {Matrix<float>(p.x.rows(), p.x.cols()),
                   Matrix<float>(p.x.rows(), p.x.cols()), ZerosLike(p.weights)};
  block.Run(
      p.weights, p.lengths, p.x.view(), chunk_tokens,
      [&](int64_t row, MatrixView<const float> y, MatrixView<float> dy) {
        const size_t bytes =
            static_cast<size_t>(y.rows() * y.cols()) * sizeof(float);
        std::memcpy(result.y.row(row), y.data(), bytes);
        std::memcpy(dy.data(), p.dy.row(row), bytes);
      },
      result.dx.view(), result.gradient);
  return result;
}

// Of the gradient of sum(dy * y), a block against finite differences.
//
// An error of one rounding, u = 2^-24 of a value, goes through at most 12
// products and norms forward and back, each a sum of at most 14 products whose
// own roundings are another (14 + 3) u in the worst case, about sqrt(17) u on
// average: together 12 sqrt(17) u = 3e-6 of the vector when no sum cancels.
// Sums cancel a little: 1e-5. Small parts also carry rounding of the size of
// the others.
void CheckGradient(const std::string& name, const TransformerSpec& spec) {
  SCOPED_TRACE(name);
  Problem p(spec);
  const std::vector<double> values = p.Values();
  Result result = RunBlock(p, /*threads=*/2, /*chunk_tokens=*/6);

  const std::vector<double> y = ReferenceBlock(spec, kLengths, values);
  EXPECT_LT(RelativeDistance(result.y.span(), y), 1e-6);

  const std::vector<double> expected = FiniteDifferences(
      [&](const std::vector<double>& at) {
        const std::vector<double> out = ReferenceBlock(spec, kLengths, at);
        double loss = 0;
        for (size_t i = 0; i < out.size(); ++i) {
          loss += out[i] * p.dy.data()[i];
        }
        return loss;
      },
      values);
  double all = 0;
  for (double d : expected) all += d * d;
  size_t begin = 0;
  for (const NamedPart& part : result.Parts()) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < part.values.size(); ++i) {
      const double d = expected[begin + i];
      difference += (part.values[i] - d) * (part.values[i] - d);
      norm += d * d;
    }
    EXPECT_LT(std::sqrt(difference),
              1e-5 * std::sqrt(norm) + 1e-7 * std::sqrt(all))
        << part.name << ": " << std::sqrt(difference / norm) << " of "
        << std::sqrt(norm);
    begin += part.values.size();
  }
  EXPECT_EQ(begin, expected.size());
}

struct Variant {
  const char* name;
  void (*change)(TransformerSpec&);
};

const Variant kVariants[] = {
    {"llama", [](TransformerSpec&) {}},
    {"rope linear",
     [](TransformerSpec& s) {
       s.rope.scaling = RopeScaling::kLinear;
       s.rope.factor = 2.5;
     }},
    {"rope llama3",
     [](TransformerSpec& s) {
       s.rope.scaling = RopeScaling::kLlama3;
       s.rope.factor = 4;
       s.rope.original_max_positions = 8;
     }},
    {"one query head a key", [](TransformerSpec& s) { s.num_kv_heads = 4; }},
    {"one key for all", [](TransformerSpec& s) { s.num_kv_heads = 1; }},
    {"heads wider than hidden",
     [](TransformerSpec& s) {
       s.head_dim = 6;
       s.attention_scale = 0.4;
     }},
    {"window",
     [](TransformerSpec& s) {
       s.sliding_window = 3;
       s.num_kv_heads = 1;
     }},
    {"qwen2", [](TransformerSpec& s) { s.qkv_bias = true; }},
    {"qwen3", [](TransformerSpec& s) { s.qk_norm = true; }},
    {"all biases",
     [](TransformerSpec& s) {
       s.qkv_bias = s.attention_output_bias = s.ffn_bias = true;
     }},
    {"gpt2",
     [](TransformerSpec& s) {
       s.norm = NormKind::kLayerNorm;
       s.norm_bias = s.qkv_bias = s.attention_output_bias = s.ffn_bias = true;
       s.position = PositionKind::kLearned;
       s.num_kv_heads = 4;
       s.activation = Activation::kGeluTanh;
       s.gated_ffn = false;
     }},
    {"mpt",
     [](TransformerSpec& s) {
       s.norm = NormKind::kLayerNorm;
       s.position = PositionKind::kAlibi;
       s.num_kv_heads = 4;
       s.clip_qkv = 0.75;
       s.activation = Activation::kGelu;
       s.gated_ffn = false;
     }},
    {"alibi and window",
     [](TransformerSpec& s) {
       s.position = PositionKind::kAlibi;
       s.sliding_window = 2;
     }},
    {"clip and rope", [](TransformerSpec& s) { s.clip_qkv = 0.75; }},
    {"clip, norm and rope",
     [](TransformerSpec& s) {
       s.clip_qkv = 0.75;
       s.qk_norm = true;
     }},
    {"layer norm, qk norm, no rope",
     [](TransformerSpec& s) {
       s.norm = NormKind::kLayerNorm;
       s.qk_norm = true;
       s.position = PositionKind::kLearned;
     }},
    {"gelu", [](TransformerSpec& s) { s.activation = Activation::kGelu; }},
    {"gelu_tanh",
     [](TransformerSpec& s) { s.activation = Activation::kGeluTanh; }},
    {"relu", [](TransformerSpec& s) { s.activation = Activation::kRelu; }},
    {"silu, not gated", [](TransformerSpec& s) { s.gated_ffn = false; }},
    {"relu, not gated",
     [](TransformerSpec& s) {
       s.gated_ffn = false;
       s.activation = Activation::kRelu;
     }},
};

TEST(BlockBackwardTest, AgreesWithFiniteDifferences) {
  for (const Variant& variant : kVariants) {
    TransformerSpec spec = BaseSpec();
    variant.change(spec);
    ASSERT_TRUE(ValidateSpec(spec).ok()) << ValidateSpec(spec);
    CheckGradient(variant.name, spec);
  }
}

void ExpectSameBits(Result& a, Result& b) {
  EXPECT_EQ(
      std::memcmp(a.y.data(), b.y.data(), a.y.span().size() * sizeof(float)),
      0);
  const std::vector<NamedPart> first = a.Parts(), second = b.Parts();
  ASSERT_EQ(first.size(), second.size());
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(std::memcmp(first[i].values.data(), second[i].values.data(),
                          first[i].values.size() * sizeof(float)),
              0)
        << first[i].name;
  }
}

// Of sizes that several tasks share.
TEST(BlockBackwardTest, SameBitsForAnyThreads) {
  for (const Variant& variant : kVariants) {
    SCOPED_TRACE(variant.name);
    TransformerSpec spec = BaseSpec();
    spec.hidden_size = 96;
    spec.head_dim = 16;
    spec.ffn_size = 160;
    variant.change(spec);
    const Problem p(spec, {150, 70, 33, 1, 90});
    Result one = RunBlock(p, 1, 200);
    for (int threads : {2, 3}) {
      Result other = RunBlock(p, threads, 200);
      ExpectSameBits(one, other);
    }
  }
}

// What is kept serves a dy that comes later, dx may be dy, and y x.
TEST(BlockBackwardTest, ForwardThenBackwardInPlace) {
  const Problem p(BaseSpec());
  Result expected = RunBlock(p, 2, kTokens);
  const auto pool = *CreateThreadPool(2);
  DifferentiableBlock block(p.Context(*pool));
  BlockActivations kept, others;
  Result actual = {RandomMatrix(kTokens, 12, 1), RandomMatrix(kTokens, 12, 2),
                   ZerosLike(p.weights)};
  block.Forward(p.weights, p.lengths, actual.y.view(), actual.y.view(), kept);
  Matrix<float> unused(kTokens, 12);
  block.Forward(p.weights, p.lengths, p.dy.view(), unused.view(), others);
  block.Backward(p.weights, p.x.view(), actual.dx.view(), kept,
                 actual.dx.view(), actual.gradient);
  ExpectSameBits(expected, actual);

  // Without dx, and added to what was there.
  block.Forward(p.weights, p.lengths, p.x.view(), unused.view(), kept);
  block.Backward(p.weights, p.x.view(), p.dy.view(), kept, {}, actual.gradient);
  const std::vector<NamedPart> once = PartsOf(expected.gradient);
  const std::vector<NamedPart> twice = PartsOf(actual.gradient);
  for (size_t i = 0; i < once.size(); ++i) {
    for (size_t e = 0; e < once[i].values.size(); ++e) {
      const float value = once[i].values[e];
      EXPECT_NEAR(twice[i].values[e], 2 * value, 1e-6 * (1 + std::abs(value)))
          << once[i].name;
    }
  }
}

TEST(BlockBackwardTest, ForwardIsThatOfHostBlock) {
  const auto pool = *CreateThreadPool(2);
  for (const char* family :
       {"llama", "mistral", "qwen2", "qwen3", "gpt2", "mpt"}) {
    SCOPED_TRACE(family);
    const std::shared_ptr<const Transformer> model =
        *Transformer::Load(OpenTestModel(MakeTestModel(family)));
    Problem p(model->spec());
    p.weights = *model->LoadBlock(1);
    const Result result = RunBlock(p, 2, 6);
    HostScratch scratch;
    HostBlockContext context;
    context.spec = &p.spec;
    context.pool = pool.get();
    context.scratch = &scratch;
    context.rope = &p.rope;
    context.alibi = p.alibi;
    HostBlock block = *HostBlock::Load(*model, 1, *pool);
    Matrix<float> y = RandomMatrix(kTokens, p.spec.hidden_size, 1);
    ASSERT_TRUE(block.Run(context, kLengths, y.view()).ok());
    EXPECT_LT(RelativeDistance(result.y.span(), ToDouble(y.span())), 1e-6);
  }
}

}  // namespace
}  // namespace qeff
