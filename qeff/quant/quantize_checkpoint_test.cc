// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_checkpoint.h"

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/quantization_config.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/quant/format_plan.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Quantizes `model` to a new folder, verifies that and returns it.
std::string Quantize(const TestModel& model, const QuantizePlan& plan,
                     int threads = 2) {
  const std::string output = MakeTestFolder() + "/out";
  const auto pool = CreateThreadPool(threads).value();
  absl::Status status =
      QuantizeCheckpoint(*model.checkpoint, plan, output, *pool);
  EXPECT_TRUE(status.ok()) << status;
  status = VerifyQuantized(*model.checkpoint, plan, output, *pool);
  EXPECT_TRUE(status.ok()) << status;
  return output;
}

// The matrix [rows, cols] that a planned tensor holds in the source.
std::vector<float> Original(const TestModel& model,
                            const PlannedTensor& tensor) {
  const TensorView view = model.checkpoint->Get(tensor.name).value();
  std::vector<float> stored(static_cast<size_t>(view.num_elements()));
  ConvertToFloat(view.dtype, view.bytes, absl::MakeSpan(stored));
  if (!tensor.transposed) return stored;
  std::vector<float> turned(stored.size());
  for (int64_t r = 0; r < tensor.rows; ++r) {
    for (int64_t c = 0; c < tensor.cols; ++c) {
      turned[static_cast<size_t>(r * tensor.cols + c)] =
          stored[static_cast<size_t>(c * tensor.rows + r)];
    }
  }
  return turned;
}

// Relative root-mean-square error of a quantized layer, through the reader.
double RelativeError(const TestModel& model, const PlannedTensor& tensor,
                     const Checkpoint& written) {
  const auto config =
      ParseQuantizationConfig(written.config(), written.config_path());
  EXPECT_TRUE(config.ok()) << config.status();
  const auto matrix = ReadQuantizedMatrix(written, tensor.module, **config);
  EXPECT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->rows, tensor.rows);
  EXPECT_EQ(matrix->cols, tensor.cols);
  const std::vector<float> original = Original(model, tensor);
  std::vector<float> values(original.size());
  EXPECT_TRUE(DequantizeRows(*matrix, 0, matrix->rows, values.data()).ok());
  double error = 0, power = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(values[i] - original[i], 2);
    power += std::pow(original[i], 2);
  }
  return std::sqrt(error / power);
}

struct Case {
  const char* shape;
  DType dtype;
  const char* scheme;
  bool symmetric;
  double max_error;  // relative; about 1.2 times that on normal weights
};

class QuantizeCheckpointTest : public testing::TestWithParam<Case> {};

TEST_P(QuantizeCheckpointTest, ReadsBackCloseToTheOriginal) {
  const Case& c = GetParam();
  const TestModel model(SynthModel(c.shape, c.dtype));
  QuantizeOptions options = OptionsFor(c.scheme);
  options.scheme.symmetric = c.symmetric;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string output = Quantize(model, *plan);
  const auto written = Checkpoint::Open(output).value();
  EXPECT_EQ(written->weight_bytes(), plan->BytesAfter());
  EXPECT_TRUE(MapModel(*written).ok());
  EXPECT_EQ(written->other_files(), model.checkpoint->other_files());
  for (const PlannedTensor& tensor : plan->tensors) {
    SCOPED_TRACE(tensor.name);
    if (tensor.quantized()) {
      // Signed bytes keep the name.
      EXPECT_EQ(written->Has(tensor.name),
                tensor.scheme.inputs != InputCodes::kNone);
      EXPECT_LT(RelativeError(model, tensor, *written), c.max_error);
    } else {
      EXPECT_EQ(written->Get(tensor.name)->bytes,
                model.checkpoint->Get(tensor.name)->bytes);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, QuantizeCheckpointTest,
    testing::Values(Case{"tiny", DType::kBF16, "int8", true, 0.01},
                    Case{"tiny", DType::kF16, "int8", true, 0.01},
                    Case{"tiny", DType::kF32, "int8_g64", false, 0.01},
                    Case{"tiny", DType::kBF16, "int4_g32", true, 0.11},
                    Case{"tiny", DType::kBF16, "int4_g32", false, 0.10},
                    Case{"tiny", DType::kF32, "int4", true, 0.14},
                    Case{"tiny", DType::kBF16, "int3_g64", false, 0.25},
                    Case{"tiny", DType::kBF16, "int2_g64", true, 0.50},
                    Case{"tiny-mistral", DType::kF16, "int4_g32", false, 0.10},
                    Case{"tiny-qwen2", DType::kBF16, "int4_g32", true, 0.11},
                    Case{"tiny-qwen3", DType::kBF16, "int8", true, 0.01},
                    Case{"tiny-gpt2", DType::kF32, "int4_g32", true, 0.11},
                    Case{"tiny-gpt2", DType::kBF16, "int3_g32", false, 0.22},
                    Case{"tiny-mpt", DType::kF16, "int4_g64", true, 0.12},
                    Case{"tiny", DType::kBF16, "w8a8", true, 0.01},
                    Case{"tiny-gpt2", DType::kF32, "w8a8", true, 0.01},
                    Case{"tiny-mpt", DType::kF16, "w8a8", true, 0.01}));

// The example of the header.
absl::Status Example(const std::string& folder, const std::string& output,
                     ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder));
  QEFF_ASSIGN_OR_RETURN(ModelMap map, MapModel(*checkpoint));
  QuantizeOptions options;
  QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("int4_g128"));
  QEFF_ASSIGN_OR_RETURN(QuantizePlan plan,
                        PlanQuantization(*checkpoint, map, options));
  std::fputs(FormatPlan(plan).c_str(), stdout);
  return QuantizeCheckpoint(*checkpoint, plan, output, pool);
}

TEST(QuantizeCheckpoint, Example) {
  const auto pool = CreateThreadPool(1).value();
  const std::string output = MakeTestFolder() + "/out";
  const absl::Status status = Example(SynthModel("tiny"), output, *pool);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Checkpoint::Open(output).ok());
}

TEST(QuantizeCheckpoint, SameBytesForAnyNumberOfThreads) {
  const TestModel model(SynthModel("tiny"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.scheme.symmetric = false;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok());
  const std::string one = Quantize(model, *plan, 1);
  for (int threads : {2, 5}) {
    const std::string more = Quantize(model, *plan, threads);
    ASSERT_EQ(ListTestFolder(one), ListTestFolder(more));
    for (const std::string& name : ListTestFolder(one)) {
      EXPECT_EQ(ReadTestFile(one + "/" + name), ReadTestFile(more + "/" + name))
          << name;
    }
  }
}

TEST(QuantizeCheckpoint, Shards) {
  const TestModel model(SynthModel("tiny-mistral"));
  const auto plan = model.Plan(OptionsFor("int4_g64"));
  ASSERT_TRUE(plan.ok());
  const auto pool = CreateThreadPool(2).value();
  const std::string output = MakeTestFolder() + "/out";
  QuantizeRunOptions options;
  options.writer.max_shard_bytes = 20'000;
  absl::Status status =
      QuantizeCheckpoint(*model.checkpoint, *plan, output, *pool, options);
  ASSERT_TRUE(status.ok()) << status;
  int shards = 0;
  for (const std::string& name : ListTestFolder(output)) {
    shards += absl::EndsWith(name, ".safetensors");
  }
  EXPECT_GT(shards, 3);
  status = VerifyQuantized(*model.checkpoint, *plan, output, *pool);
  EXPECT_TRUE(status.ok()) << status;
}

TEST(QuantizeCheckpoint, UntiedLmHead) {
  const TestModel model(SynthModel("tiny-qwen2"));
  QuantizeOptions options = OptionsFor("int4_g32");
  options.lm_head = ParseQuantScheme("int8").value();
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok());
  const auto written = Checkpoint::Open(Quantize(model, *plan)).value();
  const PlannedTensor& embedding = FindPlanned(*plan, "embed_tokens.weight");
  EXPECT_LT(RelativeError(model, embedding, *written), 0.01);
  EXPECT_TRUE(written->Has(embedding.name));
  const auto map = MapModel(*written);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_FALSE(map->spec.tied_lm_head);
  EXPECT_EQ(map->lm_head.module, "lm_head");
}

TEST(QuantizeCheckpoint, LeastSquares) {
  const std::pair<const char*, bool> cases[] = {
      {"int4_g32", true}, {"int3_g64", false}, {"int8", true}, {"w8a8", true}};
  for (const char* shape : {"tiny", "tiny-gpt2"}) {
    const TestModel model(SynthModel(shape));
    for (const auto& [scheme, symmetric] : cases) {
      SCOPED_TRACE(absl::StrCat(shape, " ", scheme));
      QuantizeOptions options = OptionsFor(scheme);
      options.scheme.symmetric = symmetric;
      const auto nearest =
          Checkpoint::Open(Quantize(model, *model.Plan(options))).value();
      options.rounding = Rounding::kLeastSquares;
      const auto plan = model.Plan(options);
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_TRUE(absl::StrContains(FormatPlan(*plan), "least squared error"));
      const std::string output = Quantize(model, *plan, 1);
      EXPECT_EQ(ReadTestFile(output + "/model.safetensors"),
                ReadTestFile(Quantize(model, *plan, 3) + "/model.safetensors"));
      const auto written = Checkpoint::Open(output).value();
      for (const PlannedTensor& tensor : plan->tensors) {
        if (!tensor.quantized()) continue;
        EXPECT_LE(RelativeError(model, tensor, *written),
                  RelativeError(model, tensor, *nearest) * (1 + 1e-6))
            << tensor.name;
      }
    }
  }
}

// A Llama whose weights the test chooses: pieces of more than one block of
// rows, and values that are not finite.
std::string TinyLlama(int64_t ffn, std::vector<float>* gate) {
  const int64_t hidden = 32;
  std::vector<TestTensor> tensors;
  const auto add = [&](const std::string& name, Shape shape) {
    std::vector<float> values(
        static_cast<size_t>(shape.num_elements().value()));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 64;
    }
    tensors.push_back({name, shape, std::move(values)});
  };
  add("model.embed_tokens.weight", Shape({300, hidden}));
  add("model.norm.weight", Shape({hidden}));
  const std::string block = "model.layers.0.";
  add(block + "input_layernorm.weight", Shape({hidden}));
  add(block + "post_attention_layernorm.weight", Shape({hidden}));
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    add(absl::StrCat(block, "self_attn.", name, ".weight"),
        Shape({hidden, hidden}));
  }
  add(block + "mlp.up_proj.weight", Shape({ffn, hidden}));
  add(block + "mlp.down_proj.weight", Shape({hidden, ffn}));
  add(block + "mlp.gate_proj.weight", Shape({ffn, hidden}));
  if (gate->empty()) {
    *gate = tensors.back().values;
  } else {
    tensors.back().values = *gate;
  }
  const std::string folder = MakeTestFolder();
  WriteTestCheckpoint(folder,
                      absl::StrCat(R"({"model_type": "llama", "hidden_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 300, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "tie_word_embeddings": true,
        "hidden_act": "silu", "intermediate_size": )",
                                   ffn, "}"),
                      tensors);
  return folder;
}

// 40,000 rows of 32 floats are three pieces.
constexpr int64_t kManyRows = 40'000;

TEST(QuantizeCheckpoint, ManyPiecesOfATensor) {
  std::vector<float> gate;
  const TestModel model(TinyLlama(kManyRows, &gate));
  QuantizeOptions options = OptionsFor("int3_g8");
  options.scheme.symmetric = false;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto written = Checkpoint::Open(Quantize(model, *plan)).value();
  for (const PlannedTensor& tensor : plan->tensors) {
    if (!tensor.quantized()) continue;
    EXPECT_LT(RelativeError(model, tensor, *written), 0.15) << tensor.name;
  }
}

TEST(QuantizeCheckpoint, NanAndInfinityNameTensorAndIndexAndLeaveNothing) {
  struct Case {
    float value;
    const char* scheme;
    Rounding rounding;
  };
  const Case cases[] = {{NAN, "int4_g32", Rounding::kRange},
                        {INFINITY, "int4_g32", Rounding::kRange},
                        {-INFINITY, "int4_g32", Rounding::kRange},
                        {NAN, "int4_g32", Rounding::kLeastSquares},
                        {NAN, "q4_0", Rounding::kRange},
                        {1e6f, "q4_0", Rounding::kRange},
                        {NAN, "mxfp4", Rounding::kRange}};
  std::vector<float> gate;
  const std::string folder = TinyLlama(kManyRows, &gate);
  for (const auto& [value, scheme, rounding] : cases) {
    // In the last piece and the one before: the earlier one is reported.
    for (const int64_t index : {39'000 * 32 + 5, 33'000 * 32 + 7}) {
      PoisonTestTensor(folder, "model.layers.0.mlp.gate_proj.weight", index,
                       DType::kF32, value);
    }
    const TestModel model(folder);
    QuantizeOptions options = OptionsFor(scheme);
    options.rounding = rounding;
    const auto plan = model.Plan(options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const std::string parent = MakeTestFolder();
    const auto pool = CreateThreadPool(2).value();
    const absl::Status status =
        QuantizeCheckpoint(*model.checkpoint, *plan, parent + "/out", *pool);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_TRUE(absl::StrContains(
        status.message(),
        "model.layers.0.mlp.gate_proj.weight: element [33000, 7]"))
        << status;
    EXPECT_TRUE(ListTestFolder(parent).empty());
  }
}

TEST(QuantizeCheckpoint, SkippedTensorsAreCopied) {
  const std::string folder = SynthModel("tiny-gpt2");
  const std::string name = "transformer.h.1.mlp.c_fc.weight";
  PoisonTestTensor(folder, name, 9);
  const TestModel model(folder);
  QuantizeOptions options = OptionsFor("int4_g32");
  const auto pool = CreateThreadPool(2).value();
  EXPECT_THAT(QuantizeCheckpoint(*model.checkpoint, *model.Plan(options),
                                 MakeTestFolder() + "/out", *pool)
                  .message(),
              testing::HasSubstr("element [0, 9] is NaN or infinite; "
                                 "--skip_bad_tensors keeps it"));
  options.skip_bad_tensors = true;
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto written = Checkpoint::Open(Quantize(model, *plan)).value();
  EXPECT_EQ(written->Get(name)->bytes, model.checkpoint->Get(name)->bytes);
}

TEST(QuantizeCheckpoint, StaticInputsNeedCalibration) {
  const TestModel model(SynthModel("tiny"));
  const auto plan = model.Plan(OptionsFor("w8a8_static"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto pool = CreateThreadPool(1).value();
  const std::string output = MakeTestFolder() + "/out";
  const absl::Status status =
      QuantizeCheckpoint(*model.checkpoint, *plan, output, *pool);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), testing::HasSubstr("needs calibration data"));
  QuantizeOptions options = OptionsFor("w8a8");
  options.scheme.symmetric = false;
  EXPECT_THAT(model.Plan(options).status().message(),
              testing::HasSubstr("w8a8: asymmetric: it has no zero points"));
}

TEST(QuantizeCheckpoint, ProgressCountsUpAndCanCancel) {
  std::vector<float> gate;
  const TestModel model(TinyLlama(kManyRows, &gate));
  const auto plan = model.Plan(OptionsFor("int8"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto pool = CreateThreadPool(2).value();
  const std::string parent = MakeTestFolder();
  uint64_t last = 0, all = 0;
  bool committing = false;
  QuantizeRunOptions options;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GT(done, last);
    last = done;
    all = total;
    return true;
  };
  options.before_commit = [&] { committing = true; };
  ASSERT_TRUE(QuantizeCheckpoint(*model.checkpoint, *plan, parent + "/done",
                                 *pool, options)
                  .ok());
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, plan->BytesBefore());
  EXPECT_TRUE(committing);

  options.progress = [](uint64_t, uint64_t) { return false; };
  EXPECT_EQ(QuantizeCheckpoint(*model.checkpoint, *plan, parent + "/cancelled",
                               *pool, options)
                .code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(ListTestFolder(parent), std::vector<std::string>({"done"}));
}

TEST(QuantizeCheckpoint, RefusesAnOutputThatExists) {
  const TestModel model(SynthModel("tiny"));
  const auto plan = model.Plan(OptionsFor("int8"));
  const auto pool = CreateThreadPool(1).value();
  const std::string existing = MakeTestFolder();
  EXPECT_EQ(
      QuantizeCheckpoint(*model.checkpoint, *plan, existing, *pool).code(),
      absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(QuantizeCheckpoint(*model.checkpoint, *plan,
                               model.checkpoint->folder(), *pool)
                .code(),
            absl::StatusCode::kAlreadyExists);
}

TEST(QuantizeCheckpoint, VerifyFindsOneChangedByte) {
  const TestModel model(SynthModel("tiny"));
  const auto plan = model.Plan(OptionsFor("int4_g32"));
  const std::string output = Quantize(model, *plan);
  const std::string path = output + "/model.safetensors";
  std::string bytes = ReadTestFile(path);
  bytes[bytes.size() - 100] ^= 1;
  WriteTestFile(path, bytes);
  const auto pool = CreateThreadPool(2).value();
  const absl::Status status =
      VerifyQuantized(*model.checkpoint, *plan, output, *pool);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "is not what was to be"));
}

TEST(QuantizeCheckpoint, QuantizedModelsCannotBeQuantizedAgain) {
  const TestModel model(SynthModel("tiny"));
  const auto plan = model.Plan(OptionsFor("int8"));
  const TestModel again(Quantize(model, *plan));
  const auto second = again.Plan(OptionsFor("int8"));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(
      absl::StrContains(second.status().message(), "quantized already"));
}

TEST(QuantizeCheckpoint, BlocksOfGgml) {
  // Of the importance search on normal weights, and a fifth more.
  const std::pair<const char*, double> cases[] = {{"q8_0", 0.007},
                                                  {"q4_0", 0.105},
                                                  {"q4_k", 0.085},
                                                  {"q5_k", 0.043},
                                                  {"q6_k", 0.022}};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const TestModel model(SynthBlockModel(dtype));
    for (const auto& [scheme, max_error] : cases) {
      SCOPED_TRACE(scheme);
      QuantizeOptions options = OptionsFor(scheme);
      options.lm_head = options.scheme;
      const auto plan = model.Plan(options);
      ASSERT_TRUE(plan.ok()) << plan.status();
      const std::string output = Quantize(model, *plan);
      const auto written = Checkpoint::Open(output).value();
      EXPECT_EQ(written->weight_bytes(), plan->BytesAfter());
      int64_t quantized = 0;
      for (const PlannedTensor& tensor : plan->tensors) {
        if (!tensor.quantized()) continue;
        ++quantized;
        EXPECT_LT(RelativeError(model, tensor, *written), max_error)
            << tensor.name;
      }
      EXPECT_EQ(quantized, 2 * 6 + 1);
    }
  }
}

TEST(QuantizeCheckpoint, Codebooks) {
  // On normal weights (codebook_search_test), and a fifth more.
  const std::pair<const char*, double> cases[] = {
      {"nf4", 0.11},   {"nf4_g24", 0.10}, {"fp8_e4m3", 0.033},
      {"mxfp4", 0.14}, {"mxfp6", 0.036},  {"mxint8", 0.012}};
  for (const char* shape : {"tiny", "tiny-gpt2", "tiny-mistral"}) {
    const TestModel model(SynthModel(
        shape, shape == std::string("tiny") ? DType::kF16 : DType::kBF16));
    for (const auto& [scheme, max_error] : cases) {
      SCOPED_TRACE(absl::StrCat(shape, " ", scheme));
      QuantizeOptions options = OptionsFor(scheme);
      options.lm_head = options.scheme;
      const auto plan = model.Plan(options);
      ASSERT_TRUE(plan.ok()) << plan.status();
      const auto written = Checkpoint::Open(Quantize(model, *plan)).value();
      EXPECT_EQ(written->weight_bytes(), plan->BytesAfter());
      EXPECT_TRUE(MapModel(*written).ok());
      for (const PlannedTensor& tensor : plan->tensors) {
        if (!tensor.quantized()) continue;
        EXPECT_LT(RelativeError(model, tensor, *written), max_error)
            << tensor.name;
      }
    }
  }
}

TEST(QuantizeCheckpoint, TransposedWeightsAsBlocks) {
  const TestModel model(SynthModel("tiny-gpt2"));
  const auto plan = model.Plan(OptionsFor("q4_0"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto written = Checkpoint::Open(Quantize(model, *plan)).value();
  for (const PlannedTensor& tensor : plan->tensors) {
    if (!tensor.quantized()) continue;
    EXPECT_LT(RelativeError(model, tensor, *written), 0.105) << tensor.name;
  }
}

}  // namespace
}  // namespace qeff
