// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/tokenize_to_shard.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/tokenizer/tokenizer_testutil.h"
#include "qeff/train/token_shard.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TokenizeToShardTest : public testing::Test {
 protected:
  // A new file with `text`.
  std::string File(absl::string_view text) {
    const std::string path =
        absl::StrCat(folder_, "/text", ListTestFolder(folder_).size());
    WriteTestFile(path, text);
    return path;
  }

  absl::Status Tokenize(const std::vector<std::string>& files,
                        int threads = 2) {
    return TokenizeToShard(files, *tokenizer_, options_, output_,
                           *CreateThreadPool(threads).value());
  }

  // The documents that the files make, as text.
  std::vector<std::string> Documents(const std::vector<std::string>& files) {
    const absl::Status status = Tokenize(files);
    EXPECT_TRUE(status.ok()) << status;
    std::vector<std::string> texts;
    const auto shard = TokenShard::Open(output_).value();
    EXPECT_EQ(shard->vocab_size(), tokenizer_->vocab_size());
    for (int64_t i = 0; i < shard->documents(); ++i) {
      texts.push_back(tokenizer_
                          ->Decode(shard->Document(i).value(),
                                   /*skip_special_tokens=*/false)
                          .value());
    }
    return texts;
  }

  std::string Message(const std::vector<std::string>& files,
                      absl::StatusCode code) {
    const absl::Status status = Tokenize(files);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(ListTestFolder(output_folder_), ElementsAre());
    return std::string(status.message());
  }

  const std::unique_ptr<PortableTokenizer> tokenizer_ =
      PortableTokenizer::Create(MakeEnglishBpe()).value();
  const std::string folder_ = MakeTestFolder();
  const std::string output_folder_ = MakeTestFolder();
  const std::string output_ = output_folder_ + "/tokens";
  TokenizeOptions options_;
};

TEST_F(TokenizeToShardTest, EmptyLinesPartDocuments) {
  EXPECT_THAT(
      Documents({File("\n\none\ntwo\n\nthree\n\n\n\n four \n"), File("five"),
                 File("\r\nsix\r\nseven\r\n\r\neight\r\n"), File("\n \n")}),
      ElementsAre("one\ntwo", "three", " four ", "five", "six\r\nseven",
                  "eight", " "));
}

TEST_F(TokenizeToShardTest, FilesAsDocuments) {
  options_.documents = DocumentKind::kFiles;
  EXPECT_THAT(Documents({File("one\n\ntwo\n"), File("\n"), File("three")}),
              ElementsAre("one\n\ntwo\n", "\n", "three"));
}

TEST_F(TokenizeToShardTest, SpecialTokensAroundEachDocument) {
  const int32_t end = *tokenizer_->TokenToId("<|end|>");
  const std::string file = File("a\n\nb<|end|>");
  options_.bos = 66;
  options_.eos = end;
  EXPECT_THAT(
      Documents({file}),
      ElementsAre(tokenizer_->Decode({66}, false).value() + "a<|end|>",
                  tokenizer_->Decode({66}, false).value() + "b<|end|><|end|>"));
}

TEST_F(TokenizeToShardTest, DocumentsWithoutTokensAreLeftOut) {
  const Json json = WordPieceJson({"one", "two"});
  const std::string tokenizer_path = folder_ + "/tokenizer.json";
  WriteTestFile(tokenizer_path, json.dump());
  const auto tokenizer = Tokenizer::FromTokenizerJson(tokenizer_path).value();
  options_.bos = 2;
  const absl::Status status =
      TokenizeToShard({File("one\n\n  \n\ntwo")}, *tokenizer, options_, output_,
                      *CreateThreadPool(1).value());
  ASSERT_TRUE(status.ok()) << status;
  const auto shard = TokenShard::Open(output_).value();
  ASSERT_EQ(shard->documents(), 2);
  EXPECT_THAT(shard->Document(0).value(), ElementsAre(2, 4));
  EXPECT_THAT(shard->Document(1).value(), ElementsAre(2, 5));
}

// Several batches of text; documents that lie across their borders.
TEST_F(TokenizeToShardTest, SameBytesForAnyNumberOfThreads) {
  std::string text = MakeEnglishText(5 << 20);
  for (size_t i = 0, length = 100; i + 2 < text.size(); i += length) {
    text[i] = text[i + 1] = '\n';
    length = (length * 7 + 13) % 3001 + 2;
  }
  const std::vector<std::string> files = {File(text.substr(0, 3 << 20)),
                                          File(text.substr(3 << 20))};
  options_.eos = 3;
  std::vector<std::pair<uint64_t, uint64_t>> calls;
  options_.progress = [&](uint64_t done, uint64_t total) {
    calls.emplace_back(done, total);
  };
  ASSERT_TRUE(Tokenize(files, 1).ok());
  const std::string one = ReadTestFile(output_);
  EXPECT_GE(calls.size(), 2u);
  for (const auto& call : calls) EXPECT_EQ(call.second, text.size());
  EXPECT_LE(calls.back().first, text.size());
  EXPECT_GE(calls.back().first, text.size() * 95 / 100);
  for (const int threads : {2, 3}) {
    ASSERT_TRUE(Tokenize(files, threads).ok());
    EXPECT_TRUE(ReadTestFile(output_) == one) << threads;
  }
  // No text is lost.
  size_t bytes = 0, documents = 0;
  options_.eos.reset();
  for (const std::string& document : Documents(files)) {
    bytes += document.size();
    ++documents;
  }
  size_t expected_bytes = 0;
  for (const char c : text) expected_bytes += c != '\n';
  EXPECT_EQ(bytes, expected_bytes);
  EXPECT_GT(documents, 2000u);
}

TEST_F(TokenizeToShardTest, RefusesWhatIsNoText) {
  using Code = absl::StatusCode;
  EXPECT_THAT(Message({}, Code::kInvalidArgument), HasSubstr("no text files"));
  const std::string empty = File("");
  EXPECT_EQ(Message({File("a"), empty}, Code::kInvalidArgument),
            empty + ": the file is empty");
  const std::string blank = File("\n\n\r\n");
  EXPECT_EQ(Message({blank}, Code::kInvalidArgument),
            blank + ": there is no text in it");
  const std::string binary = File(absl::string_view("text\n\nab\0c", 10));
  EXPECT_EQ(Message({File("a"), binary}, Code::kInvalidArgument),
            binary + ": expected text, found a NUL byte at 8");
  EXPECT_THAT(Message({File("a"), folder_ + "/none"}, Code::kNotFound),
              HasSubstr("/none"));
  EXPECT_THAT(Message({folder_}, Code::kInvalidArgument),
              HasSubstr("found a directory"));
  options_.eos = tokenizer_->vocab_size();
  EXPECT_THAT(Message({File("a")}, Code::kInvalidArgument),
              HasSubstr("eos: expected an id below"));
  options_.eos.reset();
  options_.bos = -1;
  EXPECT_THAT(Message({File("a")}, Code::kInvalidArgument),
              HasSubstr("bos: expected an id below"));
}

TEST_F(TokenizeToShardTest, NeverReplacesItsOwnText) {
  WriteTestFile(output_, "text");
  for (const std::string& name : {output_, output_folder_ + "/./tokens"}) {
    const absl::Status status = Tokenize({File("a"), name});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("the output is the text file " + name));
  }
  EXPECT_EQ(ReadTestFile(output_), "text");
}

TEST_F(TokenizeToShardTest, EndsWhenAskedTo) {
  const std::string file = File(MakeEnglishText(4 << 20));
  int calls = 0;
  options_.documents = DocumentKind::kFiles;
  options_.check = [&] {
    return ++calls == 2 ? absl::CancelledError("enough") : absl::OkStatus();
  };
  EXPECT_EQ(Message({file, file}, absl::StatusCode::kCancelled), "enough");
}

TEST_F(TokenizeToShardTest, NoticesTextThatChanges) {
  const std::string file = File("one\n\ntwo");
  options_.check = [&] {
    WriteTestFile(file, "three and four");
    return absl::OkStatus();
  };
  EXPECT_THAT(Message({file}, absl::StatusCode::kUnavailable), HasSubstr(file));
}

TEST_F(TokenizeToShardTest, NamesGoBothWays) {
  for (const DocumentKind kind :
       {DocumentKind::kBlankLines, DocumentKind::kFiles}) {
    EXPECT_EQ(ParseDocumentKind(DocumentKindName(kind)).value(), kind);
  }
  EXPECT_THAT(std::string(ParseDocumentKind("lines").status().message()),
              HasSubstr("expected blank_lines or files"));
}

}  // namespace
}  // namespace qeff
