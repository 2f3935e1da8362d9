// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/model_writer.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

// Writes the loaded weights of `model`, and expects its tensors bit by bit.
void CheckRoundTrip(const std::string& family, const std::string& changes,
                    DType dtype) {
  SCOPED_TRACE(family + " " + changes);
  const auto checkpoint = OpenTestModel(MakeTestModel(family, changes), dtype);
  const auto model = *Transformer::Load(checkpoint);
  const TransformerSpec& spec = model->spec();
  const std::string folder = MakeTestFolder() + "/out";
  const std::vector<TensorInfo> tensors =
      ModelTensors(model->map(), [&](const std::string&) { return dtype; });
  ModelWriter writer(model->map(), tensors,
                     *CheckpointWriter::Create(folder, tensors));
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    ASSERT_TRUE(writer.WriteBlock(i, *model->LoadBlock(i)).ok());
  }
  ASSERT_TRUE(writer.WriteFinalNorm(*model->LoadFinalNorm()).ok());
  // In two parts.
  const Matrix<float> tokens = *model->LoadTokenEmbedding();
  const size_t hidden = static_cast<size_t>(spec.hidden_size);
  ASSERT_TRUE(writer.WriteTokens(3, tokens.span().subspan(3 * hidden)).ok());
  ASSERT_TRUE(writer.WriteTokens(0, tokens.span().first(3 * hidden)).ok());
  if (spec.position == PositionKind::kLearned) {
    ASSERT_TRUE(
        writer.WritePositions(0, model->LoadPositionEmbedding()->span()).ok());
  }
  if (!spec.tied_lm_head) {
    const LinearWeights head = *model->LoadLinear(-1, LinearRole::kLmHead);
    ASSERT_TRUE(writer.WriteLmHead(0, head.weight.span()).ok());
  }
  ASSERT_TRUE(writer.Commit(checkpoint->config(), {}).ok());

  const auto written = *Checkpoint::Open(folder);
  EXPECT_EQ(written->tensors().size(), tensors.size());
  for (const TensorInfo& tensor : tensors) {
    const TensorView expected = *checkpoint->Get(tensor.name);
    const auto actual = written->Get(tensor.name, tensor.shape);
    ASSERT_TRUE(actual.ok()) << actual.status();
    ASSERT_EQ(actual->bytes.size(), expected.bytes.size()) << tensor.name;
    EXPECT_EQ(std::memcmp(actual->bytes.data(), expected.bytes.data(),
                          expected.bytes.size()),
              0)
        << tensor.name;
  }
}

TEST(ModelWriterTest, WritesWhatWasLoadedForEveryFamily) {
  for (const char* family :
       {"llama", "mistral", "qwen2", "qwen3", "gpt2", "mpt"}) {
    CheckRoundTrip(family, "{}", DType::kF32);
  }
  CheckRoundTrip("llama", R"({"tie_word_embeddings": true})", DType::kBF16);
  CheckRoundTrip("gpt2", R"({"tie_word_embeddings": false})", DType::kF16);
}

TEST(ModelWriterTest, RefusesAnIncompleteModel) {
  const auto checkpoint = OpenTestModel(MakeTestModel("llama"));
  const auto model = *Transformer::Load(checkpoint);
  const std::string folder = MakeTestFolder() + "/out";
  const std::vector<TensorInfo> tensors = ModelTensors(
      model->map(), [](const std::string&) { return DType::kF32; });
  ModelWriter writer(model->map(), tensors,
                     *CheckpointWriter::Create(folder, tensors));
  ASSERT_TRUE(writer.WriteBlock(0, *model->LoadBlock(0)).ok());
  EXPECT_EQ(writer.Commit(checkpoint->config(), {}).code(),
            absl::StatusCode::kInternal);
  EXPECT_FALSE(Checkpoint::Open(folder).ok());
}

}  // namespace
}  // namespace qeff
