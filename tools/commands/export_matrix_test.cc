// SPDX-License-Identifier: Apache-2.0
//
// `qeff export` between any two formats that it reads: the model that is read
// back has the same weights, or it is refused before anything is written, with
// a format that could hold it.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/transformer.h"
#include "tools/commands/model_folder.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What becomes of a source: the weights are kept, or why not.
constexpr char kKept[] = "";

struct Source {
  const char* name;
  std::vector<std::string> quantize;  // "": it is not
  std::string format;                 // then it is exported to this
  std::map<std::string, std::string> refused = {};  // by target
};

void PrintTo(const Source& source, std::ostream* out) { *out << source.name; }

constexpr char kQuantizeFirst[] =
    "the model has no quantized layers, of which ";
constexpr const char* kFolders[] = {"gptq", "gptq_v2", "awq",
                                    "compressed-tensors"};

constexpr char kNoZeroPoints[] =
    "no block of ggml has zero points; compressed-tensors can hold it";

std::map<std::string, std::string> InAllFolders(const std::string& why) {
  std::map<std::string, std::string> refused;
  for (const char* folder : kFolders) refused[folder] = why;
  return refused;
}

std::map<std::string, std::string> Refused(
    std::map<std::string, std::string> refused, const std::string& target,
    const std::string& why) {
  refused[target] = why;
  return refused;
}

std::vector<Source> Sources() {
  const std::vector<std::string> int4 = {"--scheme=int4_g32"};
  return {
      {"floats", {}, "", InAllFolders(kQuantizeFirst)},
      {"gguf_of_floats", {}, "gguf", InAllFolders(kQuantizeFirst)},
      {"qeff", {"--scheme=int4_g32", "--layout=qeff"}, ""},
      {"compressed_tensors", int4, ""},
      {"gptq", int4, "gptq"},
      {"gptq_v2", int4, "gptq_v2"},
      {"awq", int4, "awq"},
      {"gguf_of_codes", int4, "gguf"},
      {"gguf_of_int8",
       {"--scheme=int8"},
       "gguf",
       {{"awq",
         "q_proj: it has 8 bits; it can be written as compressed-tensors, "
         "gptq, gptq_v2"}}},
      {"blocks", {"--scheme=q4_0"}, ""},
      {"zero_points",
       {"--scheme=int4_g32", "--asymmetric"},
       "",
       {{"gguf", kNoZeroPoints}}},
      {"gptq_zero_points",
       {"--scheme=int4_g32", "--asymmetric"},
       "gptq",
       {{"gguf", kNoZeroPoints}}},
      {"int8",
       {"--scheme=int8"},
       "",
       {{"awq",
         "q_proj: it has 8 bits; it can be written as compressed-tensors, "
         "gptq, gptq_v2"}}},
      {"nf4",
       {"--scheme=nf4_g32"},
       "",
       Refused(InAllFolders(
                   "nor can another folder; onnx holds its values as floats"),
               "gguf",
               "q_proj: no block of ggml has the values of nf4; "
               "requantize rounds the layer again")},
  };
}

void MustRun(const std::vector<std::string>& arguments) {
  const CommandOutcome outcome = RunQeff(arguments);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
}

// Floats as they are, codes as blocks.
std::vector<std::string> FlagsOf(const std::string& target) {
  if (target != "gguf") return {};
  return {"--scheme=f32", "--lm_head=f32"};
}

CommandOutcome Export(const std::string& model, const std::string& target,
                      const std::string& output) {
  std::vector<std::string> arguments = {
      "export", "--model=" + model, "--format=" + target, "--output=" + output};
  for (const std::string& flag : FlagsOf(target)) arguments.push_back(flag);
  return RunQeff(arguments);
}

// All weights of linear layers, and logits, in which all other weights are.
std::vector<std::vector<float>> ValuesOf(const std::string& path) {
  std::vector<std::vector<float>> values;
  const auto folder = ModelFolder::Open(path);
  EXPECT_TRUE(folder.ok()) << folder.status();
  const std::shared_ptr<const Transformer> model =
      Transformer::Load(Checkpoint::Open(folder->path()).value()).value();
  for (const LinearModule& module : model->map().Linears()) {
    const auto weights = model->LoadLinear(module.block, module.role);
    EXPECT_TRUE(weights.ok()) << weights.status();
    const auto all = weights->weight.span();
    values.emplace_back(all.begin(), all.end());
  }
  const auto pool = CreateThreadPool(1).value();
  const auto forward = HostForward::Create(model, pool.get()).value();
  const auto logits = forward->LogitsOf({3, 1, 4, 1, 5, 9, 2, 6}).value();
  values.emplace_back(logits.span().begin(), logits.span().end());
  return values;
}

class ExportMatrix : public ::testing::TestWithParam<Source> {
 protected:
  // The model of GetParam().
  std::string MakeSource() const {
    const std::string folder = MakeTestFolder();
    std::string model = folder + "/model";
    // F16, so that scales are what all formats hold.
    MustRun(
        {"synth", "--shape=tiny-qwen2", "--output=" + model, "--dtype=f16"});
    if (!GetParam().quantize.empty()) {
      std::vector<std::string> arguments = {"quantize", "--model=" + model,
                                            "--output=" + folder + "/codes"};
      for (const auto& flag : GetParam().quantize) arguments.push_back(flag);
      MustRun(arguments);
      model = folder + "/codes";
    }
    if (!GetParam().format.empty()) {
      const auto outcome = Export(model, GetParam().format, folder + "/source");
      EXPECT_EQ(outcome.code, 0) << outcome.err;
      model = folder + "/source";
    }
    return model;
  }
};

TEST_P(ExportMatrix, ToEveryFormat) {
  const std::string model = MakeSource();
  const auto expected = ValuesOf(model);
  for (const std::string target :
       {"gguf", "gptq", "gptq_v2", "awq", "compressed-tensors", "onnx"}) {
    SCOPED_TRACE(target);
    const auto found = GetParam().refused.find(target);
    const std::string why =
        found == GetParam().refused.end() ? kKept : found->second;
    const std::string folder = MakeTestFolder();
    const CommandOutcome outcome = Export(model, target, folder + "/out");
    if (why != kKept) {
      EXPECT_EQ(outcome.code, 3);
      EXPECT_THAT(outcome.err, HasSubstr(why));
      EXPECT_THAT(ListTestFolder(folder), IsEmpty());
      continue;
    }
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    // Nothing here reads ONNX; see below and ../../qeff/export/onnx.
    if (outcome.code != 0 || target == "onnx") continue;
    EXPECT_TRUE(ValuesOf(folder + "/out") == expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Sources, ExportMatrix, ::testing::ValuesIn(Sources()),
                         [](const ::testing::TestParamInfo<Source>& info) {
                           return std::string(info.param.name);
                         });

// The codes, however they are stored, are one graph with one file of data.
TEST(ExportMatrix, OnnxOfTheSameCodesIsTheSame) {
  const std::string folder = MakeTestFolder();
  MustRun({"synth", "--shape=tiny-qwen2", "--output=" + folder + "/model",
           "--dtype=f16"});
  MustRun({"quantize", "--model=" + folder + "/model", "--scheme=int4_g32",
           "--output=" + folder + "/compressed-tensors"});
  MustRun({"quantize", "--model=" + folder + "/model", "--scheme=int4_g32",
           "--layout=qeff", "--output=" + folder + "/qeff"});
  for (const std::string format : {"gptq", "awq", "gguf"}) {
    ASSERT_EQ(Export(folder + "/qeff", format, folder + "/" + format).code, 0);
  }
  std::string graph, data;
  for (const std::string source :
       {"compressed-tensors", "qeff", "gptq", "awq"}) {
    SCOPED_TRACE(source);
    const std::string output = MakeTestFolder() + "/model.onnx";
    const CommandOutcome outcome =
        Export(folder + "/" + source, "onnx", output);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.json["operators"]["MatMulNBits"], 14);
    EXPECT_THAT(outcome.json["dequantized"], IsEmpty());
    if (graph.empty()) {
      graph = ReadTestFile(output);
      data = ReadTestFile(output + ".data");
    }
    EXPECT_TRUE(ReadTestFile(output) == graph);
    EXPECT_TRUE(ReadTestFile(output + ".data") == data);
  }
}

}  // namespace
}  // namespace qeff
