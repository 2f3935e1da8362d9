// SPDX-License-Identifier: Apache-2.0

#include "qeff/spec/transformer_spec_proto.h"

#include <cstdint>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

proto::NormKind Wire(NormKind kind) {
  switch (kind) {
    case NormKind::kRmsNorm:
      return proto::NORM_RMS;
    case NormKind::kLayerNorm:
      return proto::NORM_LAYER;
  }
  return proto::NORM_UNSPECIFIED;
}

proto::PositionKind Wire(PositionKind kind) {
  switch (kind) {
    case PositionKind::kRope:
      return proto::POSITION_ROPE;
    case PositionKind::kLearned:
      return proto::POSITION_LEARNED;
    case PositionKind::kAlibi:
      return proto::POSITION_ALIBI;
  }
  return proto::POSITION_UNSPECIFIED;
}

proto::Activation Wire(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return proto::ACTIVATION_SILU;
    case Activation::kGelu:
      return proto::ACTIVATION_GELU;
    case Activation::kGeluTanh:
      return proto::ACTIVATION_GELU_TANH;
    case Activation::kRelu:
      return proto::ACTIVATION_RELU;
  }
  return proto::ACTIVATION_UNSPECIFIED;
}

proto::RopeScaling Wire(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kNone:
      return proto::ROPE_SCALING_NONE;
    case RopeScaling::kLinear:
      return proto::ROPE_SCALING_LINEAR;
    case RopeScaling::kLlama3:
      return proto::ROPE_SCALING_LLAMA3;
  }
  return proto::ROPE_SCALING_UNSPECIFIED;
}

// Takes fields out of a message and remembers the first one that is missing.
class FieldReader {
 public:
  template <class From, class To>
  void Take(absl::string_view field, bool has, const From& from, To* to) {
    if constexpr (std::is_enum_v<To>) {
      // The enumerators of a spec count from 0; beyond them Wire gives
      // UNSPECIFIED, which is no value.
      for (uint8_t i = 0; i < 32; ++i) {
        const To candidate = static_cast<To>(i);
        const auto wire = Wire(candidate);
        if (wire == 0) break;
        if (!has || wire != from) continue;
        *to = candidate;
        return;
      }
      Fail(field);
    } else {
      if (!has) Fail(field);
      *to = from;
    }
  }

  const absl::Status& status() const { return status_; }

 private:
  void Fail(absl::string_view field) {
    if (!status_.ok()) return;
    status_ = InvalidInputError(
        field, ": missing, or a value that this version does not know");
  }

  absl::Status status_;
};

void FillProto(const RopeSpec& spec, proto::RopeSpec* m) {
  const auto& [theta, scaling, factor, low, high, original] = spec;
  m->set_theta(theta);
  m->set_scaling(Wire(scaling));
  m->set_factor(factor);
  m->set_low_freq_factor(low);
  m->set_high_freq_factor(high);
  m->set_original_max_positions(original);
}

void TakeRope(const proto::RopeSpec& m, FieldReader* r, RopeSpec* rope) {
  r->Take("rope theta", m.has_theta(), m.theta(), &rope->theta);
  r->Take("rope scaling", m.has_scaling(), m.scaling(), &rope->scaling);
  r->Take("rope factor", m.has_factor(), m.factor(), &rope->factor);
  r->Take("rope low_freq_factor", m.has_low_freq_factor(), m.low_freq_factor(),
          &rope->low_freq_factor);
  r->Take("rope high_freq_factor", m.has_high_freq_factor(),
          m.high_freq_factor(), &rope->high_freq_factor);
  r->Take("rope original_max_positions", m.has_original_max_positions(),
          m.original_max_positions(), &rope->original_max_positions);
}

void TakeSizes(const proto::TransformerSpec& m, FieldReader* r,
               TransformerSpec* spec) {
  r->Take("family", m.has_family(), m.family(), &spec->family);
  r->Take("hidden_size", m.has_hidden_size(), m.hidden_size(),
          &spec->hidden_size);
  r->Take("num_layers", m.has_num_layers(), m.num_layers(), &spec->num_layers);
  r->Take("num_heads", m.has_num_heads(), m.num_heads(), &spec->num_heads);
  r->Take("num_kv_heads", m.has_num_kv_heads(), m.num_kv_heads(),
          &spec->num_kv_heads);
  r->Take("head_dim", m.has_head_dim(), m.head_dim(), &spec->head_dim);
  r->Take("ffn_size", m.has_ffn_size(), m.ffn_size(), &spec->ffn_size);
  r->Take("vocab_size", m.has_vocab_size(), m.vocab_size(), &spec->vocab_size);
  r->Take("max_positions", m.has_max_positions(), m.max_positions(),
          &spec->max_positions);
}

void TakeArchitecture(const proto::TransformerSpec& m, FieldReader* r,
                      TransformerSpec* spec) {
  r->Take("norm", m.has_norm(), m.norm(), &spec->norm);
  r->Take("norm_epsilon", m.has_norm_epsilon(), m.norm_epsilon(),
          &spec->norm_epsilon);
  r->Take("norm_bias", m.has_norm_bias(), m.norm_bias(), &spec->norm_bias);
  r->Take("position", m.has_position(), m.position(), &spec->position);
  TakeRope(m.rope(), r, &spec->rope);
  r->Take("alibi_bias_max", m.has_alibi_bias_max(), m.alibi_bias_max(),
          &spec->alibi_bias_max);
  r->Take("qk_norm", m.has_qk_norm(), m.qk_norm(), &spec->qk_norm);
  r->Take("qkv_bias", m.has_qkv_bias(), m.qkv_bias(), &spec->qkv_bias);
  r->Take("attention_output_bias", m.has_attention_output_bias(),
          m.attention_output_bias(), &spec->attention_output_bias);
  r->Take("attention_scale", m.has_attention_scale(), m.attention_scale(),
          &spec->attention_scale);
  r->Take("clip_qkv", m.has_clip_qkv(), m.clip_qkv(), &spec->clip_qkv);
  r->Take("sliding_window", m.has_sliding_window(), m.sliding_window(),
          &spec->sliding_window);
  r->Take("activation", m.has_activation(), m.activation(), &spec->activation);
  r->Take("gated_ffn", m.has_gated_ffn(), m.gated_ffn(), &spec->gated_ffn);
  r->Take("ffn_bias", m.has_ffn_bias(), m.ffn_bias(), &spec->ffn_bias);
  r->Take("tied_lm_head", m.has_tied_lm_head(), m.tied_lm_head(),
          &spec->tied_lm_head);
}

}  // namespace

proto::TransformerSpec TransformerSpecToProto(const TransformerSpec& spec) {
  const auto& [family, hidden_size, num_layers, num_heads, num_kv_heads,
               head_dim, ffn_size, vocab_size, max_positions, norm,
               norm_epsilon, norm_bias, position, rope, alibi_bias_max, qk_norm,
               qkv_bias, attention_output_bias, attention_scale, clip_qkv,
               sliding_window, activation, gated_ffn, ffn_bias, tied_lm_head,
               bos_token_id, eos_token_ids] = spec;
  proto::TransformerSpec m;
  m.set_family(family);
  m.set_hidden_size(hidden_size);
  m.set_num_layers(num_layers);
  m.set_num_heads(num_heads);
  m.set_num_kv_heads(num_kv_heads);
  m.set_head_dim(head_dim);
  m.set_ffn_size(ffn_size);
  m.set_vocab_size(vocab_size);
  m.set_max_positions(max_positions);
  m.set_norm(Wire(norm));
  m.set_norm_epsilon(norm_epsilon);
  m.set_norm_bias(norm_bias);
  m.set_position(Wire(position));
  FillProto(rope, m.mutable_rope());
  m.set_alibi_bias_max(alibi_bias_max);
  m.set_qk_norm(qk_norm);
  m.set_qkv_bias(qkv_bias);
  m.set_attention_output_bias(attention_output_bias);
  m.set_attention_scale(attention_scale);
  m.set_clip_qkv(clip_qkv);
  m.set_sliding_window(sliding_window);
  m.set_activation(Wire(activation));
  m.set_gated_ffn(gated_ffn);
  m.set_ffn_bias(ffn_bias);
  m.set_tied_lm_head(tied_lm_head);
  m.set_bos_token_id(bos_token_id);
  for (const int64_t id : eos_token_ids) m.add_eos_token_ids(id);
  return m;
}

absl::StatusOr<TransformerSpec> TransformerSpecFromProto(
    const proto::TransformerSpec& message) {
  TransformerSpec spec;
  FieldReader reader;
  TakeSizes(message, &reader, &spec);
  TakeArchitecture(message, &reader, &spec);
  reader.Take("bos_token_id", message.has_bos_token_id(),
              message.bos_token_id(), &spec.bos_token_id);
  spec.eos_token_ids.assign(message.eos_token_ids().begin(),
                            message.eos_token_ids().end());
  QEFF_RETURN_IF_ERROR(reader.status());
  if (!message.unknown_fields().empty() ||
      !message.rope().unknown_fields().empty()) {
    return InvalidInputError("a field that this version does not know");
  }
  return spec;
}

}  // namespace qeff
