// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/teacher_cache.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/distill/distill_objective.h"
#include "qeff/distill/logit_loss.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/train/token_shard_writer.h"
#include "qeff/transformer/gradient_testutil.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/mutate_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kVocab = 20, kLength = 8;

// A tiny teacher, a text of two documents, and what it says of it.
struct World {
  std::unique_ptr<ThreadPool> pool = *CreateThreadPool(2);
  std::string folder = MakeTestFolder();
  std::shared_ptr<const Transformer> model =
      *Transformer::Load(OpenTestModel(MakeTestModel("llama")));
  std::unique_ptr<Teacher> live =
      *MakeLiveTeacher(model, {}, uint64_t{1} << 30, pool.get());
  std::shared_ptr<const TokenShard> text;

  explicit World(int64_t second = 60) {
    const std::string path = folder + "/tokens";
    auto writer = *TokenShardWriter::Create(path, kVocab);
    for (const int64_t length : {int64_t{13}, second}) {
      EXPECT_TRUE(writer->Append(TestTokens(length)).ok());
    }
    EXPECT_TRUE(writer->Commit().ok());
    text = *TokenShard::Open(path);
  }

  std::unique_ptr<SequenceSampler> Sampler(bool shuffle) const {
    return *SequenceSampler::Create(text, kLength, 3, shuffle, 1);
  }

  TeacherCacheInfo Info(int64_t top_k) const {
    TeacherCacheInfo info;
    info.vocab_size = kVocab;
    info.top_k = top_k;
    info.sequence_length = kLength;
    info.sequences = Sampler(false)->num_sequences();
    info.text = absl::StrCat(absl::Hex(text->checksum()));
    info.bos = 1;
    info.teacher = "t";
    return info;
  }

  absl::Status Write(int64_t top_k, const std::string& name,
                     const TeacherCacheOptions& options = {}) const {
    return WriteTeacherCache(Info(top_k), live.get(), Sampler(false).get(),
                             folder + "/" + name, options, pool.get());
  }
};

// KL of a student's logits from `teacher` for a batch in any order.
double DivergenceOf(const World& world, Teacher* teacher,
                    const TokenBatch& batch, Matrix<float>* gradient) {
  EXPECT_TRUE(teacher->Run(batch).ok());
  const int64_t rows = static_cast<int64_t>(batch.ids.size());
  const Matrix<float> student = RandomMatrix(rows, kVocab, 9);
  *gradient = Matrix<float>(rows, kVocab);
  LogitLossOptions options;
  options.weights.kl = 1;
  const auto sparse = teacher->Sparse(0, rows);
  if (sparse.has_value()) {
    return SparseLogitLoss(options, student.view(), *sparse, batch.labels, 1.0f,
                           gradient->view(), *world.pool)
        ->kl;
  }
  return LogitLoss(options, student.view(), *teacher->Logits(0, rows),
                   batch.labels, 1.0f, gradient->view(), *world.pool)
      .kl;
}

TEST(TeacherCacheTest, SaysWhatTheTeacherSays) {
  World world;
  TokenBatch batch;
  const auto sampler = world.Sampler(true);
  for (int64_t i = 0; i < 5; ++i) ASSERT_TRUE(sampler->Get(i, &batch).ok());
  Matrix<float> live_gradient, gradient;
  const double live =
      DivergenceOf(world, world.live.get(), batch, &live_gradient);
  double last = 0;
  for (const int64_t k : {1, 5, 20}) {
    const std::string name = absl::StrCat("cache", k);
    ASSERT_TRUE(world.Write(k, name).ok());
    const auto cached = OpenTeacherCache(world.folder + "/" + name, "t");
    ASSERT_TRUE(cached.ok()) << cached.status();
    EXPECT_TRUE((*cached)->CheckText(*world.text, kLength, 1).ok());
    const double kl = DivergenceOf(world, cached->get(), batch, &gradient);
    // A lower bound that grows with what is known.
    EXPECT_GT(kl, last);
    EXPECT_LT(kl, live + 0.03);
    last = kl;
  }
  // 37 rows, each of an entropy below ln 20, to 2^-11 of it.
  EXPECT_NEAR(last, live, 40 * std::log(20.0) / 2048);
  for (size_t i = 0; i < gradient.span().size(); ++i) {
    ASSERT_NEAR(gradient.span()[i], live_gradient.span()[i], 2e-3) << i;
  }
}

TEST(TeacherCacheTest, GoesOnToTheSameBytes) {
  World world(3000);  // 376 sequences: three pieces
  ASSERT_TRUE(world.Write(4, "whole").ok());
  int asked = 0;
  TeacherCacheOptions options;
  options.check = [&]() -> absl::Status {
    return asked++ < 2 ? absl::OkStatus() : absl::CancelledError("stop");
  };
  EXPECT_EQ(world.Write(4, "part", options).code(),
            absl::StatusCode::kCancelled);
  options.check = nullptr;
  EXPECT_EQ(world.Write(4, "part", options).code(),
            absl::StatusCode::kAlreadyExists);
  options.unfinished = PartialWork::kResume;
  EXPECT_THAT(std::string(world.Write(5, "part", options).message()),
              HasSubstr("another top_k"));
  int64_t first = 0;
  options.progress = [&](int64_t done, int64_t) {
    if (first == 0) first = done;
  };
  ASSERT_TRUE(world.Write(4, "part", options).ok());
  EXPECT_EQ(first, 376);
  for (const char* file : {"/model.safetensors", "/config.json"}) {
    EXPECT_EQ(ReadTestFile(world.folder + "/part" + file),
              ReadTestFile(world.folder + "/whole" + file));
  }
}

TEST(TeacherCacheTest, RefusesWhatItIsNotOf) {
  World world;
  EXPECT_THAT(std::string(world.Write(21, "x").message()),
              HasSubstr("--top_k: expected 1 to 20"));
  ASSERT_TRUE(world.Write(4, "cache").ok());
  const std::string folder = world.folder + "/cache";
  EXPECT_THAT(std::string(OpenTeacherCache(folder, "u").status().message()),
              HasSubstr("another teacher"));
  const auto cached = *OpenTeacherCache(folder, "t");
  EXPECT_THAT(
      std::string(cached->CheckText(*world.text, kLength + 1, 1).message()),
      HasSubstr("another sequence_length: expected 9, found 8"));
  EXPECT_THAT(
      std::string(
          cached->CheckText(*world.text, kLength, absl::nullopt).message()),
      HasSubstr("another first token"));
  TokenBatch generated;
  generated.generated = true;
  EXPECT_FALSE(cached->Run(generated).ok());
  TokenBatch beyond;
  beyond.sequences = {1000};
  beyond.ids.resize(kLength);
  EXPECT_THAT(std::string(cached->Run(beyond).message()),
              HasSubstr("not number 1000"));
}

TEST(TeacherCacheTest, RefusesDamagedFolders) {
  World world;
  ASSERT_TRUE(world.Write(4, "cache").ok());
  const std::string folder = world.folder + "/cache";
  const std::string config = ReadTestFile(folder + "/config.json");
  Json json = *ParseJson(config, "config");
  for (const auto& change : std::vector<std::pair<std::string, Json>>{
           {"kind", "other"},
           {"top_k", 21},
           {"top_k", 5},
           {"vocab_size", 300},
           {"sequences", -1},
           {"sequences", 4},
           {"sequence_length", int64_t{1} << 40},
           {"bos", "x"},
           {"text", 7},
           {"teacher", nullptr}}) {
    Json changed = json;
    changed[change.first] = change.second;
    WriteTestFile(folder + "/config.json", changed.dump());
    EXPECT_EQ(OpenTeacherCache(folder, "t").status().code(),
              absl::StatusCode::kInvalidArgument)
        << change.first;
  }
  WriteTestFile(folder + "/config.json", config);
}

// A bit anywhere in what is said of a sequence.
TEST(TeacherCacheTest, FindsEveryFlippedBit) {
  World world;
  ASSERT_TRUE(world.Write(4, "cache").ok());
  const std::string folder = world.folder + "/cache";
  const std::string path = folder + "/model.safetensors";
  const std::string tensors = ReadTestFile(path);
  uint64_t header = 0;
  std::memcpy(&header, tensors.data(), sizeof(header));
  TokenBatch batch;
  const auto sampler = world.Sampler(false);
  for (int64_t i = 0; i < sampler->num_sequences(); ++i) {
    ASSERT_TRUE(sampler->Get(i, &batch).ok());
  }
  int flipped = 0;
  for (size_t at = sizeof(header) + header; at < tensors.size(); ++at) {
    std::string changed = tensors;
    changed[at] = static_cast<char>(changed[at] ^ (1 << (at % 8)));
    WriteTestFile(path, changed);
    const auto cached = OpenTeacherCache(folder, "t");
    ASSERT_TRUE(cached.ok()) << cached.status();
    const absl::Status status = (*cached)->Run(batch);
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << at;
    EXPECT_THAT(std::string(status.message()), HasSubstr("checksum: expected"));
    ++flipped;
  }
  EXPECT_GT(flipped, 100);
}

TEST(TeacherCacheTest, SurvivesDamage) {
  World world;
  ASSERT_TRUE(world.Write(4, "cache").ok());
  const std::string folder = world.folder + "/cache";
  TokenBatch batch;
  const auto sampler = world.Sampler(false);
  for (int64_t i = 0; i < sampler->num_sequences(); ++i) {
    ASSERT_TRUE(sampler->Get(i, &batch).ok());
  }
  const auto read = [&](const std::string& file, const std::string& bytes) {
    WriteTestFile(file, bytes);
    auto cached = OpenTeacherCache(folder, "t");
    if (!cached.ok()) return cached.status();
    return (*cached)->Run(batch);
  };
  const std::string config = folder + "/config.json";
  const std::string text = ReadTestFile(config);
  const auto read_config = [&](const std::string& bytes) {
    return read(config, bytes);
  };
  EXPECT_GT(ReadVariants(*ParseJson(text, "config"), folder, read_config), 5);
  ReadDamaged(text, 500, folder, read_config);
  WriteTestFile(config, text);
  const std::string tensors = folder + "/model.safetensors";
  // Most of what is damaged is what the teacher said, and has a checksum.
  EXPECT_LT(ReadDamaged(
                ReadTestFile(tensors), 2000, folder,
                [&](const std::string& bytes) { return read(tensors, bytes); }),
            50);
}

// A line that says that more or something else is done.
TEST(TeacherCacheTest, SurvivesADamagedJournal) {
  World world(3000);
  int asked = 0;
  TeacherCacheOptions options;
  options.check = [&]() -> absl::Status {
    return asked++ < 2 ? absl::OkStatus() : absl::CancelledError("stop");
  };
  ASSERT_EQ(world.Write(4, "part", options).code(),
            absl::StatusCode::kCancelled);
  options.unfinished = PartialWork::kResume;
  options.check = [] { return absl::CancelledError("stop"); };
  const std::string path = world.folder + "/part.partial/journal";
  const std::string journal = ReadTestFile(path);
  const size_t last = journal.rfind('\n', journal.size() - 2) + 1;
  const Json line = *ParseJson(journal.substr(last), "line");
  ReadVariants(line, path, [&](const std::string& text) {
    WriteTestFile(path, absl::StrCat(journal.substr(0, last), text, "\n"));
    const absl::Status status = world.Write(4, "part", options);
    return status.code() == absl::StatusCode::kCancelled ? absl::OkStatus()
                                                         : status;
  });
}

}  // namespace
}  // namespace qeff
