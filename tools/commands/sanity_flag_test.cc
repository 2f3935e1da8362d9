// SPDX-License-Identifier: Apache-2.0
//
// Commands on the repository's own trained models, and on copies of these whose
// weights lie in another order.

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/json.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kText[] = "tools/demo_model/text.txt";
constexpr char kDemo[] = "tools/demo_model/";

enum class Damage {
  kTransposed,  // [out, in] with the bytes of [in, out]
  kReversed,    // the last row first
};

// A copy of a demo model, in BF16, with the matrices whose names hold one of
// `names` damaged.
std::string Damaged(const std::string& model, Damage damage,
                    const std::vector<std::string>& names) {
  const std::string folder = MakeTestFolder() + "/model";
  std::filesystem::copy(kDemo + model, folder);
  const std::string path = folder + "/model.safetensors";
  std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  std::string file = ReadTestFile(path);
  uint64_t header_size = 0;
  std::memcpy(&header_size, file.data(), sizeof(header_size));
  const Json header = *ParseJson(file.substr(8, header_size), path);
  int count = 0;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__" || entry["shape"].size() != 2) continue;
    if (std::none_of(names.begin(), names.end(), [&n = name](const auto& part) {
          return absl::StrContains(n, part);
        })) {
      continue;
    }
    EXPECT_EQ(entry["dtype"], "BF16");
    ++count;
    const size_t rows = entry["shape"][0], cols = entry["shape"][1];
    const size_t begin =
        8 + header_size + entry["data_offsets"][0].get<size_t>();
    std::vector<uint16_t> from(rows * cols), to(rows * cols);
    std::memcpy(from.data(), file.data() + begin, 2 * from.size());
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < cols; ++c) {
        to[damage == Damage::kTransposed ? c * rows + r
                                         : (rows - 1 - r) * cols + c] =
            from[r * cols + c];
      }
    }
    std::memcpy(&file[begin], to.data(), 2 * to.size());
  }
  EXPECT_GT(count, 0);
  WriteTestFile(path, file);
  return folder;
}

// All commands that have --strict, with what they need beside the model.
std::vector<std::vector<std::string>> Commands(const std::string& model,
                                               const std::string& folder) {
  const std::string recipe = folder + "/recipe";
  WriteTestFile(recipe, "step { quantize { scheme: \"int4_g32\" } }");
  const std::string calibration = std::string("--calibration=") + kText;
  const std::string data = std::string("--data=") + kText;
  const std::string output = "--output=" + folder + "/out";
  const std::string small = "--calibration_tokens=512";
  const std::string length = "--sequence_length=64";
  return {{"inspect", "--model=" + model, calibration},
          {"quantize", "--model=" + model, output, "--scheme=int4_g32",
           "--algorithm=gptq", calibration, small, length},
          {"quantize", "--model=" + model, output, "--budget=4.5bpw",
           calibration, small, length},
          {"prune", "--model=" + model, output, "--sparsity=0.5", calibration,
           small, length},
          {"prune", "--model=" + model, output, "--method=structured",
           "--ffn_size=256", calibration, small, length},
          {"sensitivity", "--model=" + model, calibration, small, length},
          {"train", "--model=" + model, output, data, "--steps=1",
           "--batch_size=1", length},
          {"teacher_cache", "--teacher=" + model, output, data, "--top_k=2",
           length},
          {"distill", "--teacher=" + model, "--student=" + model, output, data,
           "--steps=1", "--batch_size=1", length},
          {"optimize", "--model=" + model, output, "--recipe=" + recipe, data}};
}

TEST(SanityFlagTest, TrainedModelsAreSane) {
  const std::string folder = MakeTestFolder();
  for (std::vector<std::string> command :
       Commands(std::string(kDemo) + "llama", folder)) {
    SCOPED_TRACE(command[0]);
    command.push_back("--strict");
    testing::internal::CaptureStderr();
    const CommandOutcome outcome = RunQeff(command);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                Not(HasSubstr("perplexity")));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::filesystem::remove_all(folder + "/out");
  }
}

TEST(SanityFlagTest, EveryCommandRefusesScrambledWeights) {
  const std::string model =
      Damaged("llama", Damage::kTransposed, {"mlp.", "self_attn."});
  const std::string folder = MakeTestFolder();
  for (std::vector<std::string> command : Commands(model, folder)) {
    SCOPED_TRACE(command[0]);
    command.push_back("--strict");
    const CommandOutcome outcome = RunQeff(command);
    EXPECT_EQ(outcome.code, 3);
    EXPECT_THAT(
        outcome.err,
        AllOf(HasSubstr(model + ": expected a perplexity well below 2048"),
              HasSubstr("tools/demo_model/text.txt, found ")));
    EXPECT_THAT(ListTestFolder(folder), ElementsAre("recipe"));
  }
}

TEST(SanityFlagTest, ItIsAWarningOtherwise) {
  const std::string model =
      Damaged("llama", Damage::kTransposed, {"mlp.", "self_attn."});
  const std::string folder = MakeTestFolder();
  for (const std::vector<std::string>& command : Commands(model, folder)) {
    SCOPED_TRACE(command[0]);
    testing::internal::CaptureStderr();
    const CommandOutcome outcome = RunQeff(command);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("warning: " + model + ": expected a perplexity"));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::filesystem::remove_all(folder + "/out");
  }
}

TEST(SanityFlagTest, InspectTellsScrambledFromTrained) {
  const auto inspect = [](const std::string& model) {
    testing::internal::CaptureStderr();
    const CommandOutcome outcome = RunQeff(
        {"inspect", "--model=" + model, std::string("--calibration=") + kText});
    testing::internal::GetCapturedStderr();
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.json["calibration"];
  };
  struct Case {
    const char* model;
    Damage damage;
    std::vector<std::string> names;
  };
  for (const Case& c : std::vector<Case>{
           {"llama", Damage::kTransposed, {"mlp."}},
           {"llama", Damage::kReversed, {"gate_proj", "up_proj"}},
           {"llama", Damage::kReversed, {"down_proj"}},
           {"llama", Damage::kReversed, {"embed_tokens"}},
           {"mpt", Damage::kTransposed, {"ffn."}},
           {"mpt", Damage::kReversed, {"ffn.up_proj"}},
           {"mpt", Damage::kReversed, {"wte"}},
           {"mpt", Damage::kTransposed, {"ffn.", "attn."}},
       }) {
    const Json damaged = inspect(Damaged(c.model, c.damage, c.names));
    EXPECT_EQ(damaged["sane"], false)
        << c.model << ' ' << c.names[0] << damaged;
    const Json trained = inspect(std::string(kDemo) + c.model);
    EXPECT_EQ(trained["sane"], true);
    EXPECT_EQ(trained["tokens"], 256);
    EXPECT_LT(trained["perplexity"].get<double>(),
              0.05 * trained["perplexity_of_guessing"].get<double>());
  }
}

TEST(SanityFlagTest, StrictNeedsAText) {
  const std::string model = std::string("--model=") + kDemo + "llama";
  const std::string output = "--output=" + MakeTestFolder() + "/out";
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{
           {"inspect", model},
           {"quantize", model, output, "--scheme=int8"},
           {"prune", model, output, "--method=magnitude", "--sparsity=0.5"},
           {"optimize", model, output, "--target_size=1MB"},
           {"train", std::string("--config=tiny"),
            std::string("--tokenizer=") + kDemo + "llama", output,
            std::string("--data=") + kText}}) {
    std::vector<std::string> strict = command;
    strict.push_back("--strict");
    const CommandOutcome outcome = RunQeff(strict);
    EXPECT_EQ(outcome.code, 2) << command[0];
    EXPECT_THAT(outcome.err, HasSubstr("--strict")) << command[0];
  }
}

// A model that has seen no text like it.
TEST(SanityFlagTest, WhatIsNoTextOfTheModel) {
  const std::string path = MakeTestFolder() + "/noise.txt";
  std::string noise;
  for (uint32_t i = 0; i < 20000; ++i) {
    noise += static_cast<char>('!' + (i * i * 2654435761u >> 16) % 90);
  }
  WriteTestFile(path, noise);
  const CommandOutcome outcome =
      RunQeff({"inspect", std::string("--model=") + kDemo + "llama",
               "--calibration=" + path, "--strict"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("the text unlike anything"));
}

}  // namespace
}  // namespace qeff
