// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint_index.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/mutate_testutil.h"

namespace qeff {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kNotFound = absl::StatusCode::kNotFound;

// A folder with two shards: x, y in the first, z in the second.
class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = MakeTestFolder();
    Write("config.json", R"({"model_type":"llama"})");
    Write("s1.safetensors", SafetensorsBytes({{"y", Shape({2}), {1, 2}},
                                              {"x", Shape({1}), {3}}}));
    Write("s2.safetensors", SafetensorsBytes({{"z", Shape({1, 1}), {4}}}));
    WriteIndex(R"("x":"s1.safetensors","y":"s1.safetensors",
                  "z":"s2.safetensors")");
  }

  void Write(const std::string& name, absl::string_view content) {
    WriteTestFile(folder_ + "/" + name, content);
  }
  void WriteIndex(absl::string_view weight_map,
                  absl::string_view metadata = R"({"total_size":16})") {
    Write("model.safetensors.index.json",
          absl::Substitute(R"({"metadata":$0,"weight_map":{$1}})", metadata,
                           weight_map));
  }
  void Remove(const std::string& name) {
    ASSERT_EQ(unlink((folder_ + "/" + name).c_str()), 0);
  }
  void Link(const std::string& target, const std::string& name) {
    ASSERT_EQ(symlink(target.c_str(), (folder_ + "/" + name).c_str()), 0);
  }
  absl::StatusOr<std::shared_ptr<const Checkpoint>> Open() {
    return Checkpoint::Open(folder_);
  }
  void ExpectError(absl::StatusCode code, absl::string_view part) {
    const absl::Status status = Open().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(folder_), HasSubstr(std::string(part))));
  }

  std::string folder_;
};

TEST_F(CheckpointTest, OpensShards) {
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config()["model_type"], "llama");
  ASSERT_EQ((*checkpoint)->tensors().size(), 3u);
  EXPECT_EQ((*checkpoint)->tensors()[0].name, "x");
  EXPECT_EQ((*checkpoint)->tensors()[2].name, "z");
  EXPECT_EQ((*checkpoint)->weight_bytes(), 16u);
  EXPECT_TRUE((*checkpoint)->Has("y"));
  EXPECT_FALSE((*checkpoint)->Has("w"));
  float value;
  ReadFloats(*(*checkpoint)->Get("z"), 0, absl::MakeSpan(&value, 1));
  EXPECT_EQ(value, 4.0f);
  (*checkpoint)->Release(*(*checkpoint)->Get("z"));
  ReadFloats(*(*checkpoint)->Get("z"), 0, absl::MakeSpan(&value, 1));
  EXPECT_EQ(value, 4.0f);
  EXPECT_THAT((*checkpoint)->warnings(), IsEmpty());
  EXPECT_THAT((*checkpoint)->other_files(), IsEmpty());
}

TEST_F(CheckpointTest, SaysWhichTensorOrShapeIsWrong) {
  const auto checkpoint = *Open();
  const absl::Status missing = checkpoint->Get("w").status();
  EXPECT_EQ(missing.code(), kNotFound);
  EXPECT_EQ(missing.message(), folder_ + ": tensor 'w' is missing");
  const absl::Status shape = checkpoint->Get("y", Shape({3})).status();
  EXPECT_EQ(shape.code(), kInvalid);
  EXPECT_EQ(shape.message(), folder_ +
                                 "/s1.safetensors: tensor 'y': "
                                 "expected shape [3], found [2]");
  EXPECT_TRUE(checkpoint->Get("y", Shape({2})).ok());
}

TEST_F(CheckpointTest, PrefersTheSingleFile) {
  Write("model.safetensors", SafetensorsBytes({{"w", Shape({1}), {5}}}));
  ASSERT_TRUE(Open().ok());
  EXPECT_TRUE((*Open())->Has("w"));
  EXPECT_FALSE((*Open())->Has("x"));
}

TEST_F(CheckpointTest, RejectsBadFolders) {
  EXPECT_EQ(Checkpoint::Open(folder_ + "/absent").status().code(), kNotFound);
  EXPECT_EQ(Checkpoint::Open("").status().code(), kNotFound);
  const auto file = Checkpoint::Open(folder_ + "/config.json");
  EXPECT_EQ(file.status().code(), kInvalid);
  EXPECT_THAT(std::string(file.status().message()),
              HasSubstr("expected a model folder, found a file"));
  Write("m.gguf", "GGUF");
  EXPECT_THAT(
      std::string(Checkpoint::Open(folder_ + "/m.gguf").status().message()),
      HasSubstr("found a GGUF file; convert it to safetensors"));
}

TEST_F(CheckpointTest, RejectsBadConfigs) {
  Remove("config.json");
  ExpectError(kNotFound, "config.json: open failed");
  for (const char* text : {"[]", "3", "null", "\"x\""}) {
    Write("config.json", text);
    ExpectError(kInvalid, "config.json: expected a JSON object, found");
  }
  for (const char* text : {"", "{\"a\":1,}", "\xEF\xBB\xBF{", "{\"a\":NaN}",
                           "{/**/}", "{\"a\":1,\"a\":2}"}) {
    Write("config.json", text);
    ExpectError(kInvalid, "config.json: ");
  }
  Write("config.json", std::string((16 << 20) + 1, ' '));
  ExpectError(kInvalid, "expected at most 16777216");
  Remove("config.json");
  ASSERT_EQ(mkdir((folder_ + "/config.json").c_str(), 0700), 0);
  ExpectError(kInvalid, "expected a regular file");
}

TEST_F(CheckpointTest, NamesWeightsOfOtherFormats) {
  Remove("model.safetensors.index.json");
  ExpectError(kNotFound, "found neither but 's1.safetensors', 's2.safet");
  Remove("s1.safetensors");
  Remove("s2.safetensors");
  ExpectError(kNotFound,
              "expected model.safetensors or model.safetensors.index.json, "
              "found neither");
  Write("pytorch_model.bin", "PK");
  Write("model-q4.gguf", "GGUF");
  ExpectError(kNotFound,
              "'model-q4.gguf' (a GGUF file), 'pytorch_model.bin' (a PyTorch "
              "pickle); convert the model to safetensors");
}

TEST_F(CheckpointTest, NamesWhatAWeightFileIsInstead) {
  Write("model.safetensors", "<!DOCTYPE html><html>Not Found</html>");
  ExpectError(kInvalid, "model.safetensors: header length");
  ExpectError(kInvalid, "looks like an HTML page");
}

TEST_F(CheckpointTest, RejectsShardNamesThatAreNoPlainFileNames) {
  for (const char* name : {"../x", "/etc/passwd", "a/b", "a\\\\b", "", ".",
                           "..", "a\\u0000b", "a\\nb"}) {
    WriteIndex(absl::Substitute(R"("x":"$0")", name));
    ExpectError(kInvalid, "weight_map: 'x': expected a plain file name, found");
  }
}

TEST_F(CheckpointTest, RejectsBadIndices) {
  const struct {
    const char* text;
    const char* part;
  } cases[] = {
      {"", "not valid JSON"},
      {"[]", "expected a JSON object, found an array"},
      {"3", "weight_map: expected an object, found nothing"},
      {"{}", "weight_map: expected an object, found nothing"},
      {R"({"weight_map":[]})", "weight_map: expected an object, found an arr"},
      {R"({"weight_map":null})", "weight_map: expected an object, found null"},
      {R"({"weight_map":{"x":1}})", "'x': expected a file name, found a numb"},
      {R"({"weight_map":{"x":{}}})", "'x': expected a file name, found an ob"},
      {R"({"weight_map":{"x":["a"]}})", "'x': expected a file name"},
      {R"({"weight_map":{"x":"a","x":"a"}})", "duplicate key 'x'"},
      {R"({"weight_map":{},"weight_map":{}})", "duplicate key 'weight_map'"},
      {R"({"weight_map":{}} x)", "not valid JSON"},
  };
  for (const auto& c : cases) {
    Write("model.safetensors.index.json", c.text);
    ExpectError(kInvalid, c.part);
    ExpectError(kInvalid, "model.safetensors.index.json: ");
  }
  Write("model.safetensors.index.json",
        "{\"metadata\":" + std::string(1000000, '['));
  ExpectError(kInvalid, "nested deeper than 64");
  Write("model.safetensors.index.json", absl::string_view("{\"a\":1}\0", 8));
  ExpectError(kInvalid, "byte 7: found NUL");
}

TEST_F(CheckpointTest, RejectsDisagreementOfIndexAndShards) {
  WriteIndex(R"("x":"s1.safetensors","y":"s1.safetensors",
                "z":"s3.safetensors")");
  ExpectError(kNotFound, "s3.safetensors: open failed");
  WriteIndex(R"("x":"s2.safetensors","y":"s1.safetensors",
                "z":"s2.safetensors")");
  ExpectError(kInvalid, "1 tensors are not in the file that is named: 'x'");
  WriteIndex(R"("x":"s1.safetensors","z":"s2.safetensors")");
  ExpectError(kInvalid, "1 tensors of the shards are not listed: 'y'");
  std::string map = R"("x":"s1.safetensors","y":"s1.safetensors",
                       "z":"s2.safetensors")";
  for (int i = 10; i < 30; ++i) {
    absl::StrAppend(&map, ",\"m", i, "\":\"s1.safetensors\"");
  }
  WriteIndex(map);
  ExpectError(kInvalid, "20 tensors are not in the file");
  ExpectError(kInvalid, "'m10', 'm11'");
  ExpectError(kInvalid, "'m19' and 10 more");
}

TEST_F(CheckpointTest, RejectsATensorInTwoShards) {
  Write("s2.safetensors",
        SafetensorsBytes({{"z", Shape({1, 1}), {4}}, {"x", Shape({1}), {4}}}));
  ExpectError(kInvalid, "s2.safetensors: tensor 'x' is also in");
}

TEST_F(CheckpointTest, WarnsOfAWrongTotalSize) {
  WriteIndex(R"("x":"s1.safetensors","y":"s1.safetensors",
                "z":"s2.safetensors")",
             R"({"total_size":17,"other":{"total_size":[1.5,null]}})");
  ASSERT_TRUE(Open().ok()) << Open().status();
  EXPECT_THAT((*Open())->warnings(),
              ElementsAre(HasSubstr("total_size: expected 16, the sum of the "
                                    "tensors, found 17")));
  WriteIndex(R"("x":"s1.safetensors","y":"s1.safetensors",
                "z":"s2.safetensors")",
             "null");
  ASSERT_TRUE(Open().ok()) << Open().status();
  EXPECT_THAT((*Open())->warnings(), IsEmpty());
}

TEST_F(CheckpointTest, FollowsLinksToRegularFilesOnly) {
  const std::string cache = MakeTestFolder();
  WriteTestFile(cache + "/blob", SafetensorsBytes({{"z", Shape({1}), {4}}}));
  Remove("s2.safetensors");
  Link(cache + "/blob", "s2.safetensors");
  EXPECT_TRUE(Open().ok()) << Open().status();
  Remove("s2.safetensors");
  Link(cache, "s2.safetensors");
  ExpectError(kInvalid, "expected a regular file, found a directory");
  Remove("s2.safetensors");
  Link(cache + "/absent", "s2.safetensors");
  ExpectError(kNotFound, "s2.safetensors");
  Remove("s2.safetensors");
  Link("/dev/zero", "s2.safetensors");
  ExpectError(kInvalid, "found a special file");
  Remove("s2.safetensors");
  ASSERT_EQ(mkfifo((folder_ + "/s2.safetensors").c_str(), 0600), 0);
  ExpectError(kInvalid, "found a special file");
}

TEST_F(CheckpointTest, ListsOtherFiles) {
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "generation_config.json",
        ".gitattributes", "pytorch_model.bin", "pytorch_model.bin.index.json",
        "extra.safetensors", "README.md"}) {
    Write(name, "x");
  }
  ASSERT_EQ(mkdir((folder_ + "/original").c_str(), 0700), 0);
  EXPECT_THAT((*Open())->other_files(),
              ElementsAre("README.md", "generation_config.json",
                          "tokenizer.json", "tokenizer.model"));
}

TEST_F(CheckpointTest, NoticesAChangedFile) {
  const auto checkpoint = *Open();
  EXPECT_TRUE(checkpoint->VerifyUnchanged().ok());
  Write("s2.safetensors", SafetensorsBytes({{"z", Shape({2}), {4, 5}}}));
  const absl::Status status = checkpoint->VerifyUnchanged();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("s2.safetensors: file changed"));
}

TEST_F(CheckpointTest, ReadsWhatTheTestHelperWrites) {
  const std::string folder = folder_ + "/tiny";
  WriteTestCheckpoint(folder, "{}", {{"w", Shape({2}), {1.5f, -2}}},
                      DType::kBF16);
  const auto checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  float values[2];
  ReadFloats(*(*checkpoint)->Get("w"), 0, absl::MakeSpan(values));
  EXPECT_EQ(values[0], 1.5f);
  EXPECT_EQ(values[1], -2.0f);
}

TEST_F(CheckpointTest, FindsTheFileOfMappedBytes) {
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const TensorView z = *(*checkpoint)->Get("z");
  const auto range = (*checkpoint)->Find(z.bytes);
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->file, "s2.safetensors");
  const std::string file = ReadTestFile(folder_ + "/s2.safetensors");
  EXPECT_EQ(range->offset_bytes + z.bytes.size(), file.size());
  const uint8_t elsewhere[4] = {};
  EXPECT_FALSE((*checkpoint)->Find(elsewhere).has_value());
}

TEST(CheckpointIndexTest, SurvivesDamage) {
  const std::string text =
      R"({"metadata": {"total_size": 12345}, "weight_map": {
          "a.weight": "model-00001-of-00002.safetensors",
          "b.weight": "model-00002-of-00002.safetensors",
          "b.bias": "model-00002-of-00002.safetensors"}})";
  const auto read = [](const std::string& damaged) -> absl::Status {
    const auto index = ParseCheckpointIndex(damaged, "index.json");
    if (!index.ok()) return index.status();
    for (const auto& location : index->tensors) {
      EXPECT_LT(location.shard, index->shards.size());
    }
    for (const std::string& shard : index->shards) {
      EXPECT_EQ(shard.find('/'), std::string::npos);
    }
    return absl::OkStatus();
  };
  EXPECT_GT(ReadDamaged(text, 20000, "index.json", read), 100);
  EXPECT_GT(ReadVariants(*ParseJson(text, "index"), "index.json", read), 20);
}

}  // namespace
}  // namespace qeff
