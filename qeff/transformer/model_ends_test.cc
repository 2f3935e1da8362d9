// SPDX-License-Identifier: Apache-2.0
//
// The ends alone, and the gradient of whole models of every family against
// differences of reference_testutil's logits, which share no code with it.

#include "qeff/transformer/model_ends.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/block_backward.h"
#include "qeff/transformer/gradient_testutil.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

const std::vector<int64_t> kLengths = {7, 2};
constexpr int64_t kTokens = 9;

// Everything that a model trains. lm_head is empty when tied.
struct Parameters {
  Matrix<float> tokens, positions, lm_head;
  std::vector<BlockWeights> blocks;
  NormWeights norm;

  explicit Parameters(const Transformer& model)
      : tokens(*model.LoadTokenEmbedding()), norm(*model.LoadFinalNorm()) {
    const TransformerSpec& spec = model.spec();
    if (spec.position == PositionKind::kLearned) {
      positions = *model.LoadPositionEmbedding();
    }
    if (!spec.tied_lm_head) {
      lm_head = std::move(model.LoadLinear(-1, LinearRole::kLmHead)->weight);
    }
    for (int64_t i = 0; i < spec.num_layers; ++i) {
      blocks.push_back(*model.LoadBlock(i));
    }
  }

  Matrix<float>& Table() { return lm_head.empty() ? tokens : lm_head; }

  std::vector<NamedPart> Parts() {
    std::vector<NamedPart> parts;
    const auto add = [&](const char* name, absl::Span<float> values) {
      if (!values.empty()) parts.push_back({name, values});
    };
    add("tokens", tokens.span());
    add("positions", positions.span());
    add("lm_head", lm_head.span());
    add("norm.weight", absl::MakeSpan(norm.weight));
    add("norm.bias", absl::MakeSpan(norm.bias));
    for (BlockWeights& block : blocks) {
      for (NamedPart& part : PartsOf(block)) parts.push_back(part);
    }
    return parts;
  }

  void SetToZero() {
    for (const NamedPart& part : Parts()) {
      for (float& value : part.values) value = 0.0f;
    }
  }
};

std::shared_ptr<const Transformer> Load(const TestModel& model) {
  return *Transformer::Load(OpenTestModel(model));
}

std::vector<int32_t> Ids() {
  std::vector<int32_t> ids;
  for (int64_t length : kLengths) {
    for (int32_t id : TestTokens(length)) ids.push_back(id);
  }
  return ids;
}

// Adds the gradient of sum(dlogits * logits) of two sequences, as a trainer
// would: activations of all blocks are kept.
void AddGradient(const TransformerSpec& spec, Parameters& weights,
                 MatrixView<const float> dlogits, int threads,
                 Parameters& gradient) {
  const auto pool = *CreateThreadPool(threads);
  RopeTable rope;
  std::vector<float> alibi;
  if (spec.position == PositionKind::kRope) rope = RopeTable(spec, kTokens);
  if (spec.position == PositionKind::kAlibi) {
    for (double slope : AlibiSlopes(spec)) {
      alibi.push_back(static_cast<float>(slope));
    }
  }
  DifferentiableBlock block({&spec, pool.get(), &rope, alibi});
  SgemmScratch scratch;
  const size_t layers = weights.blocks.size();
  std::vector<BlockActivations> kept(layers);
  std::vector<Matrix<float>> x;
  for (size_t i = 0; i <= layers; ++i)
    x.emplace_back(kTokens, spec.hidden_size);
  EmbedTokens(weights.tokens.view(), weights.positions.view(), kLengths, Ids(),
              x[0].view(), *pool);
  for (size_t i = 0; i < layers; ++i) {
    block.Forward(weights.blocks[i], kLengths, x[i].view(), x[i + 1].view(),
                  kept[i]);
  }
  Matrix<float> hidden(kTokens, spec.hidden_size);
  Matrix<float> dx(kTokens, spec.hidden_size);
  Matrix<float> logits(kTokens, spec.vocab_size);
  LmHeadForward(spec, weights.norm, weights.Table().view(), x[layers].view(),
                hidden.view(), logits.view(), *pool, scratch);
  LmHeadBackward(spec, weights.norm, weights.Table().view(), x[layers].view(),
                 hidden.view(), dlogits, dx.view(), gradient.norm,
                 gradient.Table().view(), *pool, scratch);
  for (size_t i = layers; i-- > 0;) {
    block.Backward(weights.blocks[i], x[i].view(), dx.view(), kept[i],
                   dx.view(), gradient.blocks[i]);
  }
  EmbedTokensBackward(kLengths, Ids(), dx.view(), gradient.tokens.view(),
                      gradient.positions.view(), *pool);
}

double ReferenceLoss(const TestModel& model, MatrixView<const float> dlogits) {
  double loss = 0;
  int64_t row = 0;
  for (int64_t length : kLengths) {
    const Matrix<double> logits = ReferenceLogits(model, TestTokens(length));
    for (int64_t r = 0; r < length; ++r, ++row) {
      for (int64_t c = 0; c < logits.cols(); ++c) {
        loss += logits.row(r)[c] * dlogits.row(row)[c];
      }
    }
  }
  return loss;
}

// The derivative along `direction` of one tensor by the five-point rule, whose
// error is h^4/30 times the fifth derivative. Tensors hold float32: values and
// directions are multiples of 2^-15 and 2^-5 below 4, so that sums are exact.
double DerivativeAlong(TestModel model, size_t tensor,
                       const std::vector<float>& direction,
                       MatrixView<const float> dlogits) {
  const std::vector<float> values = model.tensors[tensor].values;
  const double h = std::ldexp(1.0, -8);
  const auto loss_at = [&](double steps) {
    for (size_t i = 0; i < values.size(); ++i) {
      model.tensors[tensor].values[i] =
          static_cast<float>(values[i] + steps * h * direction[i]);
    }
    return ReferenceLoss(model, dlogits);
  };
  return (8 * (loss_at(1) - loss_at(-1)) - (loss_at(2) - loss_at(-2))) /
         (12 * h);
}

float Rounded(float value, int bits) {
  return static_cast<float>(
      std::ldexp(std::nearbyint(std::ldexp(value, bits)), -bits));
}

// Loading a direction as a model brings it into the layout of the weights,
// whatever the checkpoint fuses or transposes.
void CheckModel(const std::string& family, const std::string& changes) {
  SCOPED_TRACE(family + " " + changes);
  TestModel model = MakeTestModel(family, changes);
  for (TestTensor& tensor : model.tensors) {
    for (float& value : tensor.values) value = Rounded(value, 15);
  }
  const auto loaded = Load(model);
  const TransformerSpec& spec = loaded->spec();
  const Matrix<float> dlogits = RandomMatrix(kTokens, spec.vocab_size, 5);
  Parameters weights(*loaded), gradient(*loaded), other(*loaded);
  gradient.SetToZero();
  other.SetToZero();
  AddGradient(spec, weights, dlogits.view(), 2, gradient);
  AddGradient(spec, weights, dlogits.view(), 1, other);
  const std::vector<NamedPart> parts = gradient.Parts();
  const std::vector<NamedPart> others = other.Parts();
  double norm = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    EXPECT_EQ(std::memcmp(parts[p].values.data(), others[p].values.data(),
                          parts[p].values.size() * sizeof(float)),
              0)
        << parts[p].name;
    for (float value : parts[p].values) norm += value * value;
  }
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    TestModel along = model;
    const Random random(/*seed=*/3, t);
    double length = 0;
    for (TestTensor& tensor : along.tensors) {
      const bool this_one = &tensor == &along.tensors[t];
      for (size_t i = 0; i < tensor.values.size(); ++i) {
        tensor.values[i] =
            this_one ? Rounded(0.25f * random.NormalAt(i), 5) : 0.0f;
        length += tensor.values[i] * tensor.values[i];
      }
    }
    Parameters direction(*Load(along));
    const std::vector<NamedPart> d = direction.Parts();
    double actual = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
      for (size_t i = 0; i < parts[p].values.size(); ++i) {
        actual += static_cast<double>(parts[p].values[i]) * d[p].values[i];
      }
    }
    const double expected =
        DerivativeAlong(model, t, along.tensors[t].values, dlogits.view());
    // A gradient of a relative error e is off by e |gradient| |direction| at
    // most, and by far less along a random direction: a tenth of the e of
    // block_backward_test.
    EXPECT_NEAR(actual, expected, 1e-6 * std::sqrt(norm * length))
        << model.tensors[t].name;
  }
}

TEST(ModelEndsTest, WholeModelsAgreeWithDifferences) {
  CheckModel("llama", "{}");
  CheckModel("llama", R"({"tie_word_embeddings": true})");
  CheckModel("llama", R"({"rope_scaling": {"rope_type": "llama3", "factor": 4,
      "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 16}})");
  CheckModel("mistral", R"({"sliding_window": 3})");
  CheckModel("qwen2", R"({"tie_word_embeddings": true})");
  CheckModel("qwen3", "{}");
  CheckModel("gpt2", "{}");
  CheckModel("gpt2", R"({"tie_word_embeddings": false})");
  // Without clip_qkv and ReLU, whose kinks these steps would cross.
  CheckModel("mpt", "{}");
}

TEST(ModelEndsTest, EmbeddingsAddUpRepeatedTokens) {
  const auto pool = *CreateThreadPool(2);
  const std::vector<int64_t> lengths = {2, 3};
  const std::vector<int32_t> ids = {3, 1, 3, 3, 0};
  const Matrix<float> tokens = RandomMatrix(4, 70, 1);
  const Matrix<float> positions = RandomMatrix(3, 70, 2);
  Matrix<float> x(5, 70), dtokens(4, 70), dpositions(3, 70), none;
  EmbedTokens(tokens.view(), positions.view(), lengths, ids, x.view(), *pool);
  const Matrix<float> dx = RandomMatrix(5, 70, 3);
  EmbedTokensBackward(lengths, ids, dx.view(), dtokens.view(),
                      dpositions.view(), *pool);
  for (int64_t c = 0; c < 70; ++c) {
    EXPECT_EQ(x.row(3)[c], tokens.row(3)[c] + positions.row(1)[c]);
    const auto d = [&](int64_t r) { return dx.row(r)[c]; };
    EXPECT_EQ(dtokens.row(3)[c], (d(0) + d(2)) + d(3));
    EXPECT_EQ(dtokens.row(0)[c], d(4));
    EXPECT_EQ(dtokens.row(2)[c], 0.0f);
    EXPECT_EQ(dpositions.row(1)[c], d(1) + d(3));
    EXPECT_EQ(dpositions.row(2)[c], d(4));
  }
  EmbedTokens(tokens.view(), none.view(), lengths, ids, x.view(), *pool);
  EXPECT_EQ(x.row(4)[69], tokens.row(0)[69]);
}

}  // namespace
}  // namespace qeff
