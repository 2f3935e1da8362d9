// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/model.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/util/aligned.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Checks weights of one model; `where` is "block 3 " or empty.
class Checker {
 public:
  explicit Checker(std::string where) : where_(std::move(where)) {}

  // What a matrix must be like besides its number of columns.
  enum class Kind { kAny, kFloatRows, kFloatRowsOrMore };

  absl::Status Matrix(absl::string_view name, const DeviceMatrix& m,
                      int64_t min_rows, int64_t cols, Kind kind) const {
    const bool rows_fit = kind == Kind::kFloatRowsOrMore ? m.rows >= min_rows
                                                         : m.rows == min_rows;
    if (!rows_fit || m.cols != cols) {
      return InvalidInputError(where_, name, ": expected shape [", min_rows,
                               ", ", cols, "], found [", m.rows, ", ", m.cols,
                               "]");
    }
    if (kind != Kind::kAny && !m.has_float_rows()) {
      return InvalidInputError(where_, name,
                               ": expected rows of floats, found ",
                               WeightLayoutName(m.layout));
    }
    return Layout(absl::StrCat(where_, name), m);
  }

  // A vector of `size` numbers when wanted, none otherwise.
  absl::Status Vector(absl::string_view name, const std::vector<float>& v,
                      bool wanted, int64_t size) const {
    const int64_t expected = wanted ? size : 0;
    if (static_cast<int64_t>(v.size()) != expected) {
      return InvalidInputError(where_, name, ": expected ", expected,
                               " elements, found ", v.size());
    }
    for (size_t i = 0; i < v.size(); ++i) {
      if (std::isfinite(v[i])) continue;
      return InvalidInputError(where_, name, ": element ", i, " is ", v[i]);
    }
    return absl::OkStatus();
  }

  // Of what is divided by.
  absl::Status Positive(absl::string_view name,
                        const std::vector<float>& v) const {
    for (size_t i = 0; i < v.size(); ++i) {
      if (v[i] >= std::numeric_limits<float>::min()) continue;
      return InvalidInputError(where_, name, ": element ", i, " is ", v[i]);
    }
    return absl::OkStatus();
  }

  absl::Status Linear(absl::string_view name, const DeviceLinear& linear,
                      int64_t rows, int64_t cols, bool bias) const {
    QEFF_RETURN_IF_ERROR(Matrix(absl::StrCat(name, " weight"), linear.weight,
                                rows, cols, Kind::kAny));
    return Vector(absl::StrCat(name, " bias"), linear.bias, bias, rows);
  }

  absl::Status Norm(absl::string_view name, const DeviceNorm& norm,
                    const TransformerSpec& spec) const {
    QEFF_RETURN_IF_ERROR(Vector(absl::StrCat(name, " weight"), norm.weight,
                                true, spec.hidden_size));
    return Vector(absl::StrCat(name, " bias"), norm.bias, spec.norm_bias,
                  spec.hidden_size);
  }

  // `matrix` is not to be there.
  absl::Status Absent(absl::string_view name,
                      const DeviceLinear& linear) const {
    if (linear.weight.empty() && linear.bias.empty()) return absl::OkStatus();
    return InvalidInputError(where_, name, ": the model has no use for it");
  }

 private:
  // That type, sizes and alignment fit the layout.
  static absl::Status Layout(absl::string_view place, const DeviceMatrix& m) {
    bool fits = false;
    if (const auto* rows = std::get_if<FloatRows>(&m.layout)) {
      if (!MatVecSupports(rows->dtype)) {
        return InvalidInputError(place,
                                 ": expected type F32, BF16 or F16, found ",
                                 DTypeName(rows->dtype));
      }
      const CheckedU64 bytes =
          CheckedU64(m.rows) * m.cols * DTypeBytes(rows->dtype);
      fits = bytes.valid() && bytes.value() == m.bytes.size();
    } else if (const auto* ints = std::get_if<PackedIntLayout>(&m.layout)) {
      fits = FitsPacked(*ints, m);
    } else {
      fits = FitsPacked(std::get<PackedBF16Layout>(m.layout), m);
    }
    if (m.input_scale != 0 &&
        !(IsActivationScale(m.input_scale) &&
          std::holds_alternative<PackedIntLayout>(m.layout))) {
      return InvalidInputError(place, ": input scale ", m.input_scale,
                               " does not fit ", WeightLayoutName(m.layout));
    }
    if (fits) return absl::OkStatus();
    return InvalidInputError(place, ": ", m.bytes.size(),
                             " bytes do not fit shape [", m.rows, ", ", m.cols,
                             "] of ", WeightLayoutName(m.layout));
  }

  template <class Layout>
  static bool FitsPacked(const Layout& layout, const DeviceMatrix& m) {
    return layout.rows() == m.rows && layout.cols() == m.cols &&
           layout.total_bytes() == static_cast<int64_t>(m.bytes.size()) &&
           reinterpret_cast<uintptr_t>(m.bytes.data()) % kAlignment == 0;
  }

  std::string where_;
};

absl::Status CheckBlock(const DeviceBlock& block, const TransformerSpec& spec,
                        int64_t index) {
  const Checker check(absl::StrCat("block ", index, " "));
  const int64_t hidden = spec.hidden_size;
  QEFF_RETURN_IF_ERROR(
      check.Norm("attention norm", block.attention_norm, spec));
  QEFF_RETURN_IF_ERROR(check.Norm("ffn norm", block.ffn_norm, spec));
  QEFF_RETURN_IF_ERROR(
      check.Vector("q norm", block.q_norm, spec.qk_norm, spec.head_dim));
  QEFF_RETURN_IF_ERROR(
      check.Vector("k norm", block.k_norm, spec.qk_norm, spec.head_dim));
  const bool keys = !block.cached_keys.empty();
  QEFF_RETURN_IF_ERROR(check.Vector("cached key mean", block.cached_keys.mean,
                                    keys, spec.kv_size()));
  QEFF_RETURN_IF_ERROR(check.Vector("cached key scale", block.cached_keys.scale,
                                    keys, spec.kv_size()));
  QEFF_RETURN_IF_ERROR(
      check.Positive("cached key scale", block.cached_keys.scale));
  QEFF_RETURN_IF_ERROR(
      check.Linear("q", block.q, spec.q_size(), hidden, spec.qkv_bias));
  QEFF_RETURN_IF_ERROR(
      check.Linear("k", block.k, spec.kv_size(), hidden, spec.qkv_bias));
  QEFF_RETURN_IF_ERROR(
      check.Linear("v", block.v, spec.kv_size(), hidden, spec.qkv_bias));
  QEFF_RETURN_IF_ERROR(check.Linear("o", block.o, hidden, spec.q_size(),
                                    spec.attention_output_bias));
  QEFF_RETURN_IF_ERROR(spec.gated_ffn
                           ? check.Linear("gate", block.gate, spec.ffn_size,
                                          hidden, spec.ffn_bias)
                           : check.Absent("gate", block.gate));
  QEFF_RETURN_IF_ERROR(
      check.Linear("up", block.up, spec.ffn_size, hidden, spec.ffn_bias));
  return check.Linear("down", block.down, hidden, spec.ffn_size, spec.ffn_bias);
}

}  // namespace

DeviceMatrix OwnedMatrix(Matrix<float> matrix) {
  const auto owner = std::make_shared<const Matrix<float>>(std::move(matrix));
  DeviceMatrix device;
  device.rows = owner->rows();
  device.cols = owner->cols();
  device.bytes =
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(owner->data()),
                          owner->span().size() * sizeof(float));
  device.owner = owner;
  return device;
}

std::string WeightLayoutName(const WeightLayout& layout) {
  if (const auto* packed = std::get_if<PackedIntLayout>(&layout)) {
    const std::string name = absl::StrCat(packed->sparse() ? "sparse " : "",
                                          "int", packed->bits());
    return packed->groups() == 1
               ? name
               : absl::StrCat(name, " in groups of ", packed->group_elems());
  }
  if (const auto* rows = std::get_if<FloatRows>(&layout)) {
    return std::string(DTypeName(rows->dtype));
  }
  return std::get<PackedBF16Layout>(layout).sparse() ? "sparse BF16 packed"
                                                     : "BF16 packed";
}

absl::Status ValidateModel(const DeviceModel& model) {
  const TransformerSpec& spec = model.spec;
  QEFF_RETURN_IF_ERROR(ValidateSpec(spec));
  const Checker check("");
  QEFF_RETURN_IF_ERROR(check.Matrix("token embedding", model.token_embedding,
                                    spec.vocab_size, spec.hidden_size,
                                    Checker::Kind::kFloatRows));
  if (spec.position == PositionKind::kLearned) {
    QEFF_RETURN_IF_ERROR(check.Matrix(
        "position embedding", model.position_embedding, spec.max_positions,
        spec.hidden_size, Checker::Kind::kFloatRowsOrMore));
  } else if (!model.position_embedding.empty()) {
    return InvalidInputError("position embedding: the model has no use for it");
  }
  if (static_cast<int64_t>(model.blocks.size()) != spec.num_layers) {
    return InvalidInputError("blocks: expected ", spec.num_layers, ", found ",
                             model.blocks.size());
  }
  for (size_t i = 0; i < model.blocks.size(); ++i) {
    QEFF_RETURN_IF_ERROR(
        CheckBlock(model.blocks[i], spec, static_cast<int64_t>(i)));
  }
  QEFF_RETURN_IF_ERROR(check.Norm("final norm", model.final_norm, spec));
  if (spec.tied_lm_head && model.lm_head.weight.empty()) {
    return check.Absent("lm_head", model.lm_head);
  }
  return check.Linear("lm_head", model.lm_head, spec.vocab_size,
                      spec.hidden_size, /*bias=*/false);
}

}  // namespace qeff
