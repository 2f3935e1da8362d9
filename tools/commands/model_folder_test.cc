// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/model_folder.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/transformer.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ModelFolderTest : public testing::Test {
 protected:
  // A tiny model as a folder and as a GGUF file.
  void SetUp() override {
    ASSERT_EQ(setenv("TMPDIR", scratch_.c_str(), 1), 0);
    ASSERT_EQ(
        RunQeff({"synth", "--shape=tiny", "--dtype=f32", "--output=" + folder_})
            .code,
        0);
    const auto model = *Transformer::Load(*Checkpoint::Open(folder_));
    const auto tokenizer = *Tokenizer::FromFolder(folder_);
    const auto pool = *CreateThreadPool(1);
    const auto report = WriteGgufModel(
        *model, tokenizer->tables(),
        {GgmlType::kF32, GgmlType::kF32, GgmlType::kF32}, file_, pool.get());
    ASSERT_TRUE(report.ok()) << report.status();
  }

  const std::string scratch_ = MakeTestFolder();
  const std::string folder_ = MakeTestFolder() + "/model";
  const std::string file_ = MakeTestFolder() + "/model.gguf";
};

TEST_F(ModelFolderTest, AFolderIsItself) {
  const auto folder = ModelFolder::Open(folder_);
  ASSERT_TRUE(folder.ok());
  EXPECT_EQ(folder->path(), folder_);
  // Whoever opens it says what is wrong with it.
  EXPECT_EQ(ModelFolder::Open("absent")->path(), "absent");
}

TEST_F(ModelFolderTest, AnImportedFolderGoesWithItsOwner) {
  {
    auto folder = ModelFolder::Open(file_);
    ASSERT_TRUE(folder.ok()) << folder.status();
    const ModelFolder moved = *std::move(folder);
    EXPECT_TRUE(Checkpoint::Open(moved.path()).ok());
    EXPECT_THAT(ListTestFolder(scratch_), SizeIs(1));
  }
  EXPECT_THAT(ListTestFolder(scratch_), IsEmpty());
  EXPECT_TRUE(Checkpoint::Open(folder_).ok());
}

TEST_F(ModelFolderTest, NothingIsLeftOfABrokenFile) {
  WriteTestFile(file_, "GGUF\x03");
  EXPECT_EQ(ModelFolder::Open(file_).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ListTestFolder(scratch_), IsEmpty());
}

// Every command gives of the file what it gives of the folder.
TEST_F(ModelFolderTest, CommandsTakeAFile) {
  const std::string text = MakeTestFolder() + "/text.txt";
  WriteTestFile(text, std::string(2000, 'a') + "bc def.");
  const std::string logits = MakeTestFolder() + "/logits.safetensors";
  const std::vector<std::vector<std::string>> commands = {
      {"inspect"},
      {"tokenize", "--text=Hello, world"},
      {"embed", "--text=Hello"},
      {"logits", "--tokens=1,2,3", "--output=" + logits},
      {"generate", "--prompt=Hello", "--max_new_tokens=6"},
      {"eval", "--text=" + text, "--reference=" + file_},
  };
  for (std::vector<std::string> command : commands) {
    SCOPED_TRACE(command[0]);
    std::vector<std::string> on_file = command;
    on_file.push_back("--model=" + file_);
    command.push_back("--model=" + folder_);
    const CommandOutcome expected = RunQeff(command);
    const CommandOutcome found = RunQeff(on_file);
    ASSERT_EQ(expected.code, 0) << expected.err;
    ASSERT_EQ(found.code, 0) << found.err;
    for (const char* key :
         {"tensors", "ids", "embedding", "shape", "tokens", "nll", "kl_mean"}) {
      EXPECT_EQ(found.json.value(key, Json()), expected.json.value(key, Json()))
          << key;
    }
    EXPECT_THAT(ListTestFolder(scratch_), IsEmpty());
  }
}

TEST_F(ModelFolderTest, AnErrorNamesTheFile) {
  WriteTestFile(file_, ReadTestFile(file_).substr(0, 5000));
  const CommandOutcome outcome =
      RunQeff({"generate", "--model=" + file_, "--prompt=Hello"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr(file_));
}

}  // namespace
}  // namespace qeff
