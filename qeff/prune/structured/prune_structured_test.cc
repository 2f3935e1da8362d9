// SPDX-License-Identifier: Apache-2.0
//
// Structured pruning of tiny random models of every family.

#include "qeff/prune/structured/prune_structured.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/pruned_config.h"
#include "qeff/prune/structured/pruned_walk.h"
#include "qeff/prune/structured/pruned_writer.h"
#include "qeff/prune/structured/slice_weights.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Family {
  const char* name;
  const char* family;
  const char* changes = "{}";
};

void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

const Family kLlamas[] = {
    {"llama", "llama"},
    {"tied", "llama", R"({"tie_word_embeddings": true})"},
    {"mha", "llama", R"({"num_key_value_heads": null})"},
    {"biases", "llama", R"({"attention_bias": true, "mlp_bias": true})"},
    {"head_dim", "llama", R"({"head_dim": 10})"},
    {"qwen2", "qwen2"},
    {"qwen3", "qwen3"},
};
const Family kOthers[] = {
    {"gpt2", "gpt2"},
    {"gpt2_inner", "gpt2", R"({"n_inner": 40})"},
    {"mpt", "mpt"},
};

class PruneStructuredTest : public ::testing::TestWithParam<Family> {
 protected:
  PruneStructuredTest() {
    for (int s = 0; s < 8; ++s) {
      std::vector<int32_t> tokens = TestTokens(32);
      for (int32_t& token : tokens) token = (token * (s + 1) + s) % 20;
      sample_.sequences.push_back(tokens);
      sample_.tokens += 32;
    }
  }

  void Make(const Family& family) {
    test_ = MakeTestModel(family.family, family.changes);
    map_ = MapModel(*OpenTestModel(test_)).value();
  }
  void Load() { model_ = Transformer::Load(OpenTestModel(test_)).value(); }

  // Zeroes `count` rows (outputs, with their biases) or columns of a layer.
  void Zero(const LinearModule& module, bool rows, int64_t first,
            int64_t count) {
    std::vector<float>& values = test_.Find(module.module + ".weight")->values;
    for (int64_t out = 0; out < module.out_features; ++out) {
      for (int64_t in = 0; in < module.in_features; ++in) {
        const int64_t index = rows ? out : in;
        if (index < first || index >= first + count) continue;
        const int64_t at = module.transposed ? in * module.out_features + out
                                             : out * module.in_features + in;
        values[static_cast<size_t>(at)] = 0;
      }
    }
    if (!rows || !module.has_bias) return;
    ZeroVector(module.module + ".bias", first, count);
  }
  void ZeroVector(const std::string& name, int64_t first, int64_t count) {
    std::fill_n(test_.Find(name)->values.begin() + first, count, 0.0f);
  }
  const LinearModule& Module(int64_t block, LinearRole role) const {
    for (const LinearModule& module :
         map_.blocks[static_cast<size_t>(block)].linears) {
      if (module.role == role) return module;
    }
    ADD_FAILURE();
    return map_.lm_head;
  }

  absl::StatusOr<StructuredReport> Prune(const StructuredOptions& options,
                                         int threads = 2) {
    output_ = MakeTestFolder() + "/pruned";
    const auto pool = CreateThreadPool(threads).value();
    return PruneStructured(model_, sample_, output_, options, *pool);
  }
  std::shared_ptr<const Transformer> Result() const {
    return Transformer::Load(Checkpoint::Open(output_).value()).value();
  }

  // Of the result's logits, relative to the size of the model's.
  double LogitsError() {
    const Matrix<float> expected = Logits(model_), found = Logits(Result());
    double difference = 0, size = 0;
    for (size_t i = 0; i < expected.span().size(); ++i) {
      const double d = double{found.data()[i]} - expected.data()[i];
      difference += d * d;
      size += double{expected.data()[i]} * expected.data()[i];
    }
    return std::sqrt(difference / size);
  }
  Matrix<float> Logits(const std::shared_ptr<const Transformer>& model) {
    return HostForward::Create(model, pool_.get())
        .value()
        ->LogitsOf(TestTokens(30))
        .value();
  }

  std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
  TokenSample sample_;
  TestModel test_;
  ModelMap map_;
  std::shared_ptr<const Transformer> model_;
  std::string output_;
};

using LlamaTest = PruneStructuredTest;
INSTANTIATE_TEST_SUITE_P(Families, LlamaTest, ::testing::ValuesIn(kLlamas));
using AllFamiliesTest = PruneStructuredTest;
INSTANTIATE_TEST_SUITE_P(Llamas, AllFamiliesTest, ::testing::ValuesIn(kLlamas));
INSTANTIATE_TEST_SUITE_P(Others, AllFamiliesTest, ::testing::ValuesIn(kOthers));

TEST_P(AllFamiliesTest, NeuronsThatDoNothingGo) {
  Make(GetParam());
  const int64_t ffn = map_.spec.ffn_size;
  for (int64_t b = 0; b < 2; ++b) {
    Zero(Module(b, LinearRole::kUp), /*rows=*/true, 3 + b, 8);
  }
  Load();
  for (const bool compensate : {false, true}) {
    StructuredOptions options;
    options.sizes.ffn_size = ffn - 8;
    options.compensate = compensate;
    const auto report = Prune(options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(Result()->spec().ffn_size, ffn - 8);
    EXPECT_EQ(report->plan.ffn[1][3], 3);
    EXPECT_EQ(report->plan.ffn[1][4], 12);
    // Sums in another order.
    EXPECT_LT(LogitsError(), 1e-5) << compensate;
    EXPECT_EQ(report->parameters_after, CountParameters(Result()->spec()));
  }
}

TEST_P(LlamaTest, HeadsThatDoNothingGo) {
  Make(GetParam());
  const TransformerSpec& spec = map_.spec;
  for (int64_t b = 0; b < 2; ++b) {
    Zero(Module(b, LinearRole::kV), true, b * spec.head_dim, spec.head_dim);
  }
  Load();
  const int64_t group = spec.num_heads / spec.num_kv_heads;
  for (const bool compensate : {false, true}) {
    StructuredOptions options;
    options.sizes.heads = spec.num_heads - group;
    options.compensate = compensate;
    const auto report = Prune(options);
    ASSERT_TRUE(report.ok()) << report.status();
    const TransformerSpec pruned = Result()->spec();
    EXPECT_EQ(pruned.num_heads, spec.num_heads - group);
    // What a KV cache is made of.
    EXPECT_EQ(pruned.num_kv_heads, spec.num_kv_heads - 1);
    EXPECT_EQ(pruned.head_dim, spec.head_dim);
    EXPECT_LT(LogitsError(), 1e-5) << compensate;
  }
}

TEST_P(LlamaTest, ChannelsThatAreZeroGo) {
  Make(GetParam());
  // Half of the channels, of 24.
  const int64_t hidden = map_.spec.hidden_size, zeros = 12;
  std::vector<float>& table = test_.Find(map_.token_embedding)->values;
  for (size_t i = 0; i < table.size(); ++i) {
    if (static_cast<int64_t>(i) % hidden < zeros) table[i] = 0;
  }
  for (int64_t b = 0; b < 2; ++b) {
    Zero(Module(b, LinearRole::kO), true, 0, zeros);
    Zero(Module(b, LinearRole::kDown), true, 0, zeros);
  }
  Load();
  for (const bool compensate : {false, true}) {
    StructuredOptions options;
    options.sizes.hidden_size = hidden - zeros;
    options.compensate = compensate;
    const auto report = Prune(options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->plan.hidden[0], zeros);
    EXPECT_EQ(Result()->spec().hidden_size, hidden - zeros);
    EXPECT_EQ(Result()->spec().head_dim, map_.spec.head_dim);
    // Norms became sqrt(2) smaller, but for epsilon, 1e-5: the share that it
    // has of a mean square above 0.05.
    EXPECT_LT(LogitsError(), 2e-4) << compensate;
  }
}

TEST_P(AllFamiliesTest, LayersThatDoNothingGo) {
  Make(GetParam());
  Zero(Module(0, LinearRole::kO), true, 0, map_.spec.hidden_size);
  Zero(Module(0, LinearRole::kDown), true, 0, map_.spec.hidden_size);
  Load();
  for (const bool compensate : {false, true}) {
    StructuredOptions options;
    options.sizes.layers = 1;
    options.compensate = compensate;
    const auto report = Prune(options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_THAT(report->plan.layers, ElementsAre(1));
    EXPECT_EQ(Result()->spec().num_layers, 1);
    EXPECT_LT(LogitsError(), 1e-5) << compensate;
  }
}

TEST_P(AllFamiliesTest, OrderDoesNotMatter) {
  Make(GetParam());
  Load();
  StructuredPlan plan = KeepAll(model_->spec());
  std::reverse(plan.hidden.begin(), plan.hidden.end());
  for (auto& neurons : plan.ffn) {
    std::rotate(neurons.begin(), neurons.begin() + 7, neurons.end());
  }
  // ALiBi's heads have a place.
  if (model_->spec().position != PositionKind::kAlibi) {
    for (auto& groups : plan.kv_groups) std::swap(groups[0], groups[2]);
  }
  const auto config = PruneConfig(*model_, plan);
  ASSERT_TRUE(config.ok()) << config.status();
  output_ = MakeTestFolder() + "/ordered";
  auto writer = PrunedWriter::Create(*model_, plan, *config, output_).value();
  for (int64_t b = 0; b < 2; ++b) {
    const BlockWeights weights = model_->LoadBlock(b).value();
    ASSERT_TRUE(writer
                    ->WriteBlock(b, SliceBlock(model_->spec(), plan,
                                               static_cast<size_t>(b), weights))
                    .ok());
  }
  const NormWeights norm = model_->LoadFinalNorm().value();
  ASSERT_TRUE(writer->WriteEnds(SliceNorm(norm, plan.hidden), {}, *pool_).ok());
  ASSERT_TRUE(writer->Commit().ok());
  EXPECT_LT(LogitsError(), 1e-5);
}

// What the walk measures is what the written model does.
TEST_P(LlamaTest, MeasuresTheModelThatIsWritten) {
  Make(GetParam());
  Load();
  StructuredOptions options;
  options.sizes.ffn_size = 30;
  options.sizes.hidden_size = 20;
  options.sizes.heads = map_.spec.num_heads / map_.spec.num_kv_heads;
  const auto report = Prune(options);
  ASSERT_TRUE(report.ok()) << report.status();
  PrunedWalkOptions walk;
  walk.on_block = [&](size_t, int64_t layer, const BlockWeights& weights) {
    const BlockWeights stored = Result()->LoadBlock(layer).value();
    const auto expected = weights.down.weight.span();
    const auto found = stored.down.weight.span();
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), found.begin(),
                           found.end()));
    return absl::OkStatus();
  };
  EXPECT_TRUE(
      WalkPruned(model_, {&report->plan, 1}, sample_, walk, *pool_).ok());
  EXPECT_EQ(Result()->spec().hidden_size, 20);
}

TEST_F(PruneStructuredTest, CompensatingCostsLess) {
  Make({"llama", "llama"});
  Load();
  // More tokens than a layer has inputs.
  const Random random(1);
  sample_ = {};
  for (uint64_t s = 0; s < 60; ++s) {
    std::vector<int32_t> tokens;
    for (uint64_t i = 0; i < 32; ++i) {
      tokens.push_back(static_cast<int32_t>(random.At(32 * s + i) % 20));
    }
    sample_.sequences.push_back(tokens);
    sample_.tokens += 32;
  }
  const PrunedSizes kSizes[] = {
      {0, 0, 0, 30}, {0, 0, 4, 0}, {1, 0, 0, 0}, {0, 20, 0, 0}};
  for (const PrunedSizes& sizes : kSizes) {
    double kl[2];
    for (const bool compensate : {false, true}) {
      const StructuredPlan plan = ChoosePlan(
          model_->spec(), RandomImportance(model_->spec(), 3), sizes);
      PrunedWalkOptions walk;
      walk.compensate = compensate;
      walk.measured_sequences = 10;
      const auto results =
          WalkPruned(model_, {&plan, 1}, sample_, walk, *pool_);
      ASSERT_TRUE(results.ok()) << results.status();
      kl[compensate] = (*results)[0].divergence;
    }
    EXPECT_LT(kl[1], kl[0]) << FormatSizes(sizes);
    EXPECT_GT(kl[1], 0);
  }
}

TEST_F(PruneStructuredTest, SearchesSizes) {
  Make({"llama", "llama"});
  Load();
  StructuredOptions options;
  options.parameters = 0.8;
  const auto report = Prune(options);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_GT(report->candidates.size(), 1u);
  const int64_t limit = CountParameters(model_->spec()) * 8 / 10;
  double before = 0;
  for (const StructuredCandidate& candidate : report->candidates) {
    EXPECT_LE(candidate.parameters, limit);
    EXPECT_GE(candidate.parameters, limit * 97 / 100 - 1);
    EXPECT_GE(candidate.divergence, before);
    before = candidate.divergence;
  }
  EXPECT_EQ(CountParameters(Result()->spec()),
            report->candidates[0].parameters);
}

TEST_F(PruneStructuredTest, BytesDoNotDependOnThreads) {
  Make({"llama", "llama"});
  Load();
  StructuredOptions options;
  options.parameters = 0.8;
  ASSERT_TRUE(Prune(options, 1).ok());
  const std::string one = ReadTestFile(output_ + "/model.safetensors");
  ASSERT_TRUE(Prune(options, 3).ok());
  EXPECT_EQ(one, ReadTestFile(output_ + "/model.safetensors"));
}

TEST_F(PruneStructuredTest, LeavesNothingWhenItIsStopped) {
  Make({"llama", "llama"});
  Load();
  StructuredOptions options;
  options.sizes.ffn_size = 20;
  int calls = 0;
  options.check = [&] {
    return ++calls < 12 ? absl::OkStatus() : absl::CancelledError("stop");
  };
  EXPECT_EQ(Prune(options).status().code(), absl::StatusCode::kCancelled);
  EXPECT_GE(calls, 12);
  const std::string folder = output_.substr(0, output_.rfind('/'));
  EXPECT_THAT(ListTestFolder(folder), ElementsAre());
}

TEST_F(PruneStructuredTest, RefusesSizes) {
  Make({"llama", "llama"});
  Load();
  const struct {
    PrunedSizes sizes;
    const char* message;
  } cases[] = {
      {{3, 0, 0, 0}, "--layers=3: expected 1 to 2"},
      {{-1, 0, 0, 0}, "--layers=-1: expected 1 to 2"},
      {{0, 25, 0, 0}, "--hidden_size=25: expected 1 to 24"},
      {{0, 0, 8, 0}, "--heads=8: expected 1 to 6"},
      {{0, 0, 3, 0}, "--heads=3: expected a multiple of 2"},
      {{0, 0, 0, 41}, "--ffn_size=41: expected 1 to 40"},
      {{2, 24, 6, 40}, "expected a size below the model's"},
  };
  for (const auto& each : cases) {
    StructuredOptions options;
    options.sizes = each.sizes;
    const absl::Status status = Prune(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(each.message));
  }
  for (const double share : {-0.5, 1.0, 1.5, 0.05}) {
    StructuredOptions options;
    options.parameters = share;
    EXPECT_THAT(Prune(options).status().message(), HasSubstr("--parameters="));
  }
}

TEST_F(PruneStructuredTest, RefusesWhatAFamilyCannotSay) {
  const struct {
    Family family;
    PrunedSizes sizes;
    const char* message;
  } cases[] = {
      // 24 channels over 4 heads are 6, not 4.
      {{"gpt2", "gpt2"}, {0, 0, 4, 0}, "head_dim 6, not 4"},
      {{"gpt2", "gpt2"}, {0, 0, 5, 0}, "gpt2 cannot have these sizes"},
      {{"mpt", "mpt"}, {0, 0, 4, 0}, "head_dim 6, not 4"},
  };
  for (const auto& each : cases) {
    Make(each.family);
    Load();
    StructuredOptions options;
    options.sizes = each.sizes;
    const absl::Status status = Prune(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(each.message));
  }
}

TEST_F(PruneStructuredTest, HeadsGoWithChannels) {
  for (const Family& family : {kOthers[0], kOthers[2]}) {
    Make(family);
    Load();
    StructuredOptions options;
    options.sizes.heads = 3;
    options.sizes.hidden_size = 12;
    const auto report = Prune(options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(Result()->spec().head_dim, 4);
    EXPECT_EQ(Result()->spec().ffn_size, 96);
    if (model_->spec().position != PositionKind::kAlibi) continue;
    // Slopes 1/16, 1/256, 1/4 of 1/4, 1/16, 1/64, 1/256, 1/2, 1/8.
    EXPECT_THAT(report->plan.kv_groups[0], ElementsAre(1, 3, 0));
    StructuredPlan plan = report->plan;
    std::swap(plan.kv_groups[1][0], plan.kv_groups[1][1]);
    EXPECT_THAT(PruneConfig(*model_, plan).status().message(),
                HasSubstr("heads: ALiBi gives head 0 of 3 the slope 0.0625, "
                          "but head 3 of 6 has 0.00390625"));
  }
}

TEST_F(PruneStructuredTest, RefusesAFolderThatExists) {
  Make({"llama", "llama"});
  Load();
  StructuredOptions options;
  options.sizes.ffn_size = 20;
  ASSERT_TRUE(Prune(options).ok());
  EXPECT_EQ(PruneStructured(model_, sample_, output_, options, *pool_)
                .status()
                .code(),
            absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace qeff
