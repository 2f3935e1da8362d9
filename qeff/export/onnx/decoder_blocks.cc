// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/decoder_blocks.h"

#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/export/onnx/onnx_functions.h"
#include "qeff/transformer/rope.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Value = OnnxGraph::Value;

// What stands where a key must not be seen: float16 has it, too.
constexpr float kMasked = -65504.0F;

const LinearModule* Find(const BlockNames& names, LinearRole role) {
  for (const LinearModule& module : names.linears) {
    if (module.role == role) return &module;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<Value> DecoderBlocks::Embed(const Value& ids,
                                           const Value& positions) {
  QEFF_ASSIGN_OR_RETURN(
      Value x, linears_.Rows(model_.map().token_embedding, ids, "/embed"));
  if (spec_.position == PositionKind::kLearned) {
    QEFF_ASSIGN_OR_RETURN(const Value rows,
                          linears_.Rows(model_.map().position_embedding,
                                        positions, "/positions"));
    x = graph_.Node("Add", {x, rows}, "/embed/Add");
  }
  return x;
}

void DecoderBlocks::SetPositions(const Value& positions,
                                 const Value& seen_positions,
                                 const Value& hidden) {
  const Value keys =
      Unsqueeze(&graph_, seen_positions, {1}, "/mask/keys");  // [1, 1, C]
  const Value queries =
      Unsqueeze(&graph_, positions, {2}, "/mask/queries");  // [B, S, 1]
  Value masked = graph_.Node("Greater", {keys, queries}, "/mask/Greater");
  if (spec_.sliding_window > 0) {
    const Value oldest = graph_.Node(
        "Sub", {queries, graph_.Int(spec_.sliding_window)}, "/mask/oldest");
    const Value behind =
        graph_.Node("LessOrEqual", {keys, oldest}, "/mask/behind");
    masked = graph_.Node("Or", {masked, behind}, "/mask/Or");
  }
  if (!hidden.empty()) {
    masked = graph_.Node("Or", {masked, hidden}, "/mask/hidden");
  }
  masked_ = Unsqueeze(&graph_, masked, {1, 2}, "/mask");  // [B, 1, 1, S, C]
  if (spec_.position == PositionKind::kAlibi) {
    const Value distance = graph_.Node("Sub", {keys, queries}, "/alibi/Sub");
    const Value as_float = Cast(&graph_, distance, DType::kF32, "/alibi/Cast");
    const Value by_head =
        Unsqueeze(&graph_, as_float, {1, 2}, "/alibi/Unsqueeze");
    const std::vector<double> slopes = AlibiSlopes(spec_);
    const std::vector<float> values(slopes.begin(), slopes.end());
    const Value slope = graph_.Internal(
        "alibi_slopes", DType::kF32,
        {spec_.num_kv_heads, spec_.num_heads / spec_.num_kv_heads, 1, 1},
        AsBytes(absl::MakeConstSpan(values)));
    bias_ = graph_.Node("Mul", {by_head, slope}, "/alibi");
  }
  if (spec_.position == PositionKind::kRope) {
    cos_ = RopeRows("rope_cos", false, positions);
    sin_ = RopeRows("rope_sin", true, positions);
  }
}

absl::StatusOr<Value> DecoderBlocks::Block(int64_t block, const Value& x,
                                           See see) {
  graph_.SetBlock(block);
  const std::string scope = absl::StrCat("/blocks.", block);
  const BlockNames& names = model_.map().blocks[static_cast<size_t>(block)];
  QEFF_ASSIGN_OR_RETURN(const Value normed, Norm(names.attention_norm, x,
                                                 scope + "/attention_norm"));
  QEFF_ASSIGN_OR_RETURN(Heads heads, Project(names, normed, scope));
  const Seen seen = see(heads.k, heads.v, block, scope);
  const Value mixed = Attend(heads.q, seen, scope + "/attention");
  QEFF_ASSIGN_OR_RETURN(const Value attended,
                        linears_.Apply(*Find(names, LinearRole::kO), mixed,
                                       scope + "/attention/o"));
  const Value middle = graph_.Node("Add", {x, attended}, scope + "/Add");
  QEFF_ASSIGN_OR_RETURN(const Value fed, FeedForward(names, middle, scope));
  const Value y = graph_.Node("Add", {middle, fed}, scope + "/Add_1");
  graph_.SetBlock(-1);
  return y;
}

absl::StatusOr<Value> DecoderBlocks::FinalNorm(const Value& x) {
  return Norm(model_.map().final_norm, x, "/final_norm");
}

absl::StatusOr<Value> DecoderBlocks::LmHead(const Value& x) {
  return spec_.tied_lm_head
             ? linears_.ApplyTied(x, "/lm_head")
             : linears_.Apply(model_.map().lm_head, x, "/lm_head");
}

Value DecoderBlocks::RopeRows(const char* name, bool sine,
                              const Value& positions) {
  const auto table =
      std::make_shared<const RopeTable>(spec_, spec_.max_positions);
  const size_t row_bytes =
      static_cast<size_t>(spec_.head_dim / 2) * sizeof(float);
  const auto write = [table, row_bytes,
                      sine](const OnnxData::Sink& sink) -> absl::Status {
    for (int64_t p = 0; p < table->positions(); ++p) {
      const float* const row = sine ? table->sin(p) : table->cos(p);
      QEFF_RETURN_IF_ERROR(
          sink(static_cast<uint64_t>(p) * row_bytes,
               {reinterpret_cast<const uint8_t*>(row), row_bytes}));
    }
    return absl::OkStatus();
  };
  const Value rows = graph_.External(
      name, DType::kF32, {spec_.max_positions, spec_.head_dim / 2},
      data_.AddProduced(row_bytes * static_cast<uint64_t>(spec_.max_positions),
                        write));
  const std::string scope = absl::StrCat("/rope/", name);
  return Unsqueeze(&graph_, graph_.Node("Gather", {rows, positions}, scope),
                   {1}, scope + "/Unsqueeze");
}

absl::StatusOr<Value> DecoderBlocks::Norm(const NormNames& names,
                                          const Value& x,
                                          const std::string& scope) {
  QEFF_ASSIGN_OR_RETURN(const Value weight, linears_.Tensor(names.weight));
  onnx::NodeProto* node;
  const float epsilon = static_cast<float>(spec_.norm_epsilon);
  if (spec_.norm == NormKind::kRmsNorm) {
    const Value y = graph_.Node(kNormDomain, "CustomRMSNorm", {x, weight},
                                scope + "/CustomRMSNorm", &node);
    SetAttribute("epsilon", epsilon, node);
    return y;
  }
  Value bias;
  if (!names.bias.empty()) {
    QEFF_ASSIGN_OR_RETURN(bias, linears_.Tensor(names.bias));
  }
  const std::string name = scope + "/LayerNormalization";
  const Value y =
      bias.empty()
          ? graph_.Node("LayerNormalization", {x, weight}, name, &node)
          : graph_.Node("LayerNormalization", {x, weight, bias}, name, &node);
  SetAttribute("axis", int64_t{-1}, node);
  SetAttribute("epsilon", epsilon, node);
  return y;
}

Value DecoderBlocks::ToHeads(const Value& x, int64_t heads,
                             const std::string& scope) {
  return Reshape(&graph_, x, {0, 0, heads, spec_.head_dim}, scope + "/Reshape");
}

absl::StatusOr<DecoderBlocks::Heads> DecoderBlocks::Project(
    const BlockNames& names, const Value& x, const std::string& scope) {
  std::vector<Value> parts;
  if (const LinearModule* fused = Find(names, LinearRole::kQkv)) {
    QEFF_ASSIGN_OR_RETURN(Value all,
                          linears_.Apply(*fused, x, scope + "/attention/qkv"));
    all = Clipped(all, scope + "/attention/qkv/Clip");
    parts = SplitInto(&graph_, all, -1,
                      {spec_.q_size(), spec_.kv_size(), spec_.kv_size()},
                      scope + "/attention/qkv/Slice");
  } else {
    for (const auto& [role, name] : {std::make_pair(LinearRole::kQ, "q"),
                                     std::make_pair(LinearRole::kK, "k"),
                                     std::make_pair(LinearRole::kV, "v")}) {
      const std::string part = absl::StrCat(scope, "/attention/", name);
      QEFF_ASSIGN_OR_RETURN(const Value y,
                            linears_.Apply(*Find(names, role), x, part));
      parts.push_back(Clipped(y, part + "/Clip"));
    }
  }
  const std::string attention = scope + "/attention";
  Value q = ToHeads(parts[0], spec_.num_heads, attention + "/q");
  Value k = ToHeads(parts[1], spec_.num_kv_heads, attention + "/k");
  Value v = ToHeads(parts[2], spec_.num_kv_heads, attention + "/v");
  if (spec_.qk_norm) {
    QEFF_ASSIGN_OR_RETURN(q, Norm(names.q_norm, q, attention + "/q_norm"));
    QEFF_ASSIGN_OR_RETURN(k, Norm(names.k_norm, k, attention + "/k_norm"));
  }
  q = Transpose(&graph_, q, {0, 2, 1, 3}, attention + "/q/heads");
  k = Transpose(&graph_, k, {0, 2, 1, 3}, attention + "/k/heads");
  v = Transpose(&graph_, v, {0, 2, 1, 3}, attention + "/v/heads");
  if (spec_.position == PositionKind::kRope) {
    q = Rotate(q, attention + "/q/rope");
    k = Rotate(k, attention + "/k/rope");
  }
  return Heads{q, k, v};
}

Value DecoderBlocks::Clipped(const Value& x, const std::string& name) {
  if (spec_.clip_qkv <= 0) return x;
  const float limit = static_cast<float>(spec_.clip_qkv);
  return graph_.Node("Clip", {x, graph_.Float(-limit), graph_.Float(limit)},
                     name);
}

Value DecoderBlocks::Rotate(const Value& x, const std::string& scope) {
  const int64_t half = spec_.head_dim / 2;
  const std::vector<Value> halves =
      SplitInto(&graph_, x, -1, {half, half}, scope + "/Slice");
  const auto mul = [&](int part, const Value& by, const char* name) {
    return graph_.Node("Mul", {halves[static_cast<size_t>(part)], by},
                       absl::StrCat(scope, "/", name));
  };
  const Value first = graph_.Node(
      "Sub", {mul(0, cos_, "Mul"), mul(1, sin_, "Mul_1")}, scope + "/Sub");
  const Value second = graph_.Node(
      "Add", {mul(1, cos_, "Mul_2"), mul(0, sin_, "Mul_3")}, scope + "/Add");
  return Concat(&graph_, {first, second}, -1, scope + "/Concat");
}

Value DecoderBlocks::Attend(const Value& q, const Seen& seen,
                            const std::string& scope) {
  const int64_t kv = spec_.num_kv_heads;
  const int64_t group = spec_.num_heads / kv;
  // Heads that share keys are one axis, along which keys are broadcast.
  const Value scaled = graph_.Node(
      "Mul", {q, graph_.Float(static_cast<float>(spec_.attention_scale))},
      scope + "/scale");
  const Value queries = Reshape(
      &graph_, scaled, {0, kv, group, -1, spec_.head_dim}, scope + "/q/groups");
  const Value turned =
      Transpose(&graph_, seen.keys, {0, 1, 3, 2}, scope + "/keys/Transpose");
  const Value keys = Unsqueeze(&graph_, turned, {2}, scope + "/keys");
  Value scores =
      graph_.Node("MatMul", {queries, keys}, scope + "/scores/MatMul");
  if (!bias_.empty()) {
    scores = graph_.Node("Add", {scores, bias_}, scope + "/scores/Add");
  }
  scores = graph_.Node("Where", {masked_, graph_.Float(kMasked), scores},
                       scope + "/scores/Where");
  onnx::NodeProto* node;
  const Value shares =
      graph_.Node("Softmax", {scores}, scope + "/Softmax", &node);
  SetAttribute("axis", int64_t{-1}, node);
  const Value values = Unsqueeze(&graph_, seen.values, {2}, scope + "/values");
  const Value mixed =
      graph_.Node("MatMul", {shares, values}, scope + "/MatMul");
  const Value by_token =
      Transpose(&graph_, mixed, {0, 3, 1, 2, 4}, scope + "/Transpose");
  return Reshape(&graph_, by_token, {0, 0, spec_.q_size()}, scope + "/Reshape");
}

Value DecoderBlocks::Activate(const Value& x, const std::string& scope) {
  const auto node = [&](const char* op, OnnxGraph::Values inputs,
                        const char* name) {
    return graph_.Node(op, inputs, absl::StrCat(scope, "/", name));
  };
  switch (spec_.activation) {
    case Activation::kRelu:
      return node("Relu", {x}, "Relu");
    case Activation::kSilu:
      return node("Mul", {x, node("Sigmoid", {x}, "Sigmoid")}, "Mul");
    case Activation::kGelu:
    case Activation::kGeluTanh:
      break;
  }
  Value inner;
  if (spec_.activation == Activation::kGelu) {
    inner = node(
        "Erf", {node("Div", {x, graph_.Float(std::sqrt(2.0F))}, "Div")}, "Erf");
  } else {
    constexpr float kRootTwoOverPi = 0.79788456080286535588F;
    const Value square = node("Mul", {x, x}, "square");
    const Value cube = node("Mul", {square, x}, "cube");
    const Value bent = node("Mul", {cube, graph_.Float(0.044715F)}, "bent");
    const Value sum = node("Add", {x, bent}, "sum");
    inner =
        node("Tanh", {node("Mul", {sum, graph_.Float(kRootTwoOverPi)}, "u")},
             "Tanh");
  }
  const Value gate = node("Add", {inner, graph_.Float(1.0F)}, "gate");
  return node("Mul", {node("Mul", {x, graph_.Float(0.5F)}, "half"), gate},
              "Mul");
}

absl::StatusOr<Value> DecoderBlocks::FeedForward(const BlockNames& names,
                                                 const Value& x,
                                                 const std::string& scope) {
  QEFF_ASSIGN_OR_RETURN(const Value normed,
                        Norm(names.ffn_norm, x, scope + "/ffn_norm"));
  const std::string ffn = scope + "/ffn";
  QEFF_ASSIGN_OR_RETURN(Value up, linears_.Apply(*Find(names, LinearRole::kUp),
                                                 normed, ffn + "/up"));
  if (spec_.gated_ffn) {
    QEFF_ASSIGN_OR_RETURN(
        const Value gate,
        linears_.Apply(*Find(names, LinearRole::kGate), normed, ffn + "/gate"));
    up = graph_.Node("Mul", {Activate(gate, ffn + "/activation"), up},
                     ffn + "/Mul");
  } else {
    up = Activate(up, ffn + "/activation");
  }
  return linears_.Apply(*Find(names, LinearRole::kDown), up, ffn + "/down");
}

}  // namespace qeff
