// SPDX-License-Identifier: Apache-2.0
//
// Random models are written as checkpoints of each layout and compiled back:
// the engine must give the same bits as on the model that was written.

#include "qeff/compile/compile_in_memory.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/compile/pack_matrix.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/device/package/package_header.h"
#include "qeff/device/reference_model.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {
namespace {

CompileOptions ExactOptions() {
  CompileOptions options;
  options.activations = Activations::kFloat32;
  return options;
}

// Collects the tensors of a checkpoint.
class TensorList {
 public:
  void Matrix(const std::string& name, const DeviceMatrix& m,
              bool transposed = false) {
    TestTensor tensor{name, Shape({m.rows, m.cols}), Values(m)};
    if (transposed) tensor = Transposed(tensor);
    tensors_.push_back(std::move(tensor));
  }

  void Vector(const std::string& name, const std::vector<float>& v) {
    if (v.empty()) return;
    tensors_.push_back({name, Shape({static_cast<int64_t>(v.size())}), v});
  }

  void Norm(const std::string& module, const DeviceNorm& norm) {
    Vector(module + ".weight", norm.weight);
    Vector(module + ".bias", norm.bias);
  }

  void Linear(const std::string& module, const DeviceLinear& linear,
              bool transposed = false) {
    Matrix(module + ".weight", linear.weight, transposed);
    Vector(module + ".bias", linear.bias);
  }

  // q, k and v below one another.
  void Fused(const std::string& module, const DeviceBlock& block,
             bool transposed) {
    TestTensor weight{module + ".weight", Shape(), {}};
    std::vector<float> bias;
    int64_t rows = 0;
    for (const DeviceLinear* part : {&block.q, &block.k, &block.v}) {
      const std::vector<float> values = Values(part->weight);
      weight.values.insert(weight.values.end(), values.begin(), values.end());
      bias.insert(bias.end(), part->bias.begin(), part->bias.end());
      rows += part->weight.rows;
    }
    weight.shape = Shape({rows, block.q.weight.cols});
    if (transposed) weight = Transposed(weight);
    tensors_.push_back(std::move(weight));
    Vector(module + ".bias", bias);
  }

  const std::vector<TestTensor>& tensors() const { return tensors_; }

 private:
  static std::vector<float> Values(const DeviceMatrix& m) {
    std::vector<float> values(static_cast<size_t>(m.rows * m.cols));
    ReadFloats(TensorView{m.view().dtype, Shape({m.rows, m.cols}), m.bytes}, 0,
               absl::MakeSpan(values));
    return values;
  }

  static TestTensor Transposed(const TestTensor& t) {
    const int64_t rows = t.shape[0], cols = t.shape[1];
    TestTensor result{t.name, Shape({cols, rows}), {}};
    for (int64_t c = 0; c < cols; ++c) {
      for (int64_t r = 0; r < rows; ++r) {
        result.values.push_back(t.values[static_cast<size_t>(r * cols + c)]);
      }
    }
    return result;
  }

  std::vector<TestTensor> tensors_;
};

TensorList LlamaTensors(const DeviceModel& model) {
  TensorList list;
  list.Matrix("model.embed_tokens.weight", model.token_embedding);
  for (size_t i = 0; i < model.blocks.size(); ++i) {
    const DeviceBlock& block = model.blocks[i];
    const std::string at = absl::StrCat("model.layers.", i, ".");
    list.Norm(at + "input_layernorm", block.attention_norm);
    list.Norm(at + "post_attention_layernorm", block.ffn_norm);
    list.Vector(at + "self_attn.q_norm.weight", block.q_norm);
    list.Vector(at + "self_attn.k_norm.weight", block.k_norm);
    list.Linear(at + "self_attn.q_proj", block.q);
    list.Linear(at + "self_attn.k_proj", block.k);
    list.Linear(at + "self_attn.v_proj", block.v);
    list.Linear(at + "self_attn.o_proj", block.o);
    list.Linear(at + "mlp.gate_proj", block.gate);
    list.Linear(at + "mlp.up_proj", block.up);
    list.Linear(at + "mlp.down_proj", block.down);
  }
  list.Norm("model.norm", model.final_norm);
  if (!model.lm_head.weight.empty()) list.Linear("lm_head", model.lm_head);
  return list;
}

TensorList Gpt2Tensors(const DeviceModel& model) {
  TensorList list;
  list.Matrix("wte.weight", model.token_embedding);
  list.Matrix("wpe.weight", model.position_embedding);
  for (size_t i = 0; i < model.blocks.size(); ++i) {
    const DeviceBlock& block = model.blocks[i];
    const std::string at = absl::StrCat("h.", i, ".");
    list.Norm(at + "ln_1", block.attention_norm);
    list.Norm(at + "ln_2", block.ffn_norm);
    list.Fused(at + "attn.c_attn", block, /*transposed=*/true);
    list.Linear(at + "attn.c_proj", block.o, /*transposed=*/true);
    list.Linear(at + "mlp.c_fc", block.up, /*transposed=*/true);
    list.Linear(at + "mlp.c_proj", block.down, /*transposed=*/true);
  }
  list.Norm("ln_f", model.final_norm);
  return list;
}

TensorList MptTensors(const DeviceModel& model) {
  TensorList list;
  list.Matrix("transformer.wte.weight", model.token_embedding);
  for (size_t i = 0; i < model.blocks.size(); ++i) {
    const DeviceBlock& block = model.blocks[i];
    const std::string at = absl::StrCat("transformer.blocks.", i, ".");
    list.Norm(at + "norm_1", block.attention_norm);
    list.Norm(at + "norm_2", block.ffn_norm);
    list.Fused(at + "attn.Wqkv", block, /*transposed=*/false);
    list.Linear(at + "attn.out_proj", block.o);
    list.Linear(at + "ffn.up_proj", block.up);
    list.Linear(at + "ffn.down_proj", block.down);
  }
  list.Norm("transformer.norm_f", model.final_norm);
  return list;
}

constexpr char kSizes[] = R"(
  "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": 40,
  "vocab_size": 50, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
  "hidden_act": "silu")";

constexpr char kGpt2Config[] = R"({"model_type": "gpt2", "n_embd": 24,
  "n_layer": 2, "n_head": 4, "n_inner": 40, "n_positions": 64,
  "vocab_size": 50, "activation_function": "gelu_new"})";

constexpr char kMptConfig[] = R"({"model_type": "mpt", "d_model": 24,
  "n_layers": 2, "n_heads": 6, "expansion_ratio": 2, "max_seq_len": 64,
  "vocab_size": 50, "no_bias": true, "attn_config": {"clip_qkv": 0.5}})";

TransformerSpec Gpt2Spec() {
  TransformerSpec spec = SmallSpec();
  spec.norm = NormKind::kLayerNorm;
  spec.norm_bias = true;
  spec.position = PositionKind::kLearned;
  spec.num_kv_heads = 4;
  spec.qkv_bias = true;
  spec.attention_output_bias = true;
  spec.ffn_bias = true;
  spec.gated_ffn = false;
  spec.activation = Activation::kGeluTanh;
  spec.tied_lm_head = true;
  return spec;
}

TransformerSpec MptSpec() {
  TransformerSpec spec = SmallSpec();
  spec.norm = NormKind::kLayerNorm;
  spec.position = PositionKind::kAlibi;
  spec.num_heads = spec.num_kv_heads = 6;
  spec.head_dim = 4;
  spec.attention_scale = 0.5;
  spec.ffn_size = 48;
  spec.gated_ffn = false;
  spec.activation = Activation::kGelu;
  spec.clip_qkv = 0.5;
  spec.tied_lm_head = true;
  return spec;
}

class CompileInMemoryTest : public ::testing::TestWithParam<DType> {
 protected:
  std::shared_ptr<const DeviceModel> Compile(
      const std::string& config, const TensorList& tensors,
      const CompileOptions& options = ExactOptions()) {
    const std::string folder = MakeTestFolder();
    WriteTestCheckpoint(folder, config, tensors.tensors(), GetParam());
    auto checkpoint = Checkpoint::Open(folder);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) return nullptr;
    auto transformer = Transformer::Load(*checkpoint);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    if (!transformer.ok()) return nullptr;
    ExpectPlanIsWhatComes(**transformer);
    auto model = CompileInMemory(**transformer, options, pool_.get());
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? *model : nullptr;
  }

  // int5 is kept as float32 rows.
  void ExpectPlanIsWhatComes(const Transformer& transformer) {
    for (const char* lm_head : {"keep", "int8", "int4_g32", "int5"}) {
      for (Activations activations :
           {Activations::kFast, Activations::kFloat32}) {
        CompileOptions options;
        options.activations = activations;
        ASSERT_TRUE(ParseLmHead(lm_head, &options).ok());
        const ModelCompiler compiler(transformer, options, pool_.get());
        const auto plan = compiler.Plan();
        ASSERT_TRUE(plan.ok()) << plan.status();
        const DeviceModel& model = plan->model;
        EXPECT_EQ(
            model.lm_head.weight.rows == 0,
            model.spec.tied_lm_head && options.lm_head == LmHeadRule::kKeep);
        VisitMatrices(&model, [&](const TensorId& id, const DeviceMatrix* m) {
          if (m->rows != 0) ExpectComesAs(compiler, id, *m);
        });
      }
    }
  }

  static void ExpectComesAs(const ModelCompiler& compiler, const TensorId& id,
                            const DeviceMatrix& planned) {
    SCOPED_TRACE(TensorName(id));
    EXPECT_TRUE(planned.empty());
    const auto matrix = compiler.CompileMatrix(id, planned);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_EQ(WeightLayoutName(matrix->layout),
              WeightLayoutName(planned.layout));
    EXPECT_EQ(matrix->rows, planned.rows);
    EXPECT_EQ(matrix->cols, planned.cols);
    EXPECT_EQ(matrix->bytes.size(),
              LayoutBytes(planned.layout, planned.rows, planned.cols).value());
    compiler.ReleasePages(id);
  }

  std::vector<float> Logits(std::shared_ptr<const DeviceModel> model) {
    auto engine = Engine::Create(std::move(model), pool_.get(), {16});
    EXPECT_TRUE(engine.ok()) << engine.status();
    if (!engine.ok()) return {};
    const auto logits = (*engine)->Append({3, 1, 4, 1, 5, 49, 2, 6});
    EXPECT_TRUE(logits.ok()) << logits.status();
    return std::vector<float>(logits->begin(), logits->end());
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

// Biases, norms and positions go through the storage type of the checkpoint:
// models with them are compared after the same rounding, by writing what was
// compiled once more.
TEST_P(CompileInMemoryTest, Llama) {
  TransformerSpec spec = SmallSpec();
  const auto written = RandomModel(spec, 1, GetParam());
  const std::string config =
      absl::StrCat(R"({"model_type": "llama",)", kSizes, "}");
  const auto model = Compile(config, LlamaTensors(*written));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->blocks[1].down.weight.view().dtype, GetParam());
  EXPECT_EQ(model->token_embedding.view().dtype, GetParam());
  const auto again = Compile(config, LlamaTensors(*model));
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(Logits(again), Logits(model));
  if (GetParam() == DType::kF32) {
    EXPECT_EQ(Logits(model), Logits(written));
  }
}

TEST_P(CompileInMemoryTest, LlamaWithBiasesAndTiedHead) {
  TransformerSpec spec = SmallSpec();
  spec.qkv_bias = spec.attention_output_bias = spec.ffn_bias = true;
  spec.tied_lm_head = true;
  const auto written = RandomModel(spec, 2, GetParam());
  const std::string config =
      absl::StrCat(R"({"model_type": "llama", "attention_bias": true,
                       "mlp_bias": true, "tie_word_embeddings": true,)",
                   kSizes, "}");
  const auto model = Compile(config, LlamaTensors(*written));
  ASSERT_NE(model, nullptr);
  EXPECT_TRUE(model->lm_head.weight.empty());
  EXPECT_EQ(model->blocks[0].k.bias.size(), 12u);
  const auto again = Compile(config, LlamaTensors(*model));
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(Logits(again), Logits(model));
  if (GetParam() == DType::kF32) {
    EXPECT_EQ(Logits(model), Logits(written));
  }
}

// Transposed matrices become float32 rows with exact activations.
TEST_P(CompileInMemoryTest, Gpt2IsTurnedAndSplit) {
  const auto written = RandomModel(Gpt2Spec(), 3, GetParam());
  const auto model = Compile(kGpt2Config, Gpt2Tensors(*written));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->blocks[0].k.weight.view().dtype, DType::kF32);
  const auto again = Compile(kGpt2Config, Gpt2Tensors(*model));
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(Logits(again), Logits(model));
  if (GetParam() == DType::kF32) {
    EXPECT_EQ(Logits(model), Logits(written));
  }
}

// With fast activations BF16 is turned and packed, as it would be unturned.
TEST_P(CompileInMemoryTest, Gpt2InBF16IsPacked) {
  if (GetParam() != DType::kBF16) return;
  const auto written = RandomModel(Gpt2Spec(), 3, DType::kBF16);
  const auto model =
      Compile(kGpt2Config, Gpt2Tensors(*written), CompileOptions());
  ASSERT_NE(model, nullptr);
  const auto layers = [](const DeviceModel& of) {
    const DeviceBlock& b = of.blocks[0];
    return std::vector<const DeviceMatrix*>{&b.q.weight,  &b.k.weight,
                                            &b.v.weight,  &b.o.weight,
                                            &b.up.weight, &b.down.weight};
  };
  for (size_t i = 0; i < layers(*model).size(); ++i) {
    const DeviceMatrix& from = *layers(*written)[i];
    const DeviceMatrix packed = PackBF16(
        {DType::kBF16, Shape({from.rows, from.cols}), from.bytes}, pool_.get());
    EXPECT_EQ(layers(*model)[i]->bytes, packed.bytes) << "layer " << i;
    EXPECT_EQ(WeightLayoutName(layers(*model)[i]->layout), "BF16 packed");
  }
}

// Zeros are left out of what fast activations meet, unless caches hold it, and
// nothing else changes.
TEST_P(CompileInMemoryTest, PrunedBF16IsSparse) {
  if (GetParam() != DType::kBF16) return;
  const auto written = RandomModel(Gpt2Spec(), 3, DType::kBF16);
  for (DeviceBlock& block : written->blocks) {
    DeviceMatrix& up = block.up.weight;
    ASSERT_EQ(up.cols % 2, 0);
    const auto owner = std::make_shared<std::vector<uint8_t>>(up.bytes.begin(),
                                                              up.bytes.end());
    for (size_t i = 0; i < owner->size(); ++i) {
      if (i / 2 % 2 == 1) (*owner)[i] = 0;  // every second column
    }
    up.bytes = *owner;
    up.owner = owner;
  }
  CompileOptions options;
  options.sparse = SparseRule::kSmaller;
  const auto sparse = Compile(kGpt2Config, Gpt2Tensors(*written), options);
  options.sparse = SparseRule::kFaster;
  const auto cached = Compile(kGpt2Config, Gpt2Tensors(*written), options);
  options.sparse = SparseRule::kNever;
  const auto dense = Compile(kGpt2Config, Gpt2Tensors(*written), options);
  ASSERT_TRUE(sparse != nullptr && cached != nullptr && dense != nullptr);
  const auto name = [](const DeviceModel& of) {
    return WeightLayoutName(of.blocks[0].up.weight.layout);
  };
  EXPECT_EQ(name(*sparse), "sparse BF16 packed");
  EXPECT_EQ(name(*cached), "BF16 packed");
  EXPECT_EQ(name(*dense), "BF16 packed");
  EXPECT_EQ(Logits(sparse), Logits(dense));
}

// The fused matrix is borrowed in three parts.
TEST_P(CompileInMemoryTest, MptIsSplitWhereItIsMapped) {
  const auto written = RandomModel(MptSpec(), 4, GetParam());
  const auto model = Compile(kMptConfig, MptTensors(*written));
  ASSERT_NE(model, nullptr);
  const DeviceBlock& block = model->blocks[0];
  EXPECT_EQ(block.q.weight.view().dtype, GetParam());
  EXPECT_EQ(block.k.weight.bytes.data(),
            block.q.weight.bytes.data() + block.q.weight.bytes.size());
  const auto again = Compile(kMptConfig, MptTensors(*model));
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(Logits(again), Logits(model));
  if (GetParam() == DType::kF32) {
    EXPECT_EQ(Logits(model), Logits(written));
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, CompileInMemoryTest,
                         ::testing::Values(DType::kF32, DType::kBF16,
                                           DType::kF16),
                         [](const ::testing::TestParamInfo<DType>& info) {
                           return std::string(DTypeName(info.param).data(),
                                              DTypeName(info.param).size());
                         });

}  // namespace
}  // namespace qeff
