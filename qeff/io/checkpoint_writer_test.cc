// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/checkpoint_writer.h"

#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/partial_folder.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Json kConfig = {{"model_type", "llama"}, {"hidden_size", 4}};

// Every dtype, a scalar and an empty tensor, in an order that would misalign
// the wider ones if it were kept.
std::vector<TensorInfo> MixedTensors() {
  return {{"byte", DType::kU8, Shape({3})},
          {"double", DType::kF64, Shape({2})},
          {"flag", DType::kBool, Shape({1})},
          {"half", DType::kF16, Shape({2, 3})},
          {"brain", DType::kBF16, Shape({5})},
          {"scalar", DType::kF32, Shape()},
          {"empty", DType::kF32, Shape({0, 7})},
          {"float", DType::kF32, Shape({2, 2})},
          {"int8", DType::kI8, Shape({7})},
          {"int16", DType::kI16, Shape({3})},
          {"int32", DType::kI32, Shape({3})},
          {"int64", DType::kI64, Shape({1})},
          {"e4m3", DType::kF8E4M3, Shape({3})},
          {"e5m2 \"quoted\" \n \xC3\xA9", DType::kF8E5M2, Shape({1, 1, 1})}};
}

// Bytes that differ from tensor to tensor.
std::vector<uint8_t> Content(const TensorInfo& tensor) {
  std::vector<uint8_t> bytes(tensor.size_bytes());
  std::iota(bytes.begin(), bytes.end(),
            static_cast<uint8_t>(tensor.name.size() * 37 + tensor.name[0]));
  return bytes;
}

absl::Status WriteAll(CheckpointWriter* writer,
                      const std::vector<TensorInfo>& tensors) {
  for (const TensorInfo& tensor : tensors) {
    const absl::Status status = writer->Write(tensor.name, 0, Content(tensor));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void ExpectReadsBack(const std::string& folder,
                     const std::vector<TensorInfo>& tensors) {
  const auto checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config(), kConfig);
  EXPECT_EQ((*checkpoint)->tensors().size(), tensors.size());
  EXPECT_THAT((*checkpoint)->warnings(), IsEmpty());
  for (const TensorInfo& tensor : tensors) {
    const auto view = (*checkpoint)->Get(tensor.name, tensor.shape);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->dtype, tensor.dtype);
    EXPECT_EQ(view->bytes, absl::MakeConstSpan(Content(tensor)));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view->bytes.data()) %
                  DTypeBytes(tensor.dtype),
              0u)
        << tensor.name;
  }
}

TEST(CheckpointWriterTest, ReadsBackWhatWasWritten) {
  const std::string parent = MakeTestFolder();
  const std::vector<TensorInfo> tensors = MixedTensors();
  auto writer = CheckpointWriter::Create(parent + "/out", tensors);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(WriteAll(writer->get(), tensors).ok());
  const absl::Status status =
      (*writer)->Commit(kConfig, {{"tokenizer.json", "{}"}});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(ListTestFolder(parent), ElementsAre("out"));
  EXPECT_THAT(
      ListTestFolder(parent + "/out"),
      ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  ExpectReadsBack(parent + "/out", tensors);
  const std::string bytes = ReadTestFile(parent + "/out/model.safetensors");
  EXPECT_THAT(bytes.substr(8),
              testing::StartsWith(R"({"__metadata__":{"format":"pt"},)"));
  EXPECT_EQ(static_cast<uint8_t>(bytes[0]) % 8, 0);
}

TEST(CheckpointWriterTest, SplitsShardsBySizeInTheGivenOrder) {
  const std::string parent = MakeTestFolder();
  const std::vector<TensorInfo> tensors = {{"d", DType::kF32, Shape({4})},
                                           {"b", DType::kF32, Shape({2})},
                                           {"c", DType::kF32, Shape({20})},
                                           {"a", DType::kU8, Shape({1})}};
  CheckpointWriterOptions options;
  options.max_shard_bytes = 24;
  auto writer = CheckpointWriter::Create(parent + "/out/", tensors, options);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(WriteAll(writer->get(), tensors).ok());
  ASSERT_TRUE((*writer)->Commit(kConfig, {}).ok());
  EXPECT_THAT(ListTestFolder(parent + "/out"),
              ElementsAre("config.json", "model-00001-of-00003.safetensors",
                          "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors",
                          "model.safetensors.index.json"));
  ExpectReadsBack(parent + "/out", tensors);
  const Json index =
      Json::parse(ReadTestFile(parent + "/out/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 105);
  EXPECT_EQ(index["weight_map"]["d"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["b"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["c"], "model-00002-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["a"], "model-00003-of-00003.safetensors");
}

TEST(CheckpointWriterTest, WritesAModelWithoutTensors) {
  const std::string parent = MakeTestFolder();
  auto writer = CheckpointWriter::Create(parent + "/out", {});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Commit(kConfig, {}).ok());
  ExpectReadsBack(parent + "/out", {});
}

TEST(CheckpointWriterTest, TakesPartsInAnyOrderFromSeveralThreads) {
  const std::string parent = MakeTestFolder();
  const std::vector<TensorInfo> tensors = {{"a", DType::kI8, Shape({1000})},
                                           {"b", DType::kF32, Shape({1000})}};
  auto writer = CheckpointWriter::Create(parent + "/out", tensors);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (const TensorInfo& tensor : tensors) {
        const std::vector<uint8_t> bytes = Content(tensor);
        const size_t quarter = bytes.size() / 4;
        for (size_t i = 0; i < quarter; i += 50) {
          const size_t begin = (3 - t) * quarter + i;
          EXPECT_TRUE((*writer)
                          ->Write(tensor.name, begin,
                                  absl::MakeConstSpan(bytes).subspan(begin, 50))
                          .ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const absl::Status status = (*writer)->Commit(kConfig, {});
  ASSERT_TRUE(status.ok()) << status;
  ExpectReadsBack(parent + "/out", tensors);
}

TEST(CheckpointWriterTest, SameBytesEveryTime) {
  const std::string parent = MakeTestFolder();
  const std::vector<TensorInfo> tensors = MixedTensors();
  for (const char* name : {"/a", "/b"}) {
    auto writer = CheckpointWriter::Create(parent + name, tensors);
    ASSERT_TRUE(WriteAll(writer->get(), tensors).ok());
    ASSERT_TRUE((*writer)->Commit(kConfig, {}).ok());
  }
  EXPECT_EQ(ReadTestFile(parent + "/a/model.safetensors"),
            ReadTestFile(parent + "/b/model.safetensors"));
}

TEST(CheckpointWriterTest, CallsBeforeSyncWhenAllIsWritten) {
  const std::string parent = MakeTestFolder();
  int calls = 0;
  CheckpointWriterOptions options;
  options.before_sync = [&] {
    ++calls;
    const std::vector<std::string> names = ListTestFolder(parent);
    ASSERT_EQ(names.size(), 1u);
    EXPECT_TRUE(absl::StartsWith(names[0], ".out.tmp.")) << names[0];
    EXPECT_THAT(ListTestFolder(parent + "/" + names[0]),
                ElementsAre("config.json", "model.safetensors"));
  };
  auto writer = CheckpointWriter::Create(parent + "/out", {}, options);
  ASSERT_TRUE((*writer)->Commit(kConfig, {}).ok());
  EXPECT_EQ(calls, 1);
}

TEST(CheckpointWriterTest, RejectsBadNamesAndSizes) {
  const std::string parent = MakeTestFolder();
  const struct {
    std::vector<TensorInfo> tensors;
    const char* part;
  } cases[] = {
      {{{"", DType::kU8, Shape()}}, "tensor name: found none"},
      {{{"__metadata__", DType::kU8, Shape()}}, "__metadata__ is reserved"},
      {{{"a\xFF", DType::kU8, Shape()}}, "'a\\xff': name is not valid UTF-8"},
      {{{std::string(4097, 'n'), DType::kU8, Shape()}}, "at most 4096"},
      {{{"a", DType::kU8, Shape()}, {"a", DType::kF32, Shape()}},
       "duplicate tensor 'a'"},
      {{{"a", DType::kU8, Shape({-1})}}, "size overflows"},
      {{{"a", DType::kF64, Shape({int64_t{1} << 61})}}, "size overflows"},
      {{{"a", DType::kU8, Shape({INT64_MAX})},
        {"b", DType::kU8, Shape({INT64_MAX})}},
       "size overflows"},
  };
  for (const auto& c : cases) {
    const absl::Status status =
        CheckpointWriter::Create(parent + "/out", c.tensors).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.part));
    EXPECT_THAT(ListTestFolder(parent), IsEmpty());
  }
}

TEST(CheckpointWriterTest, RejectsBadWrites) {
  const std::string parent = MakeTestFolder();
  auto writer = CheckpointWriter::Create(parent + "/out",
                                         {{"a", DType::kU8, Shape({4})}});
  const std::vector<uint8_t> bytes(5);
  const auto error = [&](absl::string_view name, uint64_t offset, size_t n) {
    return (*writer)->Write(name, offset,
                            absl::MakeConstSpan(bytes).subspan(0, n));
  };
  EXPECT_EQ(error("b", 0, 4).message(),
            "tensor 'b' was not declared to the writer");
  EXPECT_EQ(error("a", 0, 5).message(),
            "tensor 'a': expected at most 4 bytes, found 5 at 0");
  EXPECT_FALSE(error("a", 4, 1).ok());
  EXPECT_FALSE(error("a", ~uint64_t{0}, 4).ok());
  EXPECT_EQ(error("a", 1, 4).code(), absl::StatusCode::kInvalidArgument);
  // Nothing of that counts: the tensor can still be written.
  EXPECT_TRUE(error("a", 0, 4).ok());
  EXPECT_TRUE((*writer)->Commit(kConfig, {}).ok());
}

TEST(CheckpointWriterTest, RefusesIncompleteTensors) {
  const std::string parent = MakeTestFolder();
  const std::vector<TensorInfo> tensors = {{"a", DType::kU8, Shape({4})}};
  const std::vector<uint8_t> bytes(4);
  for (const size_t written : {size_t{0}, size_t{3}}) {
    auto writer = CheckpointWriter::Create(parent + "/out", tensors);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(
        (*writer)
            ->Write("a", 0, absl::MakeConstSpan(bytes).subspan(0, written))
            .ok());
    const absl::Status status = (*writer)->Commit(kConfig, {});
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_EQ(status.message(), absl::StrCat("tensor 'a': expected 4 bytes, ",
                                             written, " were written"));
    EXPECT_THAT(ListTestFolder(parent), IsEmpty());
  }
  auto writer = CheckpointWriter::Create(parent + "/out", tensors);
  ASSERT_TRUE((*writer)->Write("a", 0, bytes).ok());
  ASSERT_TRUE((*writer)->Write("a", 0, bytes).ok());
  EXPECT_EQ((*writer)->Commit(kConfig, {}).code(), absl::StatusCode::kInternal);
}

TEST(CheckpointWriterTest, RejectsBadExtraFiles) {
  const std::string parent = MakeTestFolder();
  for (const char* name :
       {"../x", "a/b", "", "..", "config.json", "model.safetensors", "a\nb"}) {
    auto writer = CheckpointWriter::Create(parent + "/out", {});
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_FALSE((*writer)->Commit(kConfig, {{name, "x"}}).ok()) << name;
    EXPECT_THAT(ListTestFolder(parent), IsEmpty());
  }
}

TEST(CheckpointWriterTest, RemovesWhatIsNotCommitted) {
  const std::string parent = MakeTestFolder();
  {
    auto writer = CheckpointWriter::Create(parent + "/out", MixedTensors());
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ(ListTestFolder(parent).size(), 1u);
  }
  EXPECT_THAT(ListTestFolder(parent), IsEmpty());
}

TEST(CheckpointWriterTest, RefusesAModelThatDoesNotFitTheDisk) {
  const std::string parent = MakeTestFolder();
  const absl::Status status =
      CheckpointWriter::Create(parent + "/out",
                               {{"a", DType::kU8, Shape({int64_t{1} << 60})}})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("not enough space: needs 11529215046068"));
  EXPECT_THAT(ListTestFolder(parent), IsEmpty());
}

// In a process of its own: limits cannot be raised again.
void FailMidway(const std::string& parent) {
  auto writer = CheckpointWriter::Create(parent + "/out",
                                         {{"a", DType::kU8, Shape({100000})}});
  if (!writer.ok()) std::exit(1);
  const rlimit limit = {1000, 1000};
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) std::exit(2);
  const absl::Status status =
      (*writer)->Write("a", 0, std::vector<uint8_t>(100000));
  if (status.code() != absl::StatusCode::kUnavailable) std::exit(3);
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  const absl::Status commit = (*writer)->Commit(kConfig, {});
  if (commit.code() != absl::StatusCode::kUnavailable) std::exit(4);
  if (!ListTestFolder(parent).empty()) std::exit(5);
  const absl::Status create =
      CheckpointWriter::Create(parent + "/out",
                               {{"a", DType::kU8, Shape({100000})}})
          .status();
  if (create.code() != absl::StatusCode::kUnavailable) std::exit(6);
  std::exit(ListTestFolder(parent).empty() ? 0 : 7);
}

TEST(CheckpointWriterDeathTest, FileSizeLimitIsAnErrorAndLeavesNothing) {
  EXPECT_EXIT(FailMidway(MakeTestFolder()), testing::ExitedWithCode(0),
              "model.safetensors: needs .* but the limit on file sizes");
}

TEST(CheckpointWriterTest, ReadsOtherFilesOfACheckpoint) {
  const std::string folder = MakeTestFolder();
  WriteTestCheckpoint(folder, "{}", {{"w", Shape({1}), {1}}});
  WriteTestFile(folder + "/tokenizer.json", "{\"t\":1}");
  const auto files = ReadOtherFiles(**Checkpoint::Open(folder));
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_EQ(files->size(), 1u);
  EXPECT_EQ((*files)[0].name, "tokenizer.json");
  EXPECT_EQ((*files)[0].content, "{\"t\":1}");
}

TEST(CheckpointWriterTest, GoesOnWithWhatAnEarlierRunHasWritten) {
  const std::string path = MakeTestFolder() + "/out";
  const std::vector<TensorInfo> tensors = {{"a", DType::kU8, Shape({3})},
                                           {"b", DType::kU8, Shape({2})}};
  const std::vector<uint8_t> a = {1, 2, 3}, b = {4, 5};
  {
    auto writer = CheckpointWriter::CreateIn(
        *PartialFolder::Open(path, PartialWork::kRefuse), tensors);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Write("a", 0, a).ok());
    ASSERT_TRUE((*writer)->Sync().ok());
  }
  auto writer = CheckpointWriter::CreateIn(
      *PartialFolder::Open(path, PartialWork::kResume), tensors);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<uint8_t> read(2);
  ASSERT_TRUE((*writer)->Read("a", 1, absl::MakeSpan(read)).ok());
  EXPECT_EQ(read, std::vector<uint8_t>({2, 3}));
  EXPECT_FALSE((*writer)->Read("a", 2, absl::MakeSpan(read)).ok());
  EXPECT_FALSE((*writer)->MarkWritten("c").ok());
  ASSERT_TRUE((*writer)->MarkWritten("a").ok());
  ASSERT_TRUE((*writer)->Write("b", 0, b).ok());
  ASSERT_TRUE((*writer)->Commit(kConfig, {}).ok());
  const auto checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->Get("a")->bytes, absl::MakeConstSpan(a));
  EXPECT_EQ((*checkpoint)->Get("b")->bytes, absl::MakeConstSpan(b));
}

}  // namespace
}  // namespace qeff
