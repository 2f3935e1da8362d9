// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_plan.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/quantization_config.h"
#include "qeff/quant/format_plan.h"
#include "qeff/quant/quant_testutil.h"

namespace qeff {
namespace {

using Action = PlannedTensor::Action;

constexpr char kDown[] = "layers.0.mlp.down_proj.weight";  // rows of 172
constexpr char kUp[] = "layers.0.mlp.up_proj.weight";      // rows of 64

// The module that a weight belongs to.
std::string ModuleOf(const PlannedTensor& tensor) {
  return std::string(absl::StripSuffix(tensor.name, ".weight"));
}

TEST(QuantizePlan, CompressedTensorsWhenItCanHoldAll) {
  const TestModel model(SynthModel("tiny-mistral"));
  const auto plan = model.Plan(OptionsFor("int4_g32"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, QuantizedLayout::kCompressedTensors);
  int64_t quantized = 0;
  for (const PlannedTensor& tensor : plan->tensors) {
    quantized += tensor.quantized();
    if (!tensor.quantized()) {
      EXPECT_EQ(tensor.bytes_after, tensor.bytes_before);
      EXPECT_EQ(tensor.BitsPerWeight(), 16);
    } else {
      EXPECT_EQ(tensor.BitsPerWeight(), 4.5);
    }
  }
  EXPECT_EQ(quantized, 2 * 7);
  EXPECT_EQ(FindPlanned(*plan, "lm_head.weight").action, Action::kKeep);
  EXPECT_EQ(plan->QuantizedBitsPerWeight(), 4.5);
  EXPECT_EQ(plan->BytesBefore(), model.checkpoint->weight_bytes());
  const auto config = ParseQuantizationConfig(plan->config, "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)->ignore(), std::vector<std::string>({"lm_head"}));
  EXPECT_EQ((*config)->Find("x")->group_size, 32);
}

TEST(QuantizePlan, ShorterLastGroupsMakeTheFolderQeff) {
  const TestModel model(SynthModel("tiny"));
  const auto plan = model.Plan(OptionsFor("int4_g32"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, QuantizedLayout::kQeff);
  EXPECT_TRUE(absl::StrContains(plan->layout_reason,
                                "groups of 32 do not divide rows of 172"))
      << plan->layout_reason;
  EXPECT_TRUE(absl::StrContains(plan->layout_reason, "2 of the layers"));
  EXPECT_EQ(plan->config["quantization_config"]["quant_method"], "qeff");
  EXPECT_TRUE(FindPlanned(*plan, kDown).quantized());
}

TEST(QuantizePlan, CompressedTensorsOnRequestLeavesOutWhatItCannotHold) {
  const TestModel model(SynthModel("tiny"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.layout = QuantizedLayout::kCompressedTensors;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, QuantizedLayout::kCompressedTensors);
  const PlannedTensor& down = FindPlanned(*plan, kDown);
  EXPECT_EQ(down.action, Action::kKeep);
  EXPECT_TRUE(absl::StrContains(down.reason, "do not divide rows of 172"));
  EXPECT_TRUE(FindPlanned(*plan, kUp).quantized());
  const auto config = ParseQuantizationConfig(plan->config, "config.json");
  EXPECT_FALSE(
      (*config)->Find(ModuleOf(FindPlanned(*plan, kDown))).has_value());
  EXPECT_TRUE((*config)->Find(ModuleOf(FindPlanned(*plan, kUp))).has_value());
}

TEST(QuantizePlan, QeffOnRequest) {
  const TestModel model(SynthModel("tiny-mistral"));
  QuantizeOptions options = OptionsFor("int8");
  options.layout = QuantizedLayout::kQeff;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, QuantizedLayout::kQeff);
}

TEST(QuantizePlan, ThreeBitsAndConv1DAreQeff) {
  EXPECT_EQ(TestModel(SynthModel("tiny-mistral"))
                .Plan(OptionsFor("int3_g64"))
                ->layout,
            QuantizedLayout::kQeff);
  const TestModel gpt2(SynthModel("tiny-gpt2"));
  const auto plan = gpt2.Plan(OptionsFor("int4_g32"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, QuantizedLayout::kQeff);
  int64_t transposed = 0;
  for (const PlannedTensor& tensor : plan->tensors) {
    if (!tensor.quantized()) continue;
    transposed += tensor.transposed;
    EXPECT_EQ(tensor.shape, Shape({tensor.cols, tensor.rows}));
  }
  EXPECT_EQ(transposed, 2 * 4);
}

TEST(QuantizePlan, SaysWhyNoLayerIsLeft) {
  const TestModel gpt2(SynthModel("tiny-gpt2"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.layout = QuantizedLayout::kCompressedTensors;
  const absl::Status status = gpt2.Plan(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "no linear layer is left"));
  EXPECT_TRUE(
      absl::StrContains(status.message(), ": not in compressed-tensors: "))
      << status;
}

TEST(QuantizePlan, LmHeadOnRequest) {
  const TestModel model(SynthModel("tiny-mistral"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.lm_head = ParseQuantScheme("int8").value();
  auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(FindPlanned(*plan, "lm_head.weight").action, Action::kQuantize);
  EXPECT_FALSE(plan->unties_lm_head);
  auto config = ParseQuantizationConfig(plan->config, "config.json");
  EXPECT_EQ((*config)->groups().size(), 2u);
  EXPECT_EQ((*config)->Find("lm_head")->bits, 8);
  EXPECT_EQ((*config)->Find(ModuleOf(FindPlanned(*plan, kUp)))->bits, 4);
  EXPECT_TRUE((*config)->ignore().empty());
  // The same scheme needs no group of its own.
  options.lm_head = options.scheme;
  plan = model.Plan(options);
  config = ParseQuantizationConfig(plan->config, "config.json");
  EXPECT_EQ((*config)->groups().size(), 1u);
  EXPECT_EQ((*config)->Find("lm_head")->bits, 4);
}

TEST(QuantizePlan, ModulesWithSchemesOfTheirOwn) {
  const TestModel model(SynthModel("tiny-mistral"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.lm_head = ParseQuantScheme("int8").value();
  const auto uniform = model.Plan(options);
  const std::string up = FindPlanned(*uniform, kUp).module;
  const std::string down = FindPlanned(*uniform, kDown).module;
  options.modules[up] = ParseQuantScheme("int3_g64").value();
  options.modules[down] = ParseQuantScheme("int8").value();
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(FindPlanned(*plan, kUp).BitsPerWeight(), 3.25);
  EXPECT_EQ(plan->layout, QuantizedLayout::kQeff);
  EXPECT_TRUE(absl::StrContains(FormatPlan(*plan), "int3_g64"));
  // What a reader sees of every layer is what was planned.
  const auto config = ParseQuantizationConfig(plan->config, "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)->groups().size(), 3u);
  for (const PlannedTensor& tensor : plan->tensors) {
    if (!tensor.quantized()) continue;
    const auto found = (*config)->Find(tensor.module);
    ASSERT_TRUE(found.has_value()) << tensor.module;
    EXPECT_EQ(found->bits, tensor.scheme.bits) << tensor.module;
    EXPECT_EQ(found->group_size, tensor.scheme.group_size) << tensor.module;
  }
  // An ignored module stays ignored.
  options.ignore = "up_proj$";
  EXPECT_EQ(FindPlanned(*model.Plan(options), kUp).action, Action::kKeep);
}

TEST(QuantizePlan, AllModulesWithOneSchemeOfTheirOwnAreOneGroup) {
  const TestModel model(SynthModel("tiny-mistral"));
  QuantizeOptions options = OptionsFor("int4_g32");
  const auto uniform = model.Plan(options);
  for (const PlannedTensor& tensor : uniform->tensors) {
    if (!tensor.quantized()) continue;
    options.modules[tensor.module] = ParseQuantScheme("int4_g64").value();
  }
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto config = ParseQuantizationConfig(plan->config, "config.json");
  ASSERT_EQ((*config)->groups().size(), 1u);
  EXPECT_EQ((*config)->groups()[0].targets,
            std::vector<std::string>({"Linear"}));
  EXPECT_EQ((*config)->groups()[0].weights.group_size, 64);
}

TEST(QuantizePlan, LmHeadAloneOnRequest) {
  const TestModel model(SynthModel("tiny-mistral"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.lm_head = ParseQuantScheme("int8").value();
  options.ignore = "layers";
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto config = ParseQuantizationConfig(plan->config, "config.json");
  EXPECT_EQ((*config)->groups().size(), 1u);
  EXPECT_EQ((*config)->Find("lm_head")->bits, 8);
  EXPECT_FALSE((*config)->Find(ModuleOf(FindPlanned(*plan, kUp))).has_value());
}

TEST(QuantizePlan, UntiesATiedLmHeadAndSaysWhatThatCosts) {
  const TestModel model(SynthModel("tiny-qwen2"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.lm_head = ParseQuantScheme("int8").value();
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(plan->unties_lm_head);
  EXPECT_EQ(plan->config["tie_word_embeddings"], false);
  const PlannedTensor& embedding = FindPlanned(*plan, "embed_tokens.weight");
  EXPECT_EQ(embedding.action, Action::kAdd);
  EXPECT_EQ(embedding.module, "lm_head");
  // 320 rows of 64 bytes, a scale a row, and the shape.
  EXPECT_EQ(embedding.bytes_after - embedding.bytes_before,
            320u * 64 + 320 * 2 + 16);
  EXPECT_TRUE(absl::StrContains(FormatPlan(*plan), "0.021 MB more"))
      << FormatPlan(*plan);
  // Without the request it stays tied.
  const auto tied = model.Plan(OptionsFor("int4_g32"));
  EXPECT_FALSE(tied->unties_lm_head);
  EXPECT_EQ(tied->config["tie_word_embeddings"], true);
}

TEST(QuantizePlan, IgnoresByPattern) {
  const TestModel model(SynthModel("tiny"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.ignore = "down_proj$";
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, QuantizedLayout::kCompressedTensors);
  const PlannedTensor& down = FindPlanned(*plan, kDown);
  EXPECT_EQ(down.action, Action::kKeep);
  EXPECT_EQ(down.reason, "ignored");
}

TEST(QuantizePlan, PrintsEveryTensor) {
  const TestModel model(SynthModel("tiny"));
  const auto plan = model.Plan(OptionsFor("int4_g32"));
  const std::string text = FormatPlan(*plan);
  for (const TensorInfo& info : model.checkpoint->tensors()) {
    EXPECT_TRUE(absl::StrContains(text, info.name)) << text;
  }
  EXPECT_TRUE(absl::StrContains(text, "14 of 21 tensors quantized")) << text;
  EXPECT_TRUE(absl::StrContains(text,
                                "layout: qeff, compressed-tensors cannot "
                                "hold 2 of the layers"))
      << text;
}

TEST(QuantizePlan, SkipsBadTensorsOnRequest) {
  const std::string folder = SynthModel("tiny-mistral");
  const std::string up = "model.layers.0.mlp.up_proj.weight";
  PoisonTestTensor(folder, up, 3 * 64 + 7);
  const TestModel model(folder);
  QuantizeOptions options = OptionsFor("int4_g32");
  EXPECT_EQ(model.Plan(options)->NumSkipped(), 0);
  options.skip_bad_tensors = true;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->NumSkipped(), 1);
  const PlannedTensor& tensor = FindPlanned(*plan, kUp);
  EXPECT_EQ(tensor.action, Action::kKeep);
  EXPECT_TRUE(tensor.skipped);
  EXPECT_EQ(tensor.reason, "element [3, 7] is NaN or infinite");
  EXPECT_TRUE(absl::StrContains(FormatPlan(*plan), "1 linear layers kept"));
  const auto config = ParseQuantizationConfig(plan->config, "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)->ignore(),
            std::vector<std::string>(
                {"lm_head", "model.layers.0.mlp.up_proj"}));
}

TEST(QuantizePlan, NormsAndEmbeddingsCannotBeSkipped) {
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.1.input_layernorm.weight"}) {
    const std::string folder = SynthModel("tiny");
    PoisonTestTensor(folder, name, 5);
    QuantizeOptions options = OptionsFor("int4_g32");
    options.skip_bad_tensors = true;
    const auto status = TestModel(folder).Plan(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), name)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(),
                                  "only linear layers can be skipped"))
        << status;
  }
}

void ExpectError(const absl::StatusOr<QuantizePlan>& plan,
                 absl::StatusCode code, absl::string_view message) {
  EXPECT_EQ(plan.status().code(), code) << plan.status();
  EXPECT_TRUE(absl::StrContains(plan.status().message(), message))
      << plan.status();
}

TEST(QuantizePlan, Errors) {
  const TestModel model(SynthModel("tiny"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.ignore = ".";
  ExpectError(model.Plan(options), absl::StatusCode::kInvalidArgument,
              "no linear layer is left");
  options.ignore = "(";
  ExpectError(model.Plan(options), absl::StatusCode::kInvalidArgument,
              "pattern '('");
  options = OptionsFor("int4_g32");
  options.scheme.bits = 9;
  ExpectError(model.Plan(options), absl::StatusCode::kInvalidArgument,
              "unknown scheme");
  options = OptionsFor("int4_g32");
  options.modules["lm_head"] = options.scheme;
  ExpectError(model.Plan(options), absl::StatusCode::kInvalidArgument,
              "no linear layer \"lm_head\" in the blocks");
}

TEST(QuantizePlan, ModelsThatAreQuantizedAlready) {
  const std::string folder = SynthModel("tiny");
  Json config = ReadJsonFile(folder + "/config.json", 1 << 20).value();
  config["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  WriteTestFile(folder + "/config.json", WriteJson(config));
  const TestModel model(folder);
  ExpectError(model.Plan(OptionsFor("int4_g32")),
              absl::StatusCode::kInvalidArgument,
              "quantized already (quant_method \"gptq\")");
}

TEST(QuantizePlan, WeightsThatAreMissingOrOfAnotherShape) {
  const std::string folder = SynthModel("tiny");
  Json config = ReadJsonFile(folder + "/config.json", 1 << 20).value();
  config["intermediate_size"] = 180;
  WriteTestFile(folder + "/config.json", WriteJson(config));
  ExpectError(TestModel(folder).Plan(OptionsFor("int4_g32")),
              absl::StatusCode::kInvalidArgument, "[180, 64]");
  config["intermediate_size"] = 172;
  config["num_hidden_layers"] = 3;
  WriteTestFile(folder + "/config.json", WriteJson(config));
  ExpectError(TestModel(folder).Plan(OptionsFor("int4_g32")),
              absl::StatusCode::kNotFound, "layers.2.");
}

TEST(QuantizePlan, BlocksOfGgml) {
  const TestModel model(SynthBlockModel());
  QuantizeOptions options = OptionsFor("q4_k");
  options.lm_head = ParseQuantScheme("q8_0").value();
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout, QuantizedLayout::kQeff);
  EXPECT_EQ(FindPlanned(*plan, kUp).BitsPerWeight(), 4.5);
  EXPECT_EQ(FindPlanned(*plan, "lm_head.weight").BitsPerWeight(), 8.5);
  const PlannedTensor& down = FindPlanned(*plan, kDown);
  EXPECT_EQ(down.action, Action::kKeep);
  EXPECT_EQ(down.reason, "rows of 172 are not whole blocks of 256");
  const auto config = ParseQuantizationConfig(plan->config, "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)->Find(ModuleOf(FindPlanned(*plan, kUp)))->ggml,
            GgmlType::kQ4_K);
  EXPECT_EQ((*config)->Find("lm_head")->ggml, GgmlType::kQ8_0);
  EXPECT_FALSE((*config)->Find(ModuleOf(down)).has_value());
  EXPECT_TRUE(absl::StrContains(FormatPlan(*plan), "q4_k"));

  const TestModel narrow(SynthModel("tiny-mistral"));
  const auto none = narrow.Plan(OptionsFor("q6_k"));
  EXPECT_EQ(none.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(
      absl::StrContains(none.status().message(), "are not whole blocks of 256"))
      << none.status();
}

TEST(QuantizePlan, Codebooks) {
  // Rows of 64, and of 172 in down_proj.
  const TestModel model(SynthModel("tiny"));
  const auto layout = [&](const char* scheme) {
    const auto plan = model.Plan(OptionsFor(scheme));
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan->layout;
  };
  EXPECT_EQ(layout("fp8_e4m3"), QuantizedLayout::kCompressedTensors);
  EXPECT_EQ(layout("mxfp4"), QuantizedLayout::kQeff);
  EXPECT_EQ(layout("nf4"), QuantizedLayout::kQeff);
  const auto plan = model.Plan(OptionsFor("mxfp6"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(FindPlanned(*plan, kUp).BitsPerWeight(), 6.25);
  EXPECT_EQ(FindPlanned(*plan, kUp).scale_dtype(), DType::kU8);
  EXPECT_TRUE(absl::StrContains(plan->layout_reason, "it has no mxfp6"))
      << plan->layout_reason;

  // All rows of this one are whole groups.
  const TestModel whole(SynthModel("tiny-mistral"));
  const auto mxfp4 = whole.Plan(OptionsFor("mxfp4"));
  ASSERT_TRUE(mxfp4.ok()) << mxfp4.status();
  EXPECT_EQ(mxfp4->layout, QuantizedLayout::kCompressedTensors);
  EXPECT_EQ(mxfp4->config["quantization_config"]["format"],
            "mxfp4-pack-quantized");

  QuantizeOptions wrong = OptionsFor("nf4");
  wrong.scheme.symmetric = false;
  ExpectError(model.Plan(wrong), absl::StatusCode::kInvalidArgument,
              "nf4: asymmetric: it has no zero points");
  wrong = OptionsFor("mxfp6");
  wrong.scheme.bits = 4;
  ExpectError(model.Plan(wrong), absl::StatusCode::kInvalidArgument,
              "mxfp6: expected 6 bits, found 4");
}

}  // namespace
}  // namespace qeff
