// SPDX-License-Identifier: Apache-2.0
//
// Whole runs on tiny random models and a text of a few sentences: what is
// learned, written, resumed and refused.

#include "qeff/distill/training.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/distill/on_policy_text.h"
#include "qeff/distill/teacher.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/quantization_config.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/train/sequence_sampler.h"
#include "qeff/train/shared_check.h"
#include "qeff/train/thread_reducer_testutil.h"
#include "qeff/train/token_shard.h"
#include "qeff/train/tokenize_to_shard.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/synth.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kForEver = 1000000;

std::string Text() {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += "The cat sat on the mat, and the dog sat on the log. ";
    if (i % 7 == 0) text += "It rained. ";
  }
  return text;
}

// A random teacher with a byte-level tokenizer, and text.
struct World {
  std::unique_ptr<ThreadPool> pool = *CreateThreadPool(2);
  std::string folder = MakeTestFolder();
  std::shared_ptr<const Transformer> teacher;
  std::unique_ptr<Tokenizer> tokenizer;
  TrainingText text;

  World() {
    SynthOptions options;
    options.dtype = DType::kF32;
    EXPECT_TRUE(WriteSynthCheckpoint(*KnownShapeConfig("tiny"), options,
                                     folder + "/teacher", pool.get())
                    .ok());
    teacher = *Transformer::Load(*Checkpoint::Open(folder + "/teacher"));
    tokenizer = *Tokenizer::FromFolder(folder + "/teacher");
    WriteTestFile(folder + "/text", Text());
    text.data = {folder + "/text"};
    text.held_out = {folder + "/text"};
    text.tokenizer = tokenizer.get();
    text.tokenize.bos = 1;
  }

  // In the teacher's shape, with fewer neurons.
  Student SmallStudent() const {
    Json config = *KnownShapeConfig("tiny");
    config["intermediate_size"] = 96;
    return *NewStudent(config, "small", 1);
  }

  static TrainingOptions Options() {
    TrainingOptions options;
    options.step.batch_size = 4;
    options.step.sequence_length = 32;
    options.step.schedule.peak = 3e-3;
    options.run.steps = 30;
    options.run.save_every = 10;
    options.run.eval_every = 10;
    options.distill.loss.logits.ce = 1;
    options.dtype = DType::kF32;
    return options;
  }

  absl::StatusOr<TrainingResult> Train(Student student,
                                       const TrainingOptions& options,
                                       const std::string& name) const {
    std::unique_ptr<Teacher> live;
    TeacherModel model;
    if (options.distill.loss.teacher()) {
      live = *MakeLiveTeacher(teacher, TapsOf(options.distill),
                              uint64_t{1} << 30, pool.get());
      model.teacher = live.get();
      model.spec = &teacher->spec();
      model.fingerprint = "teacher";
    }
    return TrainModel(std::move(student), model, text, folder + "/" + name,
                      options, nullptr, pool.get());
  }

  std::string Weights(const std::string& name) const {
    return ReadTestFile(folder + "/" + name + "/model.safetensors");
  }
};

TEST(TrainingTest, LearnsTextAndWritesAModel) {
  World world;
  const auto result =
      world.Train(world.SmallStudent(), World::Options(), "out");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(result->run.held_out_after, result->run.held_out_before - 1);
  EXPECT_EQ(result->parameters, result->trained);
  const auto model =
      Transformer::Load(*Checkpoint::Open(world.folder + "/out"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->spec().ffn_size, 96);
  EXPECT_EQ((*model)->checkpoint().config().at("torch_dtype"), "float32");
  // Nothing else is left.
  EXPECT_EQ(ListTestFolder(world.folder),
            (std::vector<std::string>{"out", "teacher", "text"}));
}

TEST(TrainingTest, AStudentOfEveryLossNearsItsTeacher) {
  World world;
  for (const char* loss :
       {"kl:1", "reverse_kl:1", "js:1", "hidden:1,kl:0.1", "hidden_mse:1,kl:1",
        "attention:1,kl:0.1", "kl:1,ce:0.1,hidden:0.5,attention:0.5"}) {
    TrainingOptions options = World::Options();
    options.distill.loss = *ParseLossSpec(loss);
    options.distill.layers = EvenLayerPairs(2, 2);
    std::vector<double> losses;
    options.run.progress = [&](const StepProgress& progress) {
      if (progress.step > 0) losses.push_back(progress.report.terms[0].sum);
    };
    const auto result = world.Train(world.SmallStudent(), options, loss);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_LT(losses.back(), 0.9 * losses.front()) << loss;
  }
}

TEST(TrainingTest, ProjectsBetweenWidths) {
  World world;
  Json config = *KnownShapeConfig("tiny");
  config["hidden_size"] = 48;
  config["head_dim"] = 12;
  TrainingOptions options = World::Options();
  options.distill.loss = *ParseLossSpec("hidden:1,attention:1");
  // The last layer alone.
  options.distill.layers = {{1, 1}};
  std::vector<double> losses;
  options.run.progress = [&](const StepProgress& progress) {
    if (progress.step > 0) losses.push_back(progress.report.terms[0].sum);
  };
  ASSERT_TRUE(
      world.Train(*NewStudent(config, "narrow", 1), options, "out").ok());
  EXPECT_LT(losses.back(), 0.9 * losses.front());
  options.distill.layers = {{1, 2}};
  EXPECT_THAT(
      std::string(world.Train(*NewStudent(config, "narrow", 1), options, "out2")
                      .status()
                      .message()),
      HasSubstr("--layers: expected layers of the student below 2"));
}

TEST(TrainingTest, TheTeacherItselfHasNothingToLearn) {
  World world;
  TrainingOptions options = World::Options();
  options.distill.loss = *ParseLossSpec("kl:1");
  options.run.steps = 1;
  std::vector<double> losses;
  options.run.progress = [&](const StepProgress& progress) {
    if (progress.step > 0) losses.push_back(progress.report.terms[0].sum);
  };
  ASSERT_TRUE(world.Train(*StudentOf(*world.teacher), options, "out").ok());
  // Both forwards round differently: logits of about 10 to 1e-5.
  EXPECT_LT(losses[0], 1e-8);
}

TEST(TrainingTest, WritesExactlyTheCodesThatWereTrained) {
  World world;
  for (const char* scheme :
       {"int4_g32", "int2_g64", "mxfp4", "q4_0", "int3_g64 learned"}) {
    SCOPED_TRACE(scheme);
    const bool learned = std::string(scheme).size() > 8;
    Json config = *KnownShapeConfig("tiny");
    config["intermediate_size"] = 128;  // for blocks of 32
    TrainingOptions options = World::Options();
    options.weights.scheme = *ParseQuantScheme(learned ? "int3_g64" : scheme);
    options.weights.learn_scales = learned;
    options.run.steps = 3;
    const auto result =
        world.Train(*NewStudent(config, "small", 1), options, scheme);
    ASSERT_TRUE(result.ok()) << scheme << ": " << result.status();
    const auto written =
        Transformer::Load(*Checkpoint::Open(world.folder + "/" + scheme));
    ASSERT_TRUE(written.ok()) << scheme << ": " << written.status();
    ASSERT_TRUE((*written)->quantization().has_value());
    // What the last measurement of the held-out text ran with is what is read.
    ModelWeights weights = *LoadModelWeights(**written);
    auto trainable =
        *TrainableWeights::Create(std::move(weights), {}, *world.pool);
    DistillOptions distill;
    distill.loss.logits.ce = 1;
    const auto objective = *MakeDistillObjective(
        (*written)->spec(), nullptr, distill, nullptr, world.pool.get());
    const auto shard_path = world.folder + "/tokens";
    ASSERT_TRUE(TokenizeToShard(world.text.data, *world.tokenizer,
                                world.text.tokenize, shard_path, *world.pool)
                    .ok());
    const auto sampler = *SequenceSampler::Create(
        *TokenShard::Open(shard_path), 32, 0, false, world.text.tokenize.bos);
    const auto step = *TrainStep::Create(
        (*written)->spec(), options.step, trainable.get(), objective.get(),
        sampler.get(), nullptr, world.pool.get());
    std::vector<TokenBatch> batches(1);
    for (int64_t i = 0; i < sampler->num_sequences(); ++i) {
      if (i % 64 == 0 && i > 0) batches.emplace_back();
      ASSERT_TRUE(sampler->Get(i, &batches.back()).ok());
    }
    EXPECT_EQ(*step->HeldOutLoss(batches), result->run.held_out_after)
        << scheme;
  }
}

// The codes of two bits are often 0. What was quantized is no mask.
TEST(TrainingTest, ZerosOfAQuantizedStudentMayChange) {
  World world;
  TrainingOptions options = World::Options();
  options.weights.scheme = *ParseQuantScheme("int2_g64");
  options.run.steps = 1;
  ASSERT_TRUE(world.Train(world.SmallStudent(), options, "int2").ok());
  const auto quantized =
      *Transformer::Load(*Checkpoint::Open(world.folder + "/int2"));
  Student student = *StudentOf(*quantized);
  EXPECT_FALSE(student.keep_zeros);
  const auto zeros = [](const ModelWeights& weights) {
    int64_t count = 0;
    for (const float w : weights.blocks[0].up.weight.span()) count += w == 0;
    return count;
  };
  EXPECT_GT(zeros(student.weights),
            static_cast<int64_t>(
                student.weights.blocks[0].up.weight.span().size() / 10));
  options.weights.scheme.reset();
  ASSERT_TRUE(world.Train(std::move(student), options, "trained").ok());
  const auto trained =
      *Transformer::Load(*Checkpoint::Open(world.folder + "/trained"));
  EXPECT_EQ(zeros(*LoadModelWeights(*trained)), 0);
}

TEST(TrainingTest, GoesOnToTheSameBytesAndNamesWhatDiffers) {
  World world;
  TrainingOptions options = World::Options();
  options.distill.loss = *ParseLossSpec("kl:1,ce:0.5");
  options.on_policy = 0.5;
  ASSERT_TRUE(world.Train(world.SmallStudent(), options, "whole").ok());
  for (const int stop : {1, 7, 10, 16}) {
    const std::string name = "part" + std::to_string(stop);
    TrainingOptions part = options;
    int64_t done = 0;
    part.run.progress = [&](const StepProgress& step) { done = step.step; };
    part.run.check = [&]() -> absl::Status {
      return done < stop ? absl::OkStatus() : absl::CancelledError("stop");
    };
    EXPECT_EQ(world.Train(world.SmallStudent(), part, name).status().code(),
              absl::StatusCode::kCancelled);
    EXPECT_THAT(std::string(world.Train(world.SmallStudent(), options, name)
                                .status()
                                .message()),
                HasSubstr("--resume"));
    TrainingOptions other = options;
    other.unfinished = PartialWork::kResume;
    other.step.schedule.peak = 1e-4;
    EXPECT_THAT(
        std::string(
            world.Train(world.SmallStudent(), other, name).status().message()),
        HasSubstr("another learning_rate"));
    TrainingOptions rest = options;
    rest.unfinished = PartialWork::kResume;
    const auto result = world.Train(world.SmallStudent(), rest, name);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->run.first_step, stop);
    EXPECT_EQ(world.Weights(name), world.Weights("whole"));
  }
}

TEST(TrainingTest, LeavesNothingWhenThereIsNothingToGoOnFrom) {
  World world;
  TrainingOptions options = World::Options();
  options.step.sequence_length = 100000;
  EXPECT_FALSE(world.Train(world.SmallStudent(), options, "out").ok());
  world.text.data = {world.folder + "/missing"};
  EXPECT_EQ(world.Train(world.SmallStudent(), World::Options(), "out")
                .status()
                .code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(ListTestFolder(world.folder),
            (std::vector<std::string>{"teacher", "text"}));
}

TEST(OnPolicyTextTest, ContinuesBeginningsOfTheText) {
  World world;
  const std::string shard = world.folder + "/tokens";
  ASSERT_TRUE(TokenizeToShard(world.text.data, *world.tokenizer,
                              world.text.tokenize, shard, *world.pool)
                  .ok());
  const auto text = *SequenceSampler::Create(*TokenShard::Open(shard), 64, 0,
                                             true, world.text.tokenize.bos);
  const Student student = *StudentOf(*world.teacher);
  OnPolicyOptions options;
  options.share = 0.5;
  options.batch_size = 3;
  options.sequence_length = 64;
  options.vocab_size = 259;
  OnPolicyText source(text.get(), &student.map, &student.config, options,
                      world.folder + "/scratch", nullptr, world.pool.get());
  int64_t written = 0;
  SharedCheck check(nullptr, nullptr);
  for (int64_t step = 0; step < 20; ++step) {
    ASSERT_TRUE(source.BeginStep(step, student.weights, &check).ok());
    TokenBatch batch, original;
    for (int64_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(source.Get(3 * step + i, &batch).ok());
      ASSERT_TRUE(text->Get(3 * step + i, &original).ok());
    }
    EXPECT_EQ(batch.generated, source.Writes(step));
    if (!batch.generated) {
      EXPECT_EQ(batch.ids, original.ids);
      continue;
    }
    ++written;
    ASSERT_EQ(batch.lengths.size(), 3u);
    int64_t row = 0, counted = 0;
    for (size_t s = 0; s < 3; ++s) {
      for (int64_t i = 0; i < batch.lengths[s]; ++i, ++row) {
        const size_t at = static_cast<size_t>(row);
        if (i < 8) {
          EXPECT_EQ(batch.ids[at],
                    original.ids[s * 64 + static_cast<size_t>(i)]);
        }
        EXPECT_EQ(batch.labels[at] == TokenBatch::kNoLabel, i < 7);
        if (i >= 7 && i + 1 < batch.lengths[s]) {
          EXPECT_EQ(batch.labels[at], batch.ids[at + 1]);
        }
        counted += i >= 7;
      }
    }
    EXPECT_EQ(batch.counted, counted);
    // The same once more.
    TokenBatch again;
    ASSERT_TRUE(source.BeginStep(step, student.weights, &check).ok());
    for (int64_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(source.Get(3 * step + i, &again).ok());
    }
    EXPECT_EQ(again.ids, batch.ids);
  }
  EXPECT_GT(written, 5);
  EXPECT_LT(written, 15);
}

// Ranks whose texts take different times: whichever is to stop, after whichever
// token, all do, and nothing of the student is left.
TEST(OnPolicyTextTest, IsGivenUpByAllRanks) {
  World world;
  const std::string shard = world.folder + "/tokens";
  ASSERT_TRUE(TokenizeToShard(world.text.data, *world.tokenizer,
                              world.text.tokenize, shard, *world.pool)
                  .ok());
  const Student student = *StudentOf(*world.teacher);
  // Returns how often each has asked.
  const auto run = [&](int ranks, int stops, int64_t until) {
    std::vector<int64_t> asked(static_cast<size_t>(ranks));
    RunRanks(ranks, [&](GradientReducer* reducer) {
      int64_t& own = asked[static_cast<size_t>(reducer->rank())];
      const auto pool = *CreateThreadPool(1);
      const auto text = *SequenceSampler::Create(
          *TokenShard::Open(shard), 64, 0, true, world.text.tokenize.bos);
      OnPolicyOptions options;
      options.share = 1;
      options.batch_size = 2 * ranks;
      options.sequence_length = 64;
      options.vocab_size = 259;
      SharedCheck check(
          [&]() -> absl::Status {
            return ++own <= until || reducer->rank() != stops
                       ? absl::OkStatus()
                       : absl::AbortedError("enough");
          },
          reducer);
      OnPolicyText source(
          text.get(), &student.map, &student.config, options,
          absl::StrCat(world.folder, "/scratch", reducer->rank()), reducer,
          pool.get());
      const absl::Status status = source.BeginStep(0, student.weights, &check);
      EXPECT_EQ(status.ok(), until == kForEver) << status;
      EXPECT_EQ(check.stopped(), until != kForEver);
      if (until != kForEver) {
        EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
        EXPECT_THAT(std::string(status.message()), HasSubstr("enough"));
      }
    });
    return asked;
  };
  for (const int ranks : {1, 2}) {
    const std::vector<int64_t> all = run(ranks, 0, kForEver);
    for (int stops = 0; stops < ranks; ++stops) {
      const int64_t most = all[static_cast<size_t>(stops)];
      EXPECT_GT(most, 50);
      for (int64_t until = 0; until < most; until += 19) {
        SCOPED_TRACE(until);
        const std::vector<int64_t> asked = run(ranks, stops, until);
        EXPECT_EQ(asked[static_cast<size_t>(stops)], until + 1);
      }
    }
  }
  EXPECT_EQ(ListTestFolder(world.folder),
            (std::vector<std::string>{"teacher", "text", "tokens"}));
}

TEST(EvenLayerPairsTest, EndsTogether) {
  const auto pairs = EvenLayerPairs(3, 12);
  ASSERT_EQ(pairs.size(), 3u);
  EXPECT_EQ(pairs[0].teacher, 3);
  EXPECT_EQ(pairs[1].teacher, 7);
  EXPECT_EQ(pairs[2].teacher, 11);
  EXPECT_EQ(EvenLayerPairs(4, 2)[0].teacher, 0);
  EXPECT_EQ(EvenLayerPairs(4, 2)[3].teacher, 1);
}

}  // namespace
}  // namespace qeff
