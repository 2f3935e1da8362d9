// SPDX-License-Identifier: Apache-2.0
//
// QEfficient's flow on the facade: load, export, compile, generate.

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/base/qeff_auto_model.h"
#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/export/aic/compile_aic.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/synth.h"

namespace qeff {
namespace {

using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

class QeffExportTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(WriteSynthCheckpoint(KnownShapeConfig("tiny-mpt").value(), {},
                                   model_, pool_.get()),
              absl::OkStatus());
  }

  const std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
  const std::string folder_ = MakeTestFolder();
  const std::string model_ = folder_ + "/model";
  const std::string cache_ = folder_ + "/cache";
};

TEST_F(QeffExportTest, LoadExportCompileGenerate) {
  auto model = QEFFAutoModelForCausalLM::FromPretrained(model_, pool_.get());
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string name = (*model)->model_name();
  const auto onnx = (*model)->Export(cache_);
  ASSERT_TRUE(onnx.ok()) << onnx.status();
  EXPECT_THAT(*onnx, HasSubstr(cache_ + "/" + name + "/" + name + "-"));
  EXPECT_THAT(*onnx, EndsWith("/" + name + ".onnx"));
  // The graph that was exported is the one that is compiled.
  AicCompileOptions options;
  options.run_compiler = false;
  const auto compiled = (*model)->Compile(cache_, options);
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  EXPECT_FALSE(compiled->compiled);
  EXPECT_THAT(compiled->folder,
              HasSubstr(onnx->substr(0, onnx->rfind('/')) + "/qpc-"));
  EXPECT_THAT(ListTestFolder(compiled->folder),
              IsSupersetOf({"custom_io.yaml", "qaic-compile.sh",
                            "specializations.json"}));
  const auto again = (*model)->Compile(cache_, options);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->from_cache);
  GenerationConfig config;
  config.max_new_tokens = 4;
  const auto text = (*model)->Generate("My name is", config);
  ASSERT_TRUE(text.ok()) << text.status();
}

TEST_F(QeffExportTest, HiddenStates) {
  auto model = QEFFAutoModel::FromPretrained(model_, pool_.get());
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string path = folder_ + "/embeddings.onnx";
  ASSERT_EQ((*model)->Export(Pooling::kMean, path), absl::OkStatus());
  EXPECT_THAT(ListTestFolder(folder_), Contains("embeddings.onnx"));
  EXPECT_FALSE((*model)->Export(Pooling::kMean, "/nonexistent/x.onnx").ok());
}

}  // namespace
}  // namespace qeff
