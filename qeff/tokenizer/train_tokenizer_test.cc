// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/train_tokenizer.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tokenizer/tokenizer.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

std::string Text() {
  std::string text;
  for (int i = 0; i < 50; ++i) {
    absl::StrAppend(&text,
                    "Call me Ishmael. Some years ago--never mind how "
                    "long precisely--having little or no money in my purse, "
                    "and nothing particular to interest me on shore,\n\nI "
                    "thought I would sail about a little and see the watery "
                    "part of the world in ",
                    1800 + i, ".\n");
  }
  return text;
}

class TrainTokenizerTest : public testing::Test {
 protected:
  TrainTokenizerTest() { WriteTestFile(path_, Text()); }

  const std::string folder_ = MakeTestFolder();
  const std::string path_ = folder_ + "/text";
  const std::string output_ = folder_ + "/out";
};

TEST_F(TrainTokenizerTest, EncodesAnythingAndBack) {
  ASSERT_TRUE(TrainTokenizer({path_}, 400, output_).ok());
  const auto tokenizer = Tokenizer::FromFolder(output_);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 400);
  EXPECT_EQ((*tokenizer)->bos_id(), 1);
  EXPECT_EQ((*tokenizer)->eos_id(), 2);
  std::string bytes;
  for (int b = 1; b < 128; ++b) bytes.push_back(static_cast<char>(b));
  for (const std::string& text :
       {Text(), std::string("Blank\n\n\nlines  and   spaces \n"), bytes,
        std::string("日本語 😀 naïve \t"), std::string("\n"),
        std::string("x")}) {
    const auto ids = (*tokenizer)->Encode(text, /*add_special_tokens=*/true);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(ids->front(), 1);
    const auto back = (*tokenizer)->Decode(*ids, /*skip_special_tokens=*/true);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(*back, text);
  }
  // Pieces of the text are long.
  EXPECT_LT((*tokenizer)->Encode(Text(), false)->size(), Text().size() / 3);
}

TEST_F(TrainTokenizerTest, GivesTheSameBytes) {
  ASSERT_TRUE(TrainTokenizer({path_}, 400, output_).ok());
  ASSERT_TRUE(TrainTokenizer({path_}, 400, output_ + "2").ok());
  for (const char* name : {"/tokenizer.model", "/tokenizer_config.json"}) {
    EXPECT_EQ(ReadTestFile(output_ + name), ReadTestFile(output_ + "2" + name));
  }
}

TEST_F(TrainTokenizerTest, RefusesAndLeavesNothing) {
  const auto error = [&](const std::vector<std::string>& files,
                         int64_t vocab_size) {
    return std::string(TrainTokenizer(files, vocab_size, output_).message());
  };
  EXPECT_THAT(error({path_}, 259), HasSubstr("--vocab_size: expected more"));
  EXPECT_THAT(error({path_}, 5000),
              HasSubstr("--vocab_size=5000: the text has room for"));
  EXPECT_THAT(error({folder_ + "/missing"}, 400), HasSubstr("missing"));
  WriteTestFile(folder_ + "/empty", "");
  EXPECT_THAT(error({folder_ + "/empty"}, 400), HasSubstr("is empty"));
  WriteTestFile(folder_ + "/binary", std::string("ab\0c", 4));
  EXPECT_THAT(error({folder_ + "/binary"}, 400), HasSubstr("NUL byte at 2"));
  EXPECT_EQ(ListTestFolder(folder_),
            (std::vector<std::string>{"binary", "empty", "text"}));
  ASSERT_TRUE(TrainTokenizer({path_}, 400, output_).ok());
  EXPECT_EQ(TrainTokenizer({path_}, 400, output_).code(),
            absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace qeff
