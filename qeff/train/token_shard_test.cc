// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/token_shard.h"

#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/train/token_shard_writer.h"
#include "qeff/util/checksum.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Documents = std::vector<std::vector<int32_t>>;

// Writes `documents` to a new file and returns its path.
std::string Write(const Documents& documents, int64_t vocab_size) {
  const std::string path = MakeTestFolder() + "/tokens";
  const auto writer = TokenShardWriter::Create(path, vocab_size).value();
  for (const auto& ids : documents) {
    const absl::Status status = writer->Append(ids);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(writer->documents(), static_cast<int64_t>(documents.size()));
  const absl::Status status = writer->Commit();
  EXPECT_TRUE(status.ok()) << status;
  return path;
}

// Documents of 1 to 40 tokens.
Documents Some(int count, int64_t vocab_size) {
  Random random(5);
  Documents documents(static_cast<size_t>(count));
  for (auto& ids : documents) {
    ids.resize(1 + random.NextBelow(40));
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(
          random.NextBelow(static_cast<uint64_t>(vocab_size)));
    }
  }
  return documents;
}

absl::Status Open(const std::string& path) {
  return TokenShard::Open(path).status();
}

// What Open says of a file with these bytes.
absl::Status OpenBytes(const std::string& path, const std::string& bytes) {
  WriteTestFile(path, bytes);
  return Open(path);
}

void ExpectSame(const TokenShard& shard, const Documents& documents) {
  ASSERT_EQ(shard.documents(), static_cast<int64_t>(documents.size()));
  std::vector<int32_t> all;
  for (size_t i = 0; i < documents.size(); ++i) {
    ASSERT_EQ(shard.starts()[i], all.size());
    ASSERT_EQ(shard.Document(static_cast<int64_t>(i)).value(), documents[i]);
    all.insert(all.end(), documents[i].begin(), documents[i].end());
  }
  ASSERT_EQ(shard.tokens(), static_cast<int64_t>(all.size()));
  std::vector<int32_t> read(all.size());
  ASSERT_TRUE(shard.Read(0, absl::MakeSpan(read)).ok());
  EXPECT_EQ(read, all);
}

TEST(TokenShardTest, GivesBackWhatWasWritten) {
  for (const int64_t vocab_size : {1, 300, 65536, 65537, 2147483647}) {
    for (const int count : {1, 2, 333}) {
      const Documents documents = Some(count, vocab_size);
      const auto shard = TokenShard::Open(Write(documents, vocab_size));
      ASSERT_TRUE(shard.ok()) << shard.status();
      EXPECT_EQ((*shard)->vocab_size(), vocab_size);
      ExpectSame(**shard, documents);
    }
  }
}

TEST(TokenShardTest, SeveralPieces) {
  // Ids and starts of more than 4 MiB, the ends of both inside a piece.
  for (const int64_t vocab_size : {300, 100000}) {
    const Documents documents = Some(600001, vocab_size);
    const auto shard = TokenShard::Open(Write(documents, vocab_size));
    ASSERT_TRUE(shard.ok()) << shard.status();
    ExpectSame(**shard, documents);
  }
}

TEST(TokenShardTest, MoreDocumentsThanTheWriterKeepsInMemory) {
  const Documents documents((3 << 20) + 7, {1});
  const std::string path = Write(documents, 2);
  const auto shard = TokenShard::Open(path);
  ASSERT_TRUE(shard.ok()) << shard.status();
  ExpectSame(**shard, documents);
  EXPECT_THAT(ListTestFolder(path.substr(0, path.rfind('/'))),
              ElementsAre("tokens"));
}

// The bytes of the format, written down by hand but for its checksums.
TEST(TokenShardTest, GoldenBytes) {
  std::string content("\x05\0\x03\0\x04\0", 6);
  content.resize(64);
  content.append("\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0", 16);
  uint64_t both[2] = {0, 0};
  const auto checksum = [](const void* bytes, size_t size) {
    return Checksum64(absl::MakeSpan(static_cast<const uint8_t*>(bytes), size));
  };
  both[1] = checksum(content.data(), content.size());
  const uint64_t of_content = checksum(both, sizeof(both));
  std::string header("QEFFTOKS\x01\0\0\0\x02\0\0\0\x2C\x01\0\0\0\0\0\0", 24);
  header.append("\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0", 16);
  header.append(reinterpret_cast<const char*>(&of_content), 8);
  header.append(8, '\0');
  const uint64_t of_header = checksum(header.data(), header.size());
  header.append(reinterpret_cast<const char*>(&of_header), 8);
  EXPECT_EQ(ReadTestFile(Write({{5, 3}, {4}}, 300)), header + content);
}

TEST(TokenShardTest, CutAnywhereOrLonger) {
  for (const int64_t vocab_size : {300, 100000}) {
    const std::string path = Write(Some(5, vocab_size), vocab_size);
    const std::string bytes = ReadTestFile(path);
    for (size_t size = 0; size < bytes.size(); ++size) {
      const absl::Status status = OpenBytes(path, bytes.substr(0, size));
      ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
      ASSERT_THAT(std::string(status.message()),
                  ContainsRegex("expected .* found [0-9]+"));
    }
    EXPECT_THAT(std::string(OpenBytes(path, bytes + '\0').message()),
                HasSubstr(" tokens in 5 documents, found "));
  }
}

// Overwrites bytes of a file where it is.
void Overwrite(const std::string& path, long offset, absl::string_view bytes) {
  std::FILE* file = std::fopen(path.c_str(), "r+b");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(std::fseek(file, offset, SEEK_SET), 0);
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  ASSERT_EQ(std::fclose(file), 0);
}

TEST(TokenShardTest, EveryFlippedBitIsFound) {
  for (const int64_t vocab_size : {300, 100000}) {
    const std::string path = Write(Some(3, vocab_size), vocab_size);
    const std::string bytes = ReadTestFile(path);
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      const long offset = static_cast<long>(bit / 8);
      const char byte = bytes[bit / 8];
      const char flipped = static_cast<char>(byte ^ (1 << bit % 8));
      Overwrite(path, offset, absl::string_view(&flipped, 1));
      const absl::Status status = Open(path);
      ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bit;
      ASSERT_THAT(std::string(status.message()), HasSubstr("expected")) << bit;
      Overwrite(path, offset, absl::string_view(&byte, 1));
    }
    EXPECT_TRUE(Open(path).ok());
  }
}

// Files whose checksums are right, as somebody might make them.

constexpr size_t kVersionAt = 8, kBytesPerIdAt = 12, kVocabAt = 16;
constexpr size_t kTokensAt = 24, kDocumentsAt = 32, kReservedAt = 48;

void Set(std::string* bytes, size_t offset, uint64_t value, size_t size = 8) {
  std::memcpy(&(*bytes)[offset], &value, size);
}

// What Open says of a file that `change` has changed, of documents {5, 3} {4}
// out of 300 tokens, with new checksums.
std::string Forged(const std::function<void(std::string*)>& change) {
  const std::string path = Write({{5, 3}, {4}}, 300);
  std::string bytes = ReadTestFile(path);
  change(&bytes);
  const auto checksum = [](absl::string_view part) {
    return Checksum64(absl::MakeSpan(
        reinterpret_cast<const uint8_t*>(part.data()), part.size()));
  };
  const uint64_t both[2] = {0, checksum(absl::string_view(bytes).substr(64))};
  Set(&bytes, 40,
      checksum({reinterpret_cast<const char*>(both), sizeof(both)}));
  Set(&bytes, 56, checksum(absl::string_view(bytes).substr(0, 56)));
  const absl::Status status = OpenBytes(path, bytes);
  if (status.ok()) return "OK";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path + ": token file"));
  return std::string(status.message());
}

std::string ForgedField(size_t offset, uint64_t value, size_t size = 8) {
  return Forged([=](std::string* bytes) { Set(bytes, offset, value, size); });
}

TEST(TokenShardTest, ForgedHeaders) {
  EXPECT_EQ(Forged([](std::string*) {}), "OK");
  EXPECT_THAT(Forged([](std::string* bytes) { (*bytes)[0] = '\n'; }),
              HasSubstr("first bytes: expected \"QEFFTOKS\", found "
                        "\"\\nEFFTOKS\""));
  EXPECT_THAT(ForgedField(kVersionAt, 2, 4),
              HasSubstr("version: expected 1, found 2"));
  EXPECT_THAT(ForgedField(kBytesPerIdAt, 4, 4),
              HasSubstr("bytes of an id: expected 2 with 300 in the "
                        "vocabulary, found 4"));
  EXPECT_THAT(ForgedField(kReservedAt, 1),
              HasSubstr("reserved bytes: expected 0, found 1"));
  for (const uint64_t vocab : {uint64_t{0}, uint64_t{1} << 31, ~uint64_t{0}}) {
    EXPECT_THAT(Forged([=](std::string* bytes) {
                  Set(bytes, kVocabAt, vocab);
                  if (vocab > 0) Set(bytes, kBytesPerIdAt, 4, 4);
                }),
                HasSubstr("vocabulary: expected 1 to 2147483647, found "));
  }
  for (const uint64_t tokens :
       {uint64_t{0}, uint64_t{145}, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_THAT(ForgedField(kTokensAt, tokens),
                HasSubstr("tokens: expected 1 to 144, the file's bytes"));
  }
  for (const uint64_t documents :
       {uint64_t{0}, uint64_t{4}, uint64_t{1} << 61, ~uint64_t{0}}) {
    EXPECT_THAT(ForgedField(kDocumentsAt, documents),
                HasSubstr("documents: expected 1 to 3, the tokens"));
  }
  EXPECT_THAT(ForgedField(kDocumentsAt, 3),
              HasSubstr("expected 152 with 3 tokens in 3 documents, found "
                        "144"));
  EXPECT_THAT(ForgedField(kTokensAt, 33), HasSubstr("expected 208 with 33"));
}

TEST(TokenShardTest, ForgedContent) {
  EXPECT_EQ(ForgedField(66, 299, 2), "OK");
  EXPECT_THAT(ForgedField(66, 300, 2),
              HasSubstr("id number 1: expected one below 300, found 300"));
  EXPECT_THAT(ForgedField(68, 65535, 2), HasSubstr("id number 2"));
  EXPECT_EQ(ForgedField(136, 1), "OK");
  EXPECT_THAT(ForgedField(128, 1),
              HasSubstr("beginning of document 0: expected 0 to 0, found 1"));
  EXPECT_THAT(ForgedField(136, 0),
              HasSubstr("beginning of document 1: expected 1 to 2, found 0"));
  EXPECT_THAT(ForgedField(136, 3), HasSubstr("document 1"));
  EXPECT_THAT(ForgedField(136, ~uint64_t{0}), HasSubstr("document 1"));
}

TEST(TokenShardTest, AFileThatChangesIsNoticed) {
  const std::string path = Write({{5, 3}, {4}}, 300);
  const auto shard = TokenShard::Open(path).value();
  EXPECT_TRUE(shard->VerifyUnchanged().ok());
  // In place: the mapping sees it.
  Overwrite(path, 66, "\xFF\xFF");
  Overwrite(path, 136, "\x09");
  std::vector<int32_t> ids(3);
  const absl::Status status = shard->Read(0, absl::MakeSpan(ids));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(path + ": the file changed while it was read"));
  EXPECT_FALSE(shard->Document(0).ok());
  EXPECT_FALSE(shard->Document(1).ok());
  EXPECT_FALSE(shard->VerifyUnchanged().ok());
}

TEST(TokenShardTest, ChecksumTellsContentsApart) {
  const auto checksum = [](const Documents& documents) {
    return TokenShard::Open(Write(documents, 9)).value()->checksum();
  };
  EXPECT_EQ(checksum({{1, 2}, {3}}), checksum({{1, 2}, {3}}));
  EXPECT_NE(checksum({{1, 2}, {3}}), checksum({{1}, {2, 3}}));
  EXPECT_NE(checksum({{1, 2}, {3}}), checksum({{1, 2}, {4}}));
}

TEST(TokenShardTest, MissingFile) {
  EXPECT_EQ(Open(MakeTestFolder() + "/none").code(),
            absl::StatusCode::kNotFound);
}

TEST(TokenShardWriterTest, RefusesWhatIsNoDocument) {
  const std::string folder = MakeTestFolder();
  const std::string path = folder + "/tokens";
  const auto message = [&](absl::Span<const int32_t> ids) {
    const auto writer = TokenShardWriter::Create(path, 300).value();
    EXPECT_TRUE(writer->Append({7}).ok());
    const absl::Status status = writer->Append(ids);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(message({}), HasSubstr("document 1 has no tokens"));
  EXPECT_THAT(message({1, 300}), HasSubstr("document 1, token 1: expected an "
                                           "id below 300, found 300"));
  EXPECT_THAT(message({-1}), HasSubstr("found -1"));
  EXPECT_THAT(
      std::string(
          TokenShardWriter::Create(path, 300).value()->Commit().message()),
      HasSubstr("no documents"));
  EXPECT_FALSE(TokenShardWriter::Create(path, 0).ok());
  EXPECT_FALSE(TokenShardWriter::Create(path, int64_t{1} << 31).ok());
  EXPECT_FALSE(TokenShardWriter::Create(folder + "/none/tokens", 3).ok());
  EXPECT_THAT(ListTestFolder(folder), ElementsAre());
}

// In a process of its own: a limit cannot be raised again.
void FillUp(const std::string& folder) {
  const auto writer = TokenShardWriter::Create(folder + "/tokens", 300);
  if (!writer.ok()) std::exit(1);
  const rlimit limit = {6 << 20, 6 << 20};
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) std::exit(2);
  const std::vector<int32_t> ids(1 << 20, 7);
  absl::Status status;
  for (int i = 0; i < 9 && status.ok(); ++i) status = (*writer)->Append(ids);
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  std::exit(status.code() == absl::StatusCode::kUnavailable ? 0 : 3);
}

TEST(TokenShardWriterDeathTest, AFullDiskIsAnErrorAndLeavesTheOldFile) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/tokens", "old");
  EXPECT_EXIT(FillUp(folder), testing::ExitedWithCode(0),
              "tokens: needs .* but the limit on file sizes");
  EXPECT_EQ(ReadTestFile(folder + "/tokens"), "old");
}

}  // namespace
}  // namespace qeff
