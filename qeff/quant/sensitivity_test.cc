// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/sensitivity.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/eval/kl_divergence.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/quant/rounded_weights.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class SensitivityTest : public ::testing::Test {
 protected:
  SensitivityTest() {
    for (const char* name : {"int2_g32", "int4_g32", "int8"}) {
      schemes_.push_back(*ParseQuantScheme(name));
    }
    for (int s = 0; s < 3; ++s) {
      std::vector<int32_t> sequence = {1};
      for (int i = 0; i < 20 + s; ++i) sequence.push_back((i * 37 + s) % 256);
      sample_.tokens += static_cast<int64_t>(sequence.size());
      sample_.sequences.push_back(sequence);
    }
  }

  void Load(const std::string& folder) {
    folder_ = folder;
    model_ = Transformer::Load(*Checkpoint::Open(folder)).value();
    plan_ = PlanQuantization(model_->checkpoint(), model_->map(),
                             OptionsFor("int4_g32"))
                .value();
  }

  std::vector<LayerGroup> Measure(ThreadPool& pool,
                                  const std::string& scratch = "") {
    std::vector<LayerGroup> groups =
        FindLayerGroups(model_->map(), plan_, schemes_, 4.5).value();
    SensitivityOptions options;
    options.scratch_path = scratch;
    const absl::Status status =
        MeasureSensitivities(model_, schemes_, sample_, options, &groups, pool);
    EXPECT_TRUE(status.ok()) << status;
    return groups;
  }

  // The model with the layers of `group` rounded, written and read anew.
  std::shared_ptr<const Transformer> Rounded(const LayerGroup& group,
                                             const QuantScheme& scheme) const {
    std::vector<TestTensor> tensors;
    for (const TensorInfo& info : model_->checkpoint().tensors()) {
      const TensorView view = *model_->checkpoint().Get(info.name);
      TestTensor tensor{info.name, info.shape, {}};
      tensor.values.resize(
          static_cast<size_t>(info.shape.num_elements().value()));
      ReadFloats(view, 0, absl::MakeSpan(tensor.values));
      for (size_t m = 0; m < group.modules.size(); ++m) {
        const PlannedTensor& planned = *group.tensors[m];
        if (planned.name != info.name) continue;
        RoundWeights(scheme, ScaleDType(scheme, planned.dtype),
                     {tensor.values.data(), planned.rows, planned.cols},
                     *pool_);
      }
      tensors.push_back(std::move(tensor));
    }
    const std::string folder = MakeTestFolder() + "/rounded";
    WriteTestCheckpoint(folder, model_->checkpoint().config().dump(), tensors);
    return Transformer::Load(*Checkpoint::Open(folder)).value();
  }

  double Divergence(std::shared_ptr<const Transformer> changed) {
    auto original_forward = *HostForward::Create(model_, pool_.get(), {});
    auto changed_forward =
        *HostForward::Create(std::move(changed), pool_.get(), {});
    double kl = 0;
    for (const std::vector<int32_t>& sequence : sample_.sequences) {
      const Matrix<float> p = *original_forward->LogitsOf(sequence);
      const Matrix<float> q = *changed_forward->LogitsOf(sequence);
      for (int64_t r = 0; r < p.rows(); ++r) {
        const auto row = [r](const Matrix<float>& m) {
          return absl::MakeConstSpan(m.row(r), static_cast<size_t>(m.cols()));
        };
        kl += KlDivergence(row(p), LogSoftmax(row(p)), row(q),
                           LogSoftmax(row(q)));
      }
    }
    return kl / static_cast<double>(sample_.tokens);
  }

  std::string folder_;
  std::shared_ptr<const Transformer> model_;
  QuantizePlan plan_;
  std::vector<QuantScheme> schemes_;
  TokenSample sample_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

// Of every group, against a model that really has it rounded.
TEST_F(SensitivityTest, DivergenceIsThatOfTheRoundedModel) {
  Load(SynthModel("tiny", DType::kF32));
  const std::vector<LayerGroup> groups = Measure(*pool_);
  ASSERT_EQ(groups.size(), 8u);
  for (const LayerGroup& group : groups) {
    SCOPED_TRACE(group.modules[0]->module);
    ASSERT_EQ(group.choices.size(), 3u);
    EXPECT_EQ(group.measured, 1u);
    const double expected = Divergence(Rounded(group, schemes_[1]));
    EXPECT_GT(expected, 1e-5);
    EXPECT_NEAR(group.divergence / expected, 1, 1e-3);
    EXPECT_EQ(group.choices[1].cost, group.divergence);
    // Each bit divides a squared error by about four.
    EXPECT_GT(group.choices[0].error, 6 * group.choices[1].error);
    EXPECT_GT(group.choices[1].error, 60 * group.choices[2].error);
    EXPECT_NEAR(group.choices[0].cost / group.divergence,
                group.choices[0].error / group.choices[1].error, 1e-6);
  }
}

TEST_F(SensitivityTest, ThreadsAndScratchFilesDoNotMatter) {
  // Learned positions, biases, no gate; fused and transposed layers.
  Load(SynthModel("tiny-gpt2"));
  const std::vector<LayerGroup> groups = Measure(*pool_);
  const auto one_thread = *CreateThreadPool(1);
  const std::string folder = MakeTestFolder();
  const std::vector<LayerGroup> again =
      Measure(*one_thread, folder + "/scratch");
  ASSERT_EQ(groups.size(), again.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    EXPECT_EQ(groups[g].divergence, again[g].divergence);
    for (size_t c = 0; c < groups[g].choices.size(); ++c) {
      EXPECT_EQ(groups[g].choices[c].error, again[g].choices[c].error);
    }
  }
  EXPECT_TRUE(ListTestFolder(folder).empty());
}

TEST_F(SensitivityTest, ErrorsOfTheCallerEndIt) {
  Load(SynthModel("tiny"));
  std::vector<LayerGroup> groups =
      FindLayerGroups(model_->map(), plan_, schemes_, 4).value();
  SensitivityOptions options;
  int calls = 0;
  options.check = [&] {
    return ++calls == 5 ? absl::CancelledError("stop") : absl::OkStatus();
  };
  EXPECT_EQ(
      MeasureSensitivities(model_, schemes_, sample_, options, &groups, *pool_)
          .message(),
      "block 1: stop");
  sample_.sequences[0][3] = 1 << 20;
  EXPECT_EQ(MeasureSensitivities(model_, schemes_, sample_, {}, &groups, *pool_)
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(SensitivityTest, SampleIsOfWholeSequences) {
  Load(SynthModel("tiny"));
  TokenSample sample;
  for (int i = 0; i < 100; ++i) {
    sample.sequences.emplace_back(300, 5);
    sample.tokens += 300;
  }
  const TokenSample some = SensitivitySample(*model_, sample);
  EXPECT_EQ(some.tokens, 8100);
  EXPECT_EQ(some.sequences.size(), 27u);
  sample.sequences = {std::vector<int32_t>(10000, 5)};
  EXPECT_EQ(SensitivitySample(*model_, sample).tokens, 8192);
}

TEST(LayerGroups, ChoicesThatFit) {
  TestModel model(SynthBlockModel());
  const QuantizePlan plan = *model.Plan(OptionsFor("int4_g32"));
  const std::vector<QuantScheme> schemes = {*ParseQuantScheme("q4_k"),
                                            *ParseQuantScheme("int4_g128"),
                                            *ParseQuantScheme("int8")};
  const auto groups = FindLayerGroups(model.map, plan, schemes, 4.5);
  ASSERT_TRUE(groups.ok()) << groups.status();
  const LayerGroup& qkv = (*groups)[0];
  EXPECT_EQ(qkv.modules.size(), 3u);
  EXPECT_EQ(qkv.choices.size(), 3u);
  EXPECT_EQ(qkv.measured, 0u);
  EXPECT_EQ(qkv.choices[0].bytes * 8 * 2,
            static_cast<uint64_t>(qkv.Weights()) * 9);
  // Rows of 172 weights are not whole blocks.
  const LayerGroup& down = (*groups)[3];
  EXPECT_EQ(down.modules[0]->role, LinearRole::kDown);
  EXPECT_EQ(down.choices.size(), 2u);
  EXPECT_EQ(down.choices[0].scheme, 1u);
  // Groups of 128 do not divide these rows, and K blocks are qeff's.
  const auto compressed = FindLayerGroups(model.map, plan, schemes, 4.5,
                                          /*compressed_tensors=*/true);
  ASSERT_TRUE(compressed.ok()) << compressed.status();
  EXPECT_EQ((*compressed)[0].choices.size(), 2u);
  ASSERT_EQ((*compressed)[3].choices.size(), 1u);
  EXPECT_EQ((*compressed)[3].choices[0].scheme, 2u);
  const auto none = FindLayerGroups(
      model.map, plan, absl::MakeConstSpan(schemes).subspan(0, 1), 4.5);
  EXPECT_THAT(none.status().message(), HasSubstr("mlp.down_proj: none of"));
}

}  // namespace
}  // namespace qeff
