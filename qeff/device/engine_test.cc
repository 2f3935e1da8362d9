// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/engine.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

std::vector<int32_t> SomeTokens(int64_t count, int64_t vocab_size) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>((i * i * 7 + 3 * i) % vocab_size));
  }
  return tokens;
}

std::vector<float> Copy(const absl::StatusOr<absl::Span<const float>>& span) {
  EXPECT_TRUE(span.ok()) << span.status();
  if (!span.ok()) return {};
  return std::vector<float>(span->begin(), span->end());
}

// A named change of SmallSpec().
struct Feature {
  std::string name;
  void (*apply)(TransformerSpec* spec);
};

const Feature kFeatures[] = {
    {"Llama", [](TransformerSpec*) {}},
    {"TiedHead", [](TransformerSpec* s) { s->tied_lm_head = true; }},
    {"NoGroups", [](TransformerSpec* s) { s->num_kv_heads = 4; }},
    {"OneKvHead", [](TransformerSpec* s) { s->num_kv_heads = 1; }},
    {"WideHeads", [](TransformerSpec* s) { s->head_dim = 34; }},
    {"RopeLinear",
     [](TransformerSpec* s) {
       s->rope.scaling = RopeScaling::kLinear;
       s->rope.factor = 3.0;
     }},
    {"RopeLlama3",
     [](TransformerSpec* s) {
       s->rope.scaling = RopeScaling::kLlama3;
       s->rope.factor = 8.0;
       s->rope.original_max_positions = 16;
     }},
    {"SlidingWindow", [](TransformerSpec* s) { s->sliding_window = 5; }},
    {"WindowOfOne", [](TransformerSpec* s) { s->sliding_window = 1; }},
    {"QkvBias", [](TransformerSpec* s) { s->qkv_bias = true; }},
    {"AllBiases",
     [](TransformerSpec* s) {
       s->qkv_bias = true;
       s->attention_output_bias = true;
       s->ffn_bias = true;
       s->norm_bias = true;
     }},
    {"QkNorm", [](TransformerSpec* s) { s->qk_norm = true; }},
    {"ClipQkv", [](TransformerSpec* s) { s->clip_qkv = 0.4; }},
    {"Gelu", [](TransformerSpec* s) { s->activation = Activation::kGelu; }},
    {"PlainFfn",
     [](TransformerSpec* s) {
       s->gated_ffn = false;
       s->activation = Activation::kRelu;
     }},
    {"Gpt2",
     [](TransformerSpec* s) {
       s->norm = NormKind::kLayerNorm;
       s->norm_bias = true;
       s->position = PositionKind::kLearned;
       s->num_kv_heads = 4;
       s->qkv_bias = true;
       s->attention_output_bias = true;
       s->ffn_bias = true;
       s->gated_ffn = false;
       s->activation = Activation::kGeluTanh;
       s->tied_lm_head = true;
     }},
    {"Mpt",
     [](TransformerSpec* s) {
       s->norm = NormKind::kLayerNorm;
       s->position = PositionKind::kAlibi;
       s->num_heads = 6;  // not a power of two
       s->num_kv_heads = 6;
       s->head_dim = 5;
       s->gated_ffn = false;
       s->activation = Activation::kGelu;
       s->clip_qkv = 0.7;
       s->tied_lm_head = true;
     }},
    {"AlibiInWindow",
     [](TransformerSpec* s) {
       s->position = PositionKind::kAlibi;
       s->sliding_window = 4;
     }},
};

class EngineFeatureTest : public ::testing::TestWithParam<Feature> {
 protected:
  EngineFeatureTest() {
    spec_ = SmallSpec();
    GetParam().apply(&spec_);
  }

  std::unique_ptr<Engine> MakeEngine(std::shared_ptr<const DeviceModel> model,
                                     ThreadPool* pool) {
    auto engine = Engine::Create(std::move(model), pool, {40});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  TransformerSpec spec_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

// Tolerance: every value passes through about 2 * (4 products + 2 norms) + 2
// roundings in sequence, each of relative error 2^-24 times a few units for
// the sums of at most 40 products (see matvec.h): 14 * 4 * 6e-8 = 3e-6 of the
// norm, and the softmax and residuals do not enlarge it. 1e-5 leaves a factor
// of three.
TEST_P(EngineFeatureTest, AgreesWithTheReferenceAtEveryPosition) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(DTypeName(dtype));
    const auto model = RandomModel(spec_, /*seed=*/1, dtype);
    const std::vector<int32_t> tokens = SomeTokens(40, spec_.vocab_size);
    const auto expected = ReferenceLogits(*model, tokens);
    const auto engine = MakeEngine(model, pool_.get());
    for (size_t t = 0; t < tokens.size(); ++t) {
      const std::vector<float> logits = Copy(engine->Append({tokens[t]}));
      ASSERT_EQ(logits.size(), expected[t].size());
      EXPECT_LT(RelativeError(logits, expected[t]), 1e-5) << "position " << t;
      EXPECT_EQ(engine->position(), static_cast<int64_t>(t) + 1);
    }
  }
}

TEST_P(EngineFeatureTest, PiecesGiveTheSameBitsAsTheWhole) {
  const auto model = RandomModel(spec_, 2);
  const std::vector<int32_t> tokens = SomeTokens(17, spec_.vocab_size);
  const auto whole = MakeEngine(model, pool_.get());
  const std::vector<float> expected = Copy(whole->Append(tokens));
  const auto pieces = MakeEngine(model, pool_.get());
  const absl::Span<const int32_t> all = tokens;
  ASSERT_TRUE(pieces->Append(all.subspan(0, 3)).ok());
  ASSERT_TRUE(pieces->Append(all.subspan(3, 9)).ok());
  EXPECT_EQ(Copy(pieces->Append(all.subspan(12))), expected);

  // What is in the cache after Reset is not seen.
  pieces->Reset();
  EXPECT_EQ(pieces->position(), 0);
  EXPECT_EQ(Copy(pieces->Append(tokens)), expected);
}

TEST_P(EngineFeatureTest, ChunksAndSlotsDoNotChangeBits) {
  const auto model = RandomModel(spec_, 9);
  const std::vector<int32_t> tokens = SomeTokens(20, spec_.vocab_size);
  const absl::Span<const int32_t> all = tokens;
  const auto alone = MakeEngine(model, pool_.get());
  const std::vector<float> long_one = Copy(alone->Append(tokens));
  alone->Reset();
  const std::vector<float> short_one = Copy(alone->Append(all.subspan(5, 4)));
  for (int64_t chunk : {1, 3, 7, 40}) {
    EngineOptions options;
    options.context_length = 20;
    options.batch_size = 3;
    options.prefill_chunk = chunk;
    const auto engine = *Engine::Create(model, pool_.get(), options);
    // A slot that others do not see, then two that grow side by side.
    ASSERT_TRUE(engine->Run({{1, all.subspan(2, 9)}}).ok());
    ASSERT_TRUE(
        engine->Run({{2, all.subspan(5, 1)}, {0, all.subspan(0, 11)}}).ok());
    const auto logits =
        engine->Run({{0, all.subspan(11)}, {2, all.subspan(6, 3)}});
    ASSERT_TRUE(logits.ok()) << logits.status();
    ASSERT_EQ(logits->rows(), 2);
    const size_t vocab = static_cast<size_t>(spec_.vocab_size);
    EXPECT_EQ(Copy(absl::MakeConstSpan(logits->row(0), vocab)), long_one);
    EXPECT_EQ(Copy(absl::MakeConstSpan(logits->row(1), vocab)), short_one);
    EXPECT_EQ(engine->position(0), 20);
    EXPECT_EQ(engine->position(2), 4);
    // A slot begins anew while the others stay.
    engine->Reset(0);
    EXPECT_EQ(engine->position(2), 4);
    EXPECT_EQ(Copy(engine->Append(tokens)), long_one);
  }
}

// f16 rounds keys and values to 2^-12 of their size, int8 to 2^-8 of the
// largest element of their head: of what attention adds to the residuals.
TEST_P(EngineFeatureTest, SmallCachesAreNear) {
  const auto model = RandomModel(spec_, 11);
  const std::vector<int32_t> tokens = SomeTokens(30, spec_.vocab_size);
  const auto expected = ReferenceLogits(*model, tokens);
  const absl::Span<const int32_t> all = tokens;
  for (const auto& [dtype, bound] :
       {std::pair(DType::kF16, 1e-3), std::pair(DType::kI8, 2e-2)}) {
    EngineOptions options;
    options.context_length = 30;
    options.kv_cache = dtype;
    const auto engine = *Engine::Create(model, pool_.get(), options);
    const std::vector<float> logits = Copy(engine->Append(tokens));
    EXPECT_LT(RelativeError(logits, expected.back()), bound);
    engine->Reset();
    ASSERT_TRUE(engine->Append(all.subspan(0, 7)).ok());
    EXPECT_EQ(Copy(engine->Append(all.subspan(7))), logits);
  }
}

// Keys that an int8 cache moves and scales give the same model, and change
// nothing in other caches.
TEST_P(EngineFeatureTest, CachedKeysAreEvenedOut) {
  const auto plain = RandomModel(spec_, 11);
  const auto model = std::make_shared<DeviceModel>(*plain);
  const Random random(3);
  for (DeviceBlock& block : model->blocks) {
    for (int64_t c = 0; c < spec_.kv_size(); ++c) {
      const double x = random.NormalAt(static_cast<uint64_t>(c));
      block.cached_keys.mean.push_back(static_cast<float>(x / 2));
      block.cached_keys.scale.push_back(static_cast<float>(std::exp(x / 2)));
    }
  }
  const std::vector<int32_t> tokens = SomeTokens(30, spec_.vocab_size);
  const auto expected = ReferenceLogits(*plain, tokens);
  const auto logits_of = [&](const std::shared_ptr<DeviceModel>& of,
                             DType dtype) {
    EngineOptions options;
    options.context_length = 30;
    options.kv_cache = dtype;
    return Copy((*Engine::Create(of, pool_.get(), options))->Append(tokens));
  };
  EXPECT_EQ(logits_of(model, DType::kF32), logits_of(plain, DType::kF32));
  EXPECT_LT(RelativeError(logits_of(model, DType::kI8), expected.back()), 3e-2);
}

TEST_P(EngineFeatureTest, ScoreGivesTheLogitsOfEveryToken) {
  const auto model = RandomModel(spec_, 10);
  const std::vector<int32_t> tokens = SomeTokens(12, spec_.vocab_size);
  const auto steps = MakeEngine(model, pool_.get());
  std::vector<std::vector<float>> expected;
  for (int32_t token : tokens) expected.push_back(Copy(steps->Append({token})));
  EngineOptions options;
  options.context_length = 12;
  options.prefill_chunk = 5;
  const auto engine = *Engine::Create(model, pool_.get(), options);
  std::vector<std::vector<float>> found;
  ASSERT_TRUE(engine
                  ->Score({0, tokens},
                          [&](int64_t first, MatrixView<const float> logits) {
                            EXPECT_EQ(first,
                                      static_cast<int64_t>(found.size()));
                            for (int64_t r = 0; r < logits.rows(); ++r) {
                              found.emplace_back(logits.row(r),
                                                 logits.row(r) + logits.cols());
                            }
                          })
                  .ok());
  EXPECT_EQ(found, expected);
}

// As in speculative decoding: tokens are run, and some of them taken back, in a
// block of the cache and over its end.
TEST_P(EngineFeatureTest, TruncatedTokensLeaveNoTrace) {
  const auto model = RandomModel(spec_, 12);
  const std::vector<int32_t> tokens = SomeTokens(40, spec_.vocab_size);
  const absl::Span<const int32_t> all = tokens;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
    EngineOptions options;
    options.context_length = 40;
    options.batch_size = 2;
    options.kv_cache = dtype;
    const auto engine = *Engine::Create(model, pool_.get(), options);
    const std::vector<float> expected = Copy(engine->Append(tokens));
    engine->Reset();
    ASSERT_TRUE(engine->Run({{0, all.subspan(0, 30)}, {1, tokens}}).ok());
    ASSERT_TRUE(engine->Append({9, 9, 9, 9, 9}).ok());
    engine->Truncate(0, 29);
    EXPECT_EQ(engine->position(0), 29);
    EXPECT_EQ(engine->position(1), 40);
    ASSERT_TRUE(engine->Append(all.subspan(29, 1)).ok());
    engine->Truncate(0, 30);
    EXPECT_EQ(Copy(engine->Append(all.subspan(30))), expected);
  }
}

TEST_P(EngineFeatureTest, SameBitsForAnyNumberOfThreadsAndTarget) {
  const auto model = RandomModel(spec_, 3);
  const std::vector<int32_t> tokens = SomeTokens(9, spec_.vocab_size);
  const std::vector<float> expected =
      Copy(MakeEngine(model, pool_.get())->Append(tokens));
  for (int threads : {1, 3}) {
    const std::unique_ptr<ThreadPool> pool = *CreateThreadPool(threads);
    EXPECT_EQ(Copy(MakeEngine(model, pool.get())->Append(tokens)), expected)
        << threads << " threads";
  }
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    EXPECT_EQ(Copy(MakeEngine(model, pool_.get())->Append(tokens)), expected)
        << hwy::TargetName(target);
  }
  hwy::SetSupportedTargetsForTest(0);
}

INSTANTIATE_TEST_SUITE_P(Features, EngineFeatureTest,
                         ::testing::ValuesIn(kFeatures),
                         [](const ::testing::TestParamInfo<Feature>& info) {
                           return info.param.name;
                         });

class EngineTest : public ::testing::Test {
 protected:
  std::string CreateError(std::shared_ptr<const DeviceModel> model,
                          int64_t context_length) {
    const auto engine =
        Engine::Create(std::move(model), pool_.get(), {context_length});
    EXPECT_FALSE(engine.ok());
    return engine.ok() ? "" : std::string(engine.status().message());
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

// Large enough that the rows of every product are split over threads.
TEST_F(EngineTest, SplitsRowsWithoutChangingBits) {
  TransformerSpec spec = SmallSpec();
  spec.hidden_size = 512;
  spec.ffn_size = 900;
  spec.vocab_size = 1000;
  const auto model = RandomModel(spec, 4);
  const std::unique_ptr<ThreadPool> one = *CreateThreadPool(1);
  const auto alone = *Engine::Create(model, one.get(), {64});
  const auto split = *Engine::Create(model, pool_.get(), {64});
  const std::vector<int32_t> tokens = SomeTokens(30, spec.vocab_size);
  EXPECT_EQ(Copy(alone->Append(tokens)), Copy(split->Append(tokens)));
}

TEST_F(EngineTest, RefusesBadTokensAndKeepsItsState) {
  const auto model = RandomModel(SmallSpec(), 5);
  const auto engine = *Engine::Create(model, pool_.get(), {4});
  const std::vector<float> expected = Copy(engine->Append({1, 2, 3}));
  engine->Reset();
  ASSERT_TRUE(engine->Append({1, 2}).ok());

  const auto high = engine->Append({3, 50});
  EXPECT_EQ(high.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(high.status().message(),
                                "token 1: expected an id from 0 to 49, "
                                "found 50"))
      << high.status();
  EXPECT_FALSE(engine->Append({-1}).ok());
  EXPECT_FALSE(engine->Append({std::numeric_limits<int32_t>::max()}).ok());
  EXPECT_EQ(engine->Append({}).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto full = engine->Append({3, 4, 5});
  EXPECT_EQ(full.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(absl::StrContains(full.status().message(),
                                "2 tokens and 3 more do not fit "
                                "context_length 4"))
      << full.status();

  EXPECT_EQ(engine->position(), 2);
  EXPECT_EQ(Copy(engine->Append({3})), expected);
  EXPECT_TRUE(engine->Append({4}).ok());
  EXPECT_FALSE(engine->Append({4}).ok());
}

TEST_F(EngineTest, RefusesBadSlotsAndOptions) {
  const auto model = RandomModel(SmallSpec(), 5);
  EngineOptions options;
  options.context_length = 4;
  options.batch_size = 2;
  const auto engine = *Engine::Create(model, pool_.get(), options);
  const std::vector<int32_t> two = {1, 2};
  const auto error = [&](absl::Span<const SlotTokens> inputs) {
    return std::string(engine->Run(inputs).status().message());
  };
  EXPECT_EQ(error({{2, two}}), "slot: expected 0 to 1, found 2");
  EXPECT_EQ(error({{-1, two}}), "slot: expected 0 to 1, found -1");
  EXPECT_EQ(error({{1, two}, {1, two}}), "slot 1 is named twice");
  EXPECT_EQ(error({{1, two}, {0, {}}}), "no tokens to append");
  EXPECT_EQ(error({}), "no tokens to append");
  EXPECT_EQ(engine->position(1), 0);

  options.batch_size = 0;
  EXPECT_EQ(Engine::Create(model, pool_.get(), options).status().message(),
            "batch_size: expected 1 to 65536, found 0");
  options.batch_size = 1;
  options.prefill_chunk = 1 << 17;
  EXPECT_EQ(Engine::Create(model, pool_.get(), options).status().message(),
            "prefill_chunk: expected 1 to 65536, found 131072");
}

TEST_F(EngineTest, LogitsOnlyOfInputsThatWantThem) {
  const auto model = RandomModel(SmallSpec(), 5);
  EngineOptions options;
  options.context_length = 8;
  options.batch_size = 3;
  options.prefill_chunk = 2;
  const auto engine = *Engine::Create(model, pool_.get(), options);
  const std::vector<int32_t> begin = {1, 2, 3}, rest = {4, 5}, other = {6};
  const auto whole = engine->Run({{0, {1, 2, 3, 4, 5}}, {1, other}});
  ASSERT_TRUE(whole.ok()) << whole.status();
  const std::vector<float> of_0(whole->row(0), whole->row(0) + 50);
  const std::vector<float> of_1(whole->row(1), whole->row(1) + 50);
  engine->Reset();
  const auto none = engine->Run({{2, begin, /*wants_logits=*/false}});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->rows(), 0);
  const auto logits =
      engine->Run({{0, begin, /*wants_logits=*/false}, {1, other}, {2, rest}});
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(logits->rows(), 2);
  EXPECT_EQ(std::vector<float>(logits->row(0), logits->row(0) + 50), of_1);
  EXPECT_EQ(std::vector<float>(logits->row(1), logits->row(1) + 50), of_0);
  EXPECT_EQ(engine->position(0), 3);
  EXPECT_TRUE(engine->Check({{0, rest}}).ok());
  EXPECT_FALSE(engine->Check({{2, begin}, {2, begin}}).ok());
  EXPECT_EQ(engine->Check({{2, {1, 2, 3, 4}}}).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(engine->position(2), 5);
}

TEST_F(EngineTest, BoundsTheContext) {
  const auto rope = RandomModel(SmallSpec(), 6);
  EXPECT_EQ(CreateError(rope, 0),
            "context_length: expected 1 to 16777216, found 0");
  CreateError(rope, -1);
  CreateError(rope, int64_t{1} << 62);
  EXPECT_TRUE(Engine::Create(rope, pool_.get(), {65}).ok());

  TransformerSpec learned = SmallSpec();
  learned.position = PositionKind::kLearned;
  const auto model = RandomModel(learned, 6);
  EXPECT_TRUE(Engine::Create(model, pool_.get(), {64}).ok());
  EXPECT_EQ(CreateError(model, 65),
            "context_length: expected 1 to 64, found 65");
}

TEST_F(EngineTest, RefusesModelsThatDoNotFitTheirDescription) {
  const TransformerSpec spec = SmallSpec();
  auto model = RandomModel(spec, 7);
  model->blocks[1].gate.weight.rows = 39;
  EXPECT_EQ(CreateError(model, 8),
            "block 1 gate weight: expected shape [40, 24], found [39, 24]");

  model = RandomModel(spec, 7);
  model->blocks[0].o.weight.bytes.remove_suffix(1);
  EXPECT_TRUE(absl::StrContains(CreateError(model, 8),
                                "block 0 o weight: 2303 bytes do not fit"));

  model = RandomModel(spec, 7);
  model->blocks[0].k.bias.resize(12);
  EXPECT_EQ(CreateError(model, 8),
            "block 0 k bias: expected 0 elements, found 12");

  model = RandomModel(spec, 7);
  model->token_embedding.layout = FloatRows{DType::kI32};
  EXPECT_EQ(CreateError(model, 8),
            "token embedding: expected type F32, BF16 or F16, found I32");

  model = RandomModel(spec, 7);
  model->blocks.pop_back();
  EXPECT_EQ(CreateError(model, 8), "blocks: expected 2, found 1");

  model = RandomModel(spec, 7);
  model->lm_head.weight = {};
  EXPECT_EQ(CreateError(model, 8),
            "lm_head weight: expected shape [50, 24], found [0, 0]");

  model = RandomModel(spec, 7);
  model->blocks[1].ffn_norm.weight[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(CreateError(model, 8), "block 1 ffn norm weight: element 3 is nan");

  TransformerSpec biased = spec;
  biased.ffn_bias = true;
  model = RandomModel(biased, 7);
  model->blocks[0].up.bias[39] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(CreateError(model, 8), "block 0 up bias: element 39 is -inf");
}

TEST_F(EngineTest, NaNWeightsReachTheLogits) {
  const auto model = RandomModel(SmallSpec(), 8);
  Matrix<float> embedding(50, 24);
  embedding.row(1)[3] = std::numeric_limits<float>::quiet_NaN();
  model->token_embedding = OwnedMatrix(std::move(embedding));
  const auto engine = *Engine::Create(model, pool_.get(), {8});
  for (float logit : Copy(engine->Append({1, 2}))) {
    EXPECT_TRUE(std::isnan(logit));
  }
}

}  // namespace
}  // namespace qeff
