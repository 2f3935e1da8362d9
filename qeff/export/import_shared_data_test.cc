// SPDX-License-Identifier: Apache-2.0
//
// Real models and tokenizers to GGUF and back. The folder is given in the
// environment variable QEFF_SHARED_DATA; without it every test is skipped.

#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/export/gguf_tokenizer.h"
#include "qeff/export/gguf_tokenizer_files.h"
#include "qeff/export/import_gguf.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

class ImportSharedDataTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("QEFF_SHARED_DATA");
    if (data == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
    data_ = data;
  }

  void ExpectSameIds(const Tokenizer& a, const Tokenizer& b) {
    const std::string text =
        ReadTestFile(data_ + "/text/tinystories_lower_valid.txt")
            .substr(0, 20000) +
        " Caf\xC3\xA9 1234567 don't\n\n  \tx = y;\r\n \xF0\x9F\x98\x80!";
    for (const bool special : {false, true}) {
      const auto expected = a.Encode(text, special);
      const auto found = b.Encode(text, special);
      ASSERT_TRUE(expected.ok() && found.ok());
      EXPECT_EQ(*found, *expected);
      EXPECT_EQ(*b.Decode(*found, true), *a.Decode(*expected, true));
    }
    EXPECT_EQ(a.bos_id(), b.bos_id());
    EXPECT_EQ(a.eos_id(), b.eos_id());
  }

  std::string data_;
};

TEST_F(ImportSharedDataTest, ModelsComeBackBitForBit) {
  for (const char* name : {"tinystories6m", "stories260k"}) {
    SCOPED_TRACE(name);
    const std::string folder = data_ + "/" + name;
    const auto checkpoint = *Checkpoint::Open(folder);
    const auto model = *Transformer::Load(checkpoint);
    const auto tokenizer = *Tokenizer::FromFolder(folder);
    const auto pool = *CreateThreadPool(2);
    const std::string path = MakeTestFolder() + "/model.gguf";
    const auto written = WriteGgufModel(
        *model, tokenizer->tables(),
        {GgmlType::kF32, GgmlType::kF32, GgmlType::kF32}, path, pool.get());
    ASSERT_TRUE(written.ok()) << written.status();
    const std::string output = MakeTestFolder() + "/out";
    const auto report = ImportGguf(path, output);
    ASSERT_TRUE(report.ok()) << report.status();
    const auto imported = *Checkpoint::Open(output);
    const auto loaded = Transformer::Load(imported);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    for (const TensorInfo& info : imported->tensors()) {
      ASSERT_TRUE(checkpoint->Has(info.name)) << info.name;
      EXPECT_EQ(imported->Get(info.name)->bytes,
                checkpoint->Get(info.name)->bytes)
          << info.name;
    }
    const auto back = Tokenizer::FromFolder(output);
    ASSERT_TRUE(back.ok()) << back.status();
    ExpectSameIds(*tokenizer, **back);
  }
}

TEST_F(ImportSharedDataTest, TokenizersComeBack) {
  for (const char* name : {"gpt2", "llama3", "qwen3"}) {
    SCOPED_TRACE(name);
    const auto tokenizer = Tokenizer::FromFolder(data_ + "/tokenizers/" + name);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const auto metadata = GgufTokenizerMetadata(
        (*tokenizer)->tables(), (*tokenizer)->vocab_size() + 64);
    ASSERT_TRUE(metadata.ok()) << metadata.status();
    const auto files = GgufTokenizerFiles(*metadata, "f.gguf");
    ASSERT_TRUE(files.ok()) << files.status();
    const std::string folder = MakeTestFolder();
    for (const auto& [file, content] : *files) {
      WriteTestFile(folder + "/" + file, content);
    }
    const auto back = Tokenizer::FromFolder(folder);
    ASSERT_TRUE(back.ok()) << back.status();
    ExpectSameIds(**tokenizer, **back);
  }
}

}  // namespace
}  // namespace qeff
