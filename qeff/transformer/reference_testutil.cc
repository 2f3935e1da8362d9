// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/reference_testutil.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using Vector = std::vector<double>;
using Rows = std::vector<Vector>;

constexpr int64_t kVocab = 20;

Json BaseConfig(const std::string& family) {
  if (family == "gpt2") {
    return {{"model_type", "gpt2"}, {"n_embd", 24},     {"n_layer", 2},
            {"n_head", 6},          {"vocab_size", 20}, {"n_positions", 48}};
  }
  if (family == "mpt") {
    return {{"model_type", "mpt"},
            {"d_model", 24},
            {"n_layers", 2},
            {"n_heads", 6},
            {"vocab_size", 20},
            {"max_seq_len", 48},
            {"attn_config", {{"alibi", true}}}};
  }
  Json config = {{"model_type", family},     {"hidden_size", 24},
                 {"intermediate_size", 40},  {"num_hidden_layers", 2},
                 {"num_attention_heads", 6}, {"num_key_value_heads", 3},
                 {"vocab_size", 20},         {"max_position_embeddings", 64},
                 {"rms_norm_eps", 1e-5},     {"rope_theta", 100.0}};
  if (family == "qwen3") config["head_dim"] = 4;
  return config;
}

// Adds tensors with random values to a model.
class Builder {
 public:
  explicit Builder(TestModel* model) : model_(model) {}

  void Matrix(const std::string& name, int64_t rows, int64_t cols) {
    Fill(name, Shape({rows, cols}), 0.0f, 0.35f);
  }
  void Vector(const std::string& name, int64_t size, float mean) {
    Fill(name, Shape({size}), mean, 0.2f);
  }
  void Linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    Matrix(name + ".weight", out, in);
    if (bias) Vector(name + ".bias", out, 0.0f);
  }
  void Norm(const std::string& name, int64_t size, bool bias) {
    Vector(name + ".weight", size, 1.0f);
    if (bias) Vector(name + ".bias", size, 0.0f);
  }

 private:
  void Fill(const std::string& name, const Shape& shape, float mean,
            float deviation) {
    model_->Add(name, shape);
    const Random random(/*seed=*/5, stream_++);
    std::vector<float>& values = model_->tensors.back().values;
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = mean + deviation * random.NormalAt(i);
    }
  }

  TestModel* model_;
  uint64_t stream_ = 0;
};

int64_t Int(const Json& config, const char* key, int64_t fallback = -1) {
  return config.contains(key) && !config[key].is_null()
             ? config[key].get<int64_t>()
             : fallback;
}
double Number(const Json& config, const char* key, double fallback) {
  return config.contains(key) && !config[key].is_null()
             ? config[key].get<double>()
             : fallback;
}
bool Bool(const Json& config, const char* key, bool fallback) {
  return config.value(key, fallback);
}

void AddLlamaLike(const Json& c, const std::string& prefix, Builder build) {
  const std::string family = c["model_type"];
  const int64_t hidden = c["hidden_size"], ffn = c["intermediate_size"];
  const int64_t heads = c["num_attention_heads"];
  const int64_t kv_heads = Int(c, "num_key_value_heads", heads);
  const int64_t d = Int(c, "head_dim", hidden / heads);
  const bool attention_bias = Bool(c, "attention_bias", false);
  const bool qkv_bias = family == "qwen2" || attention_bias;
  const bool o_bias = family != "qwen2" && attention_bias;
  const bool mlp_bias = Bool(c, "mlp_bias", false);
  build.Matrix(prefix + "embed_tokens.weight", kVocab, hidden);
  for (int64_t i = 0; i < Int(c, "num_hidden_layers"); ++i) {
    const std::string p = absl::StrCat(prefix, "layers.", i, ".");
    build.Norm(p + "input_layernorm", hidden, false);
    build.Norm(p + "post_attention_layernorm", hidden, false);
    build.Linear(p + "self_attn.q_proj", heads * d, hidden, qkv_bias);
    build.Linear(p + "self_attn.k_proj", kv_heads * d, hidden, qkv_bias);
    build.Linear(p + "self_attn.v_proj", kv_heads * d, hidden, qkv_bias);
    build.Linear(p + "self_attn.o_proj", hidden, heads * d, o_bias);
    build.Linear(p + "mlp.gate_proj", ffn, hidden, mlp_bias);
    build.Linear(p + "mlp.up_proj", ffn, hidden, mlp_bias);
    build.Linear(p + "mlp.down_proj", hidden, ffn, mlp_bias);
    if (family != "qwen3") continue;
    build.Norm(p + "self_attn.q_norm", d, false);
    build.Norm(p + "self_attn.k_norm", d, false);
  }
  build.Norm(prefix + "norm", hidden, false);
  if (!Bool(c, "tie_word_embeddings", false)) {
    build.Matrix("lm_head.weight", kVocab, hidden);
  }
}

void AddGpt2(const Json& c, const std::string& prefix, Builder build) {
  const int64_t hidden = c["n_embd"], inner = Int(c, "n_inner", 4 * hidden);
  // Conv1D: [in, out].
  const auto conv = [&](const std::string& name, int64_t in, int64_t out) {
    build.Matrix(name + ".weight", in, out);
    build.Vector(name + ".bias", out, 0.0f);
  };
  build.Matrix(prefix + "wte.weight", kVocab, hidden);
  build.Matrix(prefix + "wpe.weight", c["n_positions"], hidden);
  for (int64_t i = 0; i < Int(c, "n_layer"); ++i) {
    const std::string p = absl::StrCat(prefix, "h.", i, ".");
    build.Norm(p + "ln_1", hidden, true);
    build.Norm(p + "ln_2", hidden, true);
    conv(p + "attn.c_attn", hidden, 3 * hidden);
    conv(p + "attn.c_proj", hidden, hidden);
    conv(p + "mlp.c_fc", hidden, inner);
    conv(p + "mlp.c_proj", inner, hidden);
  }
  build.Norm(prefix + "ln_f", hidden, true);
  if (!Bool(c, "tie_word_embeddings", true)) {
    build.Matrix("lm_head.weight", kVocab, hidden);
  }
}

void AddMpt(const Json& c, const std::string& prefix, Builder build) {
  const int64_t hidden = c["d_model"];
  const int64_t ffn = hidden * Int(c, "expansion_ratio", 4);
  build.Matrix(prefix + "wte.weight", kVocab, hidden);
  for (int64_t i = 0; i < Int(c, "n_layers"); ++i) {
    const std::string p = absl::StrCat(prefix, "blocks.", i, ".");
    build.Norm(p + "norm_1", hidden, false);
    build.Norm(p + "norm_2", hidden, false);
    build.Linear(p + "attn.Wqkv", 3 * hidden, hidden, false);
    build.Linear(p + "attn.out_proj", hidden, hidden, false);
    build.Linear(p + "ffn.up_proj", ffn, hidden, false);
    build.Linear(p + "ffn.down_proj", hidden, ffn, false);
  }
  build.Norm(prefix + "norm_f", hidden, false);
  if (!Bool(c, "tie_word_embeddings", true)) {
    build.Matrix("lm_head.weight", kVocab, hidden);
  }
}

// The forward pass of one sequence.
class Reference {
 public:
  explicit Reference(const TestModel& model) : c_(model.config) {
    for (const TestTensor& tensor : model.tensors) {
      tensors_[tensor.name] = &tensor;
    }
  }

  Rows Logits(const std::vector<int32_t>& tokens) {
    const std::string family = c_["model_type"];
    if (family == "gpt2") return Gpt2(tokens);
    if (family == "mpt") return Mpt(tokens);
    return LlamaLike(tokens);
  }

 private:
  const TestTensor& Tensor(const std::string& name) const {
    QEFF_CHECK(tensors_.count(name) == 1);
    return *tensors_.at(name);
  }
  std::string Prefix(const std::string& usual, const std::string& name) const {
    return tensors_.count(usual + name) != 0 ? usual : "";
  }

  Vector RowOf(const std::string& name, int64_t row) const {
    const TestTensor& t = Tensor(name);
    const int64_t n = t.shape[1];
    return Vector(t.values.begin() + row * n, t.values.begin() + row * n + n);
  }

  // x W^T + b; `conv`: W is stored as [in, out].
  Rows Linear(const std::string& name, const Rows& x, bool conv) const {
    const TestTensor& w = Tensor(name + ".weight");
    const int64_t out = w.shape[conv ? 1 : 0], in = w.shape[conv ? 0 : 1];
    Rows y(x.size(), Vector(static_cast<size_t>(out)));
    for (size_t r = 0; r < x.size(); ++r) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = tensors_.count(name + ".bias") != 0
                         ? Tensor(name + ".bias").values[o]
                         : 0.0;
        for (int64_t i = 0; i < in; ++i) {
          sum += x[r][i] * w.values[conv ? i * out + o : o * in + i];
        }
        y[r][o] = sum;
      }
    }
    return y;
  }

  Rows RmsNorm(const std::string& name, Rows x, double eps) const {
    const TestTensor& w = Tensor(name + ".weight");
    for (Vector& row : x) {
      double squares = 0;
      for (double v : row) squares += v * v;
      const double rms = std::sqrt(squares / row.size() + eps);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= w.values[i] / rms;
    }
    return x;
  }

  Rows LayerNorm(const std::string& name, Rows x, double eps) const {
    const TestTensor& w = Tensor(name + ".weight");
    for (Vector& row : x) {
      double mean = 0, variance = 0;
      for (double v : row) mean += v / row.size();
      for (double v : row) variance += (v - mean) * (v - mean) / row.size();
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = (row[i] - mean) / std::sqrt(variance + eps) * w.values[i];
        if (tensors_.count(name + ".bias") != 0) {
          row[i] += Tensor(name + ".bias").values[i];
        }
      }
    }
    return x;
  }

  static double Act(const std::string& name, double x) {
    if (name == "silu") return x / (1 + std::exp(-x));
    if (name == "gelu") return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    if (name == "relu") return x > 0 ? x : 0;
    const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1 + std::tanh(u));  // gelu_new, gelu_pytorch_tanh
  }

  static void Add(Rows& x, const Rows& y) {
    for (size_t r = 0; r < x.size(); ++r) {
      for (size_t i = 0; i < x[r].size(); ++i) x[r][i] += y[r][i];
    }
  }

  // Columns [begin, begin + count).
  static Rows Cols(const Rows& x, int64_t begin, int64_t count) {
    Rows y;
    for (const Vector& row : x) {
      y.emplace_back(row.begin() + begin, row.begin() + begin + count);
    }
    return y;
  }

  struct AttentionKind {
    int64_t heads, kv_heads, d;
    double scale;
    int64_t window = 0;
    Vector slopes = {};
  };

  static Rows Attention(const AttentionKind& kind, const Rows& q, const Rows& k,
                        const Rows& v) {
    Rows out(q.size(), Vector(static_cast<size_t>(kind.heads * kind.d)));
    for (int64_t h = 0; h < kind.heads; ++h) {
      const int64_t g = h / (kind.heads / kind.kv_heads) * kind.d;
      for (int64_t i = 0; i < static_cast<int64_t>(q.size()); ++i) {
        Vector p;
        double total = 0;
        for (int64_t j = 0; j <= i; ++j) {
          double s = 0;
          for (int64_t d = 0; d < kind.d; ++d) {
            s += q[i][h * kind.d + d] * k[j][g + d];
          }
          s *= kind.scale;
          if (!kind.slopes.empty()) s -= kind.slopes[h] * (i - j);
          const bool seen = kind.window == 0 || j > i - kind.window;
          p.push_back(seen ? std::exp(s) : 0.0);
          total += p.back();
        }
        for (int64_t j = 0; j <= i; ++j) {
          for (int64_t d = 0; d < kind.d; ++d) {
            out[i][h * kind.d + d] += p[j] / total * v[j][g + d];
          }
        }
      }
    }
    return out;
  }

  double Frequency(int64_t i, int64_t d) const {
    Json scaling = c_.value("rope_scaling", Json());
    double theta = Number(c_, "rope_theta", 10000);
    if (c_.contains("rope_parameters")) {
      scaling = c_["rope_parameters"];
      theta = Number(scaling, "rope_theta", theta);
    }
    const double f = 1 / std::pow(theta, 2.0 * i / d);
    if (!scaling.is_object()) return f;
    std::string type = scaling.value("type", "default");
    type = scaling.value("rope_type", type);
    if (type == "linear") return f / Number(scaling, "factor", 1);
    if (type != "llama3") return f;
    const double wavelength = 2 * M_PI / f;
    const double original =
        Number(scaling, "original_max_position_embeddings", 0);
    const double low = Number(scaling, "low_freq_factor", 0);
    const double high = Number(scaling, "high_freq_factor", 0);
    const double factor = Number(scaling, "factor", 0);
    if (wavelength < original / high) return f;
    if (wavelength > original / low) return f / factor;
    const double smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * f / factor + smooth * f;
  }

  void Rope(Rows& x, int64_t d) const {
    for (size_t position = 0; position < x.size(); ++position) {
      Vector& row = x[position];
      for (size_t head = 0; head < row.size(); head += d) {
        for (int64_t i = 0; i < d / 2; ++i) {
          const double angle = position * Frequency(i, d);
          const double a = row[head + i], b = row[head + i + d / 2];
          row[head + i] = a * std::cos(angle) - b * std::sin(angle);
          row[head + i + d / 2] = b * std::cos(angle) + a * std::sin(angle);
        }
      }
    }
  }

  // RmsNorm of each head.
  Rows HeadNorm(const std::string& name, const Rows& x, int64_t d,
                double eps) const {
    Rows y(x.size());
    for (size_t r = 0; r < x.size(); ++r) {
      for (size_t head = 0; head < x[r].size(); head += d) {
        const Rows normed = RmsNorm(name, Cols({x[r]}, head, d), eps);
        y[r].insert(y[r].end(), normed[0].begin(), normed[0].end());
      }
    }
    return y;
  }

  int64_t Window() const {
    const std::string family = c_["model_type"];
    if (family == "mistral") return Int(c_, "sliding_window", 0);
    const bool used = Bool(c_, "use_sliding_window", false) &&
                      Int(c_, "max_window_layers", 28) == 0;
    return used ? Int(c_, "sliding_window", 0) : 0;
  }

  Rows LlamaLike(const std::vector<int32_t>& tokens) const {
    const std::string prefix = Prefix("model.", "embed_tokens.weight");
    const double eps = c_["rms_norm_eps"];
    const int64_t heads = c_["num_attention_heads"];
    const int64_t d = Int(c_, "head_dim", Int(c_, "hidden_size") / heads);
    const std::string act = c_.value("hidden_act", "silu");
    const AttentionKind kind{heads, Int(c_, "num_key_value_heads", heads), d,
                             1 / std::sqrt(static_cast<double>(d)), Window()};
    Rows x;
    for (int32_t id : tokens) {
      x.push_back(RowOf(prefix + "embed_tokens.weight", id));
    }
    for (int64_t l = 0; l < Int(c_, "num_hidden_layers"); ++l) {
      const std::string p = absl::StrCat(prefix, "layers.", l, ".");
      const std::string a = p + "self_attn.";
      const Rows n = RmsNorm(p + "input_layernorm", x, eps);
      Rows q = Linear(a + "q_proj", n, false);
      Rows k = Linear(a + "k_proj", n, false);
      const Rows v = Linear(a + "v_proj", n, false);
      if (c_["model_type"] == "qwen3") {
        q = HeadNorm(a + "q_norm", q, d, eps);
        k = HeadNorm(a + "k_norm", k, d, eps);
      }
      Rope(q, d);
      Rope(k, d);
      Add(x, Linear(a + "o_proj", Attention(kind, q, k, v), false));
      const Rows m = RmsNorm(p + "post_attention_layernorm", x, eps);
      Rows gate = Linear(p + "mlp.gate_proj", m, false);
      const Rows up = Linear(p + "mlp.up_proj", m, false);
      for (size_t r = 0; r < gate.size(); ++r) {
        for (size_t i = 0; i < gate[r].size(); ++i) {
          gate[r][i] = Act(act, gate[r][i]) * up[r][i];
        }
      }
      Add(x, Linear(p + "mlp.down_proj", gate, false));
    }
    x = RmsNorm(prefix + "norm", x, eps);
    return Linear(Bool(c_, "tie_word_embeddings", false)
                      ? prefix + "embed_tokens"
                      : "lm_head",
                  x, false);
  }

  Rows Gpt2(const std::vector<int32_t>& tokens) const {
    const std::string prefix = Prefix("transformer.", "wte.weight");
    const double eps = Number(c_, "layer_norm_epsilon", 1e-5);
    const int64_t hidden = c_["n_embd"], heads = c_["n_head"];
    const int64_t d = hidden / heads;
    const double scale = Bool(c_, "scale_attn_weights", true)
                             ? 1 / std::sqrt(static_cast<double>(d))
                             : 1.0;
    const std::string act = c_.value("activation_function", "gelu_new");
    Rows x, positions;
    for (size_t i = 0; i < tokens.size(); ++i) {
      x.push_back(RowOf(prefix + "wte.weight", tokens[i]));
      positions.push_back(
          RowOf(prefix + "wpe.weight", static_cast<int64_t>(i)));
    }
    Add(x, positions);
    for (int64_t l = 0; l < Int(c_, "n_layer"); ++l) {
      const std::string p = absl::StrCat(prefix, "h.", l, ".");
      const Rows qkv =
          Linear(p + "attn.c_attn", LayerNorm(p + "ln_1", x, eps), true);
      Add(x, Linear(p + "attn.c_proj",
                    Attention({heads, heads, d, scale}, Cols(qkv, 0, hidden),
                              Cols(qkv, hidden, hidden),
                              Cols(qkv, 2 * hidden, hidden)),
                    true));
      Rows inner = Linear(p + "mlp.c_fc", LayerNorm(p + "ln_2", x, eps), true);
      for (Vector& row : inner) {
        for (double& value : row) value = Act(act, value);
      }
      Add(x, Linear(p + "mlp.c_proj", inner, true));
    }
    x = LayerNorm(prefix + "ln_f", x, eps);
    return Linear(
        Bool(c_, "tie_word_embeddings", true) ? prefix + "wte" : "lm_head", x,
        false);
  }

  // 2^(-max k / P) for k = 1 .. P, P the next power of two: all of them when
  // P = heads, else first those of even, then those of odd k.
  static Vector Slopes(int64_t heads, double max) {
    int64_t power = 1;
    while (power < heads) power *= 2;
    Vector all, slopes;
    for (int64_t k = 1; k <= power; ++k) {
      all.push_back(std::pow(2.0, -max * k / power));
    }
    if (power == heads) return all;
    for (size_t i = 1; i < all.size(); i += 2) slopes.push_back(all[i]);
    for (size_t i = 0; i < all.size(); i += 2) slopes.push_back(all[i]);
    slopes.resize(static_cast<size_t>(heads));
    return slopes;
  }

  Rows Mpt(const std::vector<int32_t>& tokens) const {
    const std::string prefix = Prefix("transformer.", "wte.weight");
    const double eps = Number(c_, "layer_norm_epsilon", 1e-5);
    const int64_t hidden = c_["d_model"], heads = c_["n_heads"];
    const int64_t d = hidden / heads;
    const Json& attn = c_["attn_config"];
    const double clip = Number(attn, "clip_qkv", 1e30);
    const AttentionKind kind{
        heads,
        heads,
        d,
        Number(attn, "softmax_scale", 1 / std::sqrt(static_cast<double>(d))),
        0,
        Slopes(heads, Number(attn, "alibi_bias_max", 8))};
    Rows x;
    for (int32_t id : tokens) x.push_back(RowOf(prefix + "wte.weight", id));
    for (int64_t l = 0; l < Int(c_, "n_layers"); ++l) {
      const std::string p = absl::StrCat(prefix, "blocks.", l, ".");
      Rows qkv =
          Linear(p + "attn.Wqkv", LayerNorm(p + "norm_1", x, eps), false);
      for (Vector& row : qkv) {
        for (double& value : row) value = std::clamp(value, -clip, clip);
      }
      Add(x, Linear(p + "attn.out_proj",
                    Attention(kind, Cols(qkv, 0, hidden),
                              Cols(qkv, hidden, hidden),
                              Cols(qkv, 2 * hidden, hidden)),
                    false));
      Rows inner =
          Linear(p + "ffn.up_proj", LayerNorm(p + "norm_2", x, eps), false);
      for (Vector& row : inner) {
        for (double& value : row) value = Act("gelu", value);
      }
      Add(x, Linear(p + "ffn.down_proj", inner, false));
    }
    x = LayerNorm(prefix + "norm_f", x, eps);
    return Linear(
        Bool(c_, "tie_word_embeddings", true) ? prefix + "wte" : "lm_head", x,
        false);
  }

  const Json& c_;
  std::map<std::string, const TestTensor*> tensors_;
};

}  // namespace

void TestModel::Add(const std::string& name, const Shape& shape) {
  tensors.push_back(
      {name, shape, std::vector<float>(shape.num_elements().value())});
}

void TestModel::Remove(const std::string& name) {
  tensors.erase(
      std::remove_if(tensors.begin(), tensors.end(),
                     [&](const TestTensor& t) { return t.name == name; }),
      tensors.end());
}

TestTensor* TestModel::Find(const std::string& name) {
  for (TestTensor& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

TestModel MakeTestModel(const std::string& family, const std::string& changes,
                        bool with_prefix) {
  TestModel model;
  model.config = BaseConfig(family);
  const Json patch = *ParseJson(changes, changes);
  for (const auto& [key, value] : patch.items()) model.config[key] = value;
  const Builder build(&model);
  if (family == "gpt2") {
    AddGpt2(model.config, with_prefix ? "transformer." : "", build);
  } else if (family == "mpt") {
    AddMpt(model.config, with_prefix ? "transformer." : "", build);
  } else {
    AddLlamaLike(model.config, with_prefix ? "model." : "", build);
  }
  return model;
}

std::shared_ptr<const Checkpoint> OpenTestModel(const TestModel& model,
                                                DType dtype) {
  const std::string folder = MakeTestFolder();
  WriteTestCheckpoint(folder, WriteJson(model.config), model.tensors, dtype);
  return *Checkpoint::Open(folder);
}

Matrix<double> ReferenceLogits(const TestModel& model,
                               const std::vector<int32_t>& tokens) {
  const Rows rows = Reference(model).Logits(tokens);
  Matrix<double> logits(static_cast<int64_t>(rows.size()), kVocab);
  for (size_t r = 0; r < rows.size(); ++r) {
    std::copy(rows[r].begin(), rows[r].end(),
              logits.row(static_cast<int64_t>(r)));
  }
  return logits;
}

double RelativeError(const Matrix<float>& a, const Matrix<double>& b) {
  QEFF_CHECK(a.rows() == b.rows() && a.cols() == b.cols());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.span().size(); ++i) {
    const double d = a.data()[i] - b.data()[i];
    difference += d * d;
    norm += b.data()[i] * b.data()[i];
  }
  return std::sqrt(difference / norm);
}

std::vector<int32_t> TestTokens(int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>((7 * i + i * i / 11) % kVocab));
  }
  return tokens;
}

}  // namespace qeff
