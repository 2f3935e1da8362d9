// SPDX-License-Identifier: Apache-2.0
//
// Against GenerateBatch: the same tokens when greedy, the same distribution
// otherwise.

#include "qeff/device/speculative_generate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/device/batch_generate.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kContext = 40;

std::string TextOf(int32_t token) { return absl::StrCat(token, " "); }

// The model with its head moved a little: it often agrees with it.
std::shared_ptr<DeviceModel> NearlyTheSame(const DeviceModel& model,
                                           float size) {
  auto draft = std::make_shared<DeviceModel>(model);
  const DeviceMatrix& head = model.lm_head.weight;
  Matrix<float> moved(head.rows, head.cols);
  const TensorView view{DType::kF32, Shape{head.rows, head.cols}, head.bytes};
  ReadFloats(view, 0, moved.span());
  const Random random(77);
  for (size_t i = 0; i < moved.span().size(); ++i) {
    moved.span()[i] += size * random.NormalAt(i);
  }
  draft->lm_head.weight = OwnedMatrix(std::move(moved));
  return draft;
}

class SpeculativeGenerateTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> MakeEngine(std::shared_ptr<const DeviceModel> model,
                                     int64_t context = kContext,
                                     DType kv_cache = DType::kF32) {
    EngineOptions options;
    options.context_length = context;
    options.kv_cache = kv_cache;
    return *Engine::Create(std::move(model), pool_.get(), options);
  }

  BatchRequest MakeRequest(std::vector<int32_t> prompt, int64_t new_tokens) {
    prompts_.push_back(std::make_unique<std::vector<int32_t>>(prompt));
    BatchRequest request;
    request.prompt = *prompts_.back();
    request.options.max_new_tokens = new_tokens;
    request.callbacks.decode = [](int32_t token) { return TextOf(token); };
    return request;
  }

  absl::StatusOr<GenerateResult> Plain(const BatchRequest& request) {
    const auto engine = MakeEngine(model_);
    return std::move(GenerateBatch({request}, engine.get())[0]);
  }

  // Every way to end, some in the middle of what the model agrees with.
  std::vector<BatchRequest> MakeRequests() {
    std::vector<BatchRequest> requests = {
        MakeRequest({1, 2, 3}, 20),
        MakeRequest({4}, 1),
        MakeRequest({4, 5}, 2),
        MakeRequest({5, 6}, 30),
        MakeRequest({30, 31}, 30),
        MakeRequest({20, 21, 22}, 1000),
        MakeRequest({7, 7, 7}, 20),
        MakeRequest(std::vector<int32_t>(39, 8), 9),
        MakeRequest(std::vector<int32_t>(40, 8), 9)};
    requests[3].options.stop_strings = {TextOf(Plain(requests[3])->tokens[6])};
    requests[4].options.eos_token_ids = {Plain(requests[4])->tokens[7]};
    requests[6].sampling.repetition_penalty = 1.5;
    requests[6].vocab_size = 45;
    return requests;
  }

  // What comes of greedy `tokens`, were the draft model asked what follows each
  // beginning anew, without a cache that has seen refused tokens.
  Speculation ByHand(absl::Span<const int32_t> tokens,
                     std::vector<int32_t> text,
                     const std::shared_ptr<DeviceModel>& draft_model,
                     size_t draft_tokens) {
    Speculation sum;
    text.push_back(tokens[0]);
    for (tokens.remove_prefix(1); !tokens.empty();) {
      const size_t count = std::min(draft_tokens, tokens.size() - 1);
      size_t agreed = 0;
      if (count > 0) {
        const auto engine = MakeEngine(draft_model);
        const auto continued = std::move(GenerateBatch(
            {MakeRequest(text, static_cast<int64_t>(count))}, engine.get())[0]);
        while (agreed < count && continued->tokens[agreed] == tokens[agreed]) {
          ++agreed;
        }
      }
      text.insert(text.end(), tokens.begin(), tokens.begin() + agreed + 1);
      tokens.remove_prefix(agreed + 1);
      sum.Add({static_cast<int64_t>(count), static_cast<int64_t>(agreed), 1,
               static_cast<int64_t>(agreed) + 1});
    }
    return sum;
  }

  const std::shared_ptr<DeviceModel> model_ = RandomModel(SmallSpec(), 1);
  const std::shared_ptr<DeviceModel> near_ = NearlyTheSame(*model_, 0.05f);
  const std::shared_ptr<DeviceModel> other_ = RandomModel(SmallSpec(), 2);
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  std::vector<std::unique_ptr<std::vector<int32_t>>> prompts_;
};

TEST_F(SpeculativeGenerateTest, GreedyTextIsThatOfThePlainLoop) {
  const std::vector<FinishReason> reasons = {
      FinishReason::kMaxNewTokens,  FinishReason::kMaxNewTokens,
      FinishReason::kMaxNewTokens,  FinishReason::kStopString,
      FinishReason::kEndOfSequence, FinishReason::kContextFull,
      FinishReason::kMaxNewTokens,  FinishReason::kContextFull,
      FinishReason::kContextFull};
  std::vector<BatchRequest> requests = MakeRequests();
  const auto engine = MakeEngine(model_);
  for (const auto& draft_model : {model_, near_, other_}) {
    const auto draft = MakeEngine(draft_model, kContext + 3);
    for (const int64_t draft_tokens : {1, 2, 4, 5, 31}) {
      const auto generator = *SpeculativeGenerator::Create(
          engine.get(), draft.get(), draft_tokens);
      for (size_t i = 0; i < requests.size(); ++i) {
        SCOPED_TRACE(absl::StrCat("request ", i, ", ", draft_tokens));
        BatchRequest request = requests[i];
        const auto expected = Plain(request);
        ASSERT_TRUE(expected.ok()) << expected.status();
        std::vector<int32_t> tokens;
        request.callbacks.on_token = [&](int32_t token) {
          tokens.push_back(token);
          return absl::OkStatus();
        };
        std::string text;
        request.callbacks.on_text = [&](absl::string_view piece) {
          absl::StrAppend(&text, piece);
          return absl::OkStatus();
        };
        const auto found = generator->Generate(request);
        ASSERT_TRUE(found.ok()) << found.status();
        EXPECT_EQ(found->tokens, expected->tokens);
        EXPECT_EQ(found->text, expected->text);
        EXPECT_EQ(found->finish_reason, expected->finish_reason);
        EXPECT_EQ(found->finish_reason, reasons[i]);
        EXPECT_EQ(found->timing.generated_tokens,
                  expected->timing.generated_tokens);
        EXPECT_EQ(tokens, expected->tokens);
        EXPECT_EQ(text, expected->text);
        // The last token was chosen but not run.
        EXPECT_EQ(
            engine->position(),
            static_cast<int64_t>(request.prompt.size() + found->tokens.size()) -
                1);
        EXPECT_LE(draft->position(), engine->position());
        const Speculation& speculation = found->speculation;
        EXPECT_EQ(speculation.tokens,
                  static_cast<int64_t>(found->tokens.size()) - 1);
        EXPECT_LE(speculation.accepted, speculation.proposed);
        if (draft_model == model_ && i != 3 && i != 4) {
          EXPECT_EQ(speculation.accepted, speculation.proposed);
        }
      }
    }
  }
}

TEST_F(SpeculativeGenerateTest, SmallCachesKeepTheTextToo) {
  const BatchRequest request = MakeRequest({1, 2, 3}, 30);
  for (const DType kv_cache : {DType::kF16, DType::kI8}) {
    const auto engine = MakeEngine(model_, kContext, kv_cache);
    const auto expected = std::move(GenerateBatch({request}, engine.get())[0]);
    const auto draft = MakeEngine(near_, kContext, kv_cache);
    const auto generator =
        *SpeculativeGenerator::Create(engine.get(), draft.get(), 4);
    EXPECT_EQ(generator->Generate(request)->tokens, expected->tokens);
  }
}

TEST_F(SpeculativeGenerateTest, CountsPassesAndProposals) {
  const auto engine = MakeEngine(model_), same = MakeEngine(model_),
             near = MakeEngine(near_);
  const BatchRequest request = MakeRequest({1, 2, 3}, 22);
  const auto perfect =
      (*SpeculativeGenerator::Create(engine.get(), same.get(), 4))
          ->Generate(request);
  // The first token comes of the prompt, then 5, 5, 5, 5 and 1.
  EXPECT_EQ(perfect->speculation.passes, 5);
  EXPECT_EQ(perfect->speculation.tokens, 21);
  EXPECT_EQ(perfect->speculation.proposed, 16);
  EXPECT_EQ(perfect->speculation.accepted, 16);
  const auto good = (*SpeculativeGenerator::Create(engine.get(), near.get(), 4))
                        ->Generate(request);
  const Speculation expected = ByHand(good->tokens, {1, 2, 3}, near_, 4);
  EXPECT_EQ(good->speculation.proposed, expected.proposed);
  EXPECT_EQ(good->speculation.accepted, expected.accepted);
  EXPECT_EQ(good->speculation.passes, expected.passes);
  EXPECT_EQ(good->speculation.tokens, expected.tokens);
  EXPECT_GT(expected.accepted, 0);
  EXPECT_LT(expected.accepted, expected.proposed);
  EXPECT_EQ(Plain(request)->speculation.passes, 0);
}

TEST_F(SpeculativeGenerateTest, ASampledTextIsAFunctionOfTheSeed) {
  BatchRequest request = MakeRequest({1, 2, 3}, 30);
  request.sampling.temperature = 1.2;
  request.sampling.top_p = 0.95;
  request.sampling.repetition_penalty = 1.1;
  request.sampling.seed = 5;
  const auto engine = MakeEngine(model_), draft = MakeEngine(near_);
  const auto generator =
      *SpeculativeGenerator::Create(engine.get(), draft.get(), 4);
  const auto first = generator->Generate(request);
  EXPECT_EQ(generator->Generate(request)->tokens, first->tokens);
  const std::unique_ptr<ThreadPool> one = *CreateThreadPool(1);
  EngineOptions options;
  options.context_length = kContext;
  options.prefill_chunk = 5;
  const auto alone = *Engine::Create(model_, one.get(), options);
  EXPECT_EQ((*SpeculativeGenerator::Create(alone.get(), draft.get(), 4))
                ->Generate(request)
                ->tokens,
            first->tokens);
  request.sampling.seed = 6;
  EXPECT_NE(generator->Generate(request)->tokens, first->tokens);
}

// The probabilities of the next token, from the formulas of sampler.h.
std::vector<double> NextProbabilities(const SamplerOptions& options,
                                      absl::Span<const int32_t> before,
                                      absl::Span<const float> logits) {
  std::vector<std::pair<double, size_t>> order;  // logit or weight, token
  for (size_t i = 0; i < logits.size(); ++i) {
    double logit = logits[i];
    if (std::find(before.begin(), before.end(), i) != before.end()) {
      logit = logit > 0 ? logit / options.repetition_penalty
                        : logit * options.repetition_penalty;
    }
    order.push_back({std::exp(logit / options.temperature), i});
  }
  std::sort(order.rbegin(), order.rend());
  if (options.top_k > 0) order.resize(static_cast<size_t>(options.top_k));
  const auto sum = [&] {
    double s = 0;
    for (const auto& [weight, token] : order) s += weight;
    return s;
  };
  const double enough = options.top_p * sum();
  double so_far = 0;
  size_t kept = 0;
  while (kept < order.size() && so_far < enough) so_far += order[kept++].first;
  if (options.top_p < 1) order.resize(kept);
  const double least = options.min_p * order[0].first;
  while (order.back().first < least) order.pop_back();
  std::vector<double> probabilities(logits.size(), 0.0);
  const double total = sum();
  for (const auto& [weight, token] : order) {
    probabilities[token] = weight / total;
  }
  return probabilities;
}

struct SamplingCase {
  const char* name;
  SamplerOptions options;
};

SamplerOptions Options(double temperature, int64_t top_k, double top_p,
                       double min_p, double repetition_penalty) {
  SamplerOptions options;
  options.temperature = temperature;
  options.top_k = top_k;
  options.top_p = top_p;
  options.min_p = min_p;
  options.repetition_penalty = repetition_penalty;
  return options;
}

class DistributionTest : public ::testing::TestWithParam<SamplingCase> {
 protected:
  static constexpr int64_t kVocab = 5;
  static constexpr size_t kNewTokens = 4;

  static std::shared_ptr<DeviceModel> TinyModel(uint64_t seed) {
    TransformerSpec spec = SmallSpec();
    spec.num_layers = 1;
    spec.vocab_size = kVocab;
    return RandomModel(spec, seed);
  }

  std::unique_ptr<Engine> MakeEngine(std::shared_ptr<const DeviceModel> model) {
    return *Engine::Create(std::move(model), pool_.get(), {16});
  }

  // The probability of every text of kNewTokens tokens.
  std::map<std::vector<int32_t>, double> Law(
      std::shared_ptr<const DeviceModel> model) {
    const auto engine = MakeEngine(std::move(model));
    std::map<std::vector<int32_t>, double> law = {{prompt_, 1.0}};
    for (size_t i = 0; i < kNewTokens; ++i) {
      std::map<std::vector<int32_t>, double> longer;
      for (const auto& [text, probability] : law) {
        engine->Reset();
        const auto next =
            NextProbabilities(GetParam().options, text, *engine->Append(text));
        for (size_t t = 0; t < next.size(); ++t) {
          if (next[t] == 0) continue;
          std::vector<int32_t> with = text;
          with.push_back(static_cast<int32_t>(t));
          longer[with] = probability * next[t];
        }
      }
      law = std::move(longer);
    }
    return law;
  }

  // Pearson's statistic, as standard deviations above its mean: chi-square of
  // f degrees of freedom has mean f and variance 2 f. Texts that are expected
  // less than five times count as one.
  static double Deviation(const std::map<std::vector<int32_t>, double>& law,
                          const std::map<std::vector<int32_t>, int>& counts,
                          int total) {
    double statistic = 0, freedom = -1, rare_expected = 0, rare_found = total;
    const auto add = [&](double expected, double found) {
      statistic += (found - expected) * (found - expected) / expected;
      ++freedom;
    };
    for (const auto& [text, probability] : law) {
      const auto it = counts.find(text);
      const double found = it == counts.end() ? 0 : it->second;
      const double expected = probability * total;
      if (expected < 5) {
        rare_expected += expected;
        continue;
      }
      rare_found -= found;
      add(expected, found);
    }
    // With nothing rare, nothing else may be found.
    if (rare_expected > 1e-6)
      add(rare_expected, rare_found);
    else if (rare_found > 0)
      return std::numeric_limits<double>::infinity();
    return (statistic - freedom) / std::sqrt(2 * freedom);
  }

  const std::vector<int32_t> prompt_ = {1, 3};
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(1);
};

// The frequencies of whole texts, so that what is drawn after an accepted and
// after a refused proposal, and how tokens depend on each other, count too.
TEST_P(DistributionTest, IsTheModelsWhateverTheDraft) {
  constexpr int kTexts = 20000;
  const auto model = TinyModel(3), other = TinyModel(4);
  const auto law = Law(model), draft_law = Law(other);
  const auto engine = MakeEngine(model), draft = MakeEngine(other);
  for (const int64_t draft_tokens : {1, 3}) {
    SCOPED_TRACE(draft_tokens);
    const auto generator =
        *SpeculativeGenerator::Create(engine.get(), draft.get(), draft_tokens);
    std::map<std::vector<int32_t>, int> counts;
    Speculation speculation;
    for (int seed = 0; seed < kTexts; ++seed) {
      BatchRequest request;
      request.prompt = prompt_;
      request.options.max_new_tokens = kNewTokens;
      request.sampling = GetParam().options;
      request.sampling.seed = static_cast<uint64_t>(seed);
      const auto result = generator->Generate(request);
      ASSERT_TRUE(result.ok()) << result.status();
      speculation.Add(result->speculation);
      std::vector<int32_t> text = prompt_;
      text.insert(text.end(), result->tokens.begin(), result->tokens.end());
      ++counts[text];
    }
    EXPECT_LT(Deviation(law, counts, kTexts), 4);
    // The draft's own texts would be told apart.
    EXPECT_GT(Deviation(draft_law, counts, kTexts), 100);
    EXPECT_GT(speculation.acceptance_rate(), 0.1);
    EXPECT_LT(speculation.acceptance_rate(), 0.95);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sampling, DistributionTest,
    ::testing::Values(SamplingCase{"Plain", Options(0.8, 0, 1, 0, 1)},
                      SamplingCase{"TopK", Options(0.8, 3, 1, 0, 1)},
                      SamplingCase{"TopP", Options(1.2, 0, 0.8, 0, 1)},
                      SamplingCase{"MinP", Options(1.2, 0, 1, 0.3, 1)},
                      SamplingCase{"Penalty", Options(0.8, 0, 1, 0, 1.6)},
                      SamplingCase{"All", Options(1.2, 4, 0.9, 0.1, 1.3)}),
    [](const ::testing::TestParamInfo<SamplingCase>& info) {
      return info.param.name;
    });

TEST_F(SpeculativeGenerateTest, RefusesWhatCannotWork) {
  const auto engine = MakeEngine(model_), draft = MakeEngine(other_);
  const auto error = [&](Engine* of, Engine* with, int64_t tokens) {
    const auto generator = SpeculativeGenerator::Create(of, with, tokens);
    EXPECT_EQ(generator.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(generator.status().message());
  };
  EXPECT_EQ(error(engine.get(), draft.get(), 0),
            "draft_tokens: expected 1 to 31, found 0");
  EXPECT_EQ(error(engine.get(), draft.get(), 32),
            "draft_tokens: expected 1 to 31, found 32");
  const auto shorter = MakeEngine(other_, kContext - 1);
  EXPECT_EQ(error(engine.get(), shorter.get(), 4),
            "draft: context_length: expected at least 40 as the model has, "
            "found 39");
  EngineOptions small_chunk;
  small_chunk.context_length = kContext;
  small_chunk.prefill_chunk = 4;
  const auto chunked = *Engine::Create(model_, pool_.get(), small_chunk);
  EXPECT_EQ(error(chunked.get(), draft.get(), 4),
            "draft_tokens: expected fewer than prefill_chunk 4, so that one "
            "pass verifies all, found 4");
  EXPECT_TRUE(SpeculativeGenerator::Create(chunked.get(), draft.get(), 3).ok());
}

TEST_F(SpeculativeGenerateTest, VocabulariesMayDifferInPaddingOnly) {
  TransformerSpec spec = SmallSpec();
  spec.vocab_size = 46;
  const auto engine = MakeEngine(model_);
  const auto draft = MakeEngine(RandomModel(spec, 3));
  const auto generator =
      *SpeculativeGenerator::Create(engine.get(), draft.get(), 4);
  BatchRequest request = MakeRequest({1, 2, 3}, 30);
  int calls = 0;
  request.on_done = [&](const absl::StatusOr<GenerateResult>&) { ++calls; };
  EXPECT_EQ(generator->Generate(request).status().message(),
            "draft: vocab_size: expected at least 50, found 46");
  request.vocab_size = 46;
  const auto result = generator->Generate(request);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tokens, Plain(request)->tokens);
  EXPECT_EQ(calls, 3);
}

TEST_F(SpeculativeGenerateTest, ErrorsEndIt) {
  const auto engine = MakeEngine(model_);
  Matrix<float> head(50, 24);
  head.row(7)[3] = std::numeric_limits<float>::quiet_NaN();
  const auto broken = std::make_shared<DeviceModel>(*model_);
  broken->lm_head.weight = OwnedMatrix(std::move(head));
  const auto draft = MakeEngine(broken), same = MakeEngine(model_);
  const auto of_draft =
      (*SpeculativeGenerator::Create(engine.get(), draft.get(), 4))
          ->Generate(MakeRequest({1}, 9));
  EXPECT_EQ(of_draft.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(of_draft.status().message(), "draft: logit of token 7 is nan");
  const auto generator =
      *SpeculativeGenerator::Create(engine.get(), same.get(), 4);
  EXPECT_EQ(generator->Generate(MakeRequest({}, 9)).status().message(),
            "prompt: it has no tokens");
  BatchRequest request = MakeRequest({1}, 9);
  int tokens = 0;
  request.callbacks.on_token = [&](int32_t) {
    return ++tokens < 4 ? absl::OkStatus() : absl::CancelledError("now");
  };
  EXPECT_EQ(generator->Generate(request).status().message(), "now");
  // The others are not disturbed.
  request.callbacks.on_token = nullptr;
  const auto results =
      generator->GenerateEach({request, MakeRequest({}, 9), request});
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0]->tokens, Plain(request)->tokens);
  EXPECT_FALSE(results[1].ok());
  EXPECT_EQ(results[2]->tokens, results[0]->tokens);
}

}  // namespace
}  // namespace qeff
