// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/model_writer.h"

#include "qeff/kernels/convert/convert.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Elements that are converted at a time.
constexpr size_t kChunkElems = 1 << 21;

class TensorLister {
 public:
  explicit TensorLister(
      absl::FunctionRef<DType(const std::string& name)> type_of)
      : type_of_(type_of) {}

  void Add(const std::string& name, const Shape& shape) {
    if (!name.empty()) tensors_.push_back({name, type_of_(name), shape});
  }

  void AddNorm(const NormNames& names, int64_t size) {
    Add(names.weight, Shape({size}));
    Add(names.bias, Shape({size}));
  }

  void AddLinear(const LinearModule& linear) {
    Add(linear.module + ".weight",
        linear.transposed ? Shape({linear.in_features, linear.out_features})
                          : Shape({linear.out_features, linear.in_features}));
    if (linear.has_bias) {
      Add(linear.module + ".bias", Shape({linear.out_features}));
    }
  }

  std::vector<TensorInfo> Take() { return std::move(tensors_); }

 private:
  absl::FunctionRef<DType(const std::string& name)> type_of_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace

std::vector<const LinearWeights*> PartsOfLinear(LinearRole role,
                                                const BlockWeights& weights) {
  switch (role) {
    case LinearRole::kQ:
      return {&weights.q};
    case LinearRole::kK:
      return {&weights.k};
    case LinearRole::kV:
      return {&weights.v};
    case LinearRole::kQkv:
      return {&weights.q, &weights.k, &weights.v};
    case LinearRole::kO:
      return {&weights.o};
    case LinearRole::kGate:
      return {&weights.gate};
    case LinearRole::kUp:
      return {&weights.up};
    default:
      QEFF_CHECK(role == LinearRole::kDown);
      return {&weights.down};
  }
}

std::vector<TensorInfo> ModelTensors(
    const ModelMap& map,
    absl::FunctionRef<DType(const std::string& name)> type_of) {
  const TransformerSpec& spec = map.spec;
  TensorLister lister(type_of);
  lister.Add(map.token_embedding, Shape({spec.vocab_size, spec.hidden_size}));
  lister.Add(map.position_embedding,
             Shape({spec.max_positions, spec.hidden_size}));
  for (const BlockNames& block : map.blocks) {
    lister.AddNorm(block.attention_norm, spec.hidden_size);
    lister.AddNorm(block.ffn_norm, spec.hidden_size);
    lister.AddNorm(block.q_norm, spec.head_dim);
    lister.AddNorm(block.k_norm, spec.head_dim);
    for (const LinearModule& linear : block.linears) lister.AddLinear(linear);
  }
  lister.AddNorm(map.final_norm, spec.hidden_size);
  if (!spec.tied_lm_head) lister.AddLinear(map.lm_head);
  return lister.Take();
}

ModelWriter::ModelWriter(const ModelMap& map,
                         const std::vector<TensorInfo>& tensors,
                         std::unique_ptr<CheckpointWriter> writer)
    : map_(map), writer_(std::move(writer)) {
  for (const TensorInfo& tensor : tensors) types_[tensor.name] = tensor.dtype;
}

absl::Status ModelWriter::Write(const std::string& name, int64_t first_elem,
                                absl::Span<const float> values) {
  const DType dtype = types_.at(name);
  for (size_t begin = 0; begin < values.size(); begin += kChunkElems) {
    const auto part = values.subspan(begin, kChunkElems);
    stored_.resize(part.size() * DTypeBytes(dtype));
    ConvertFromFloat(part, dtype, absl::MakeSpan(stored_));
    QEFF_RETURN_IF_ERROR(writer_->Write(
        name, (static_cast<uint64_t>(first_elem) + begin) * DTypeBytes(dtype),
        stored_));
  }
  return absl::OkStatus();
}

absl::Status ModelWriter::WriteNorm(const NormNames& names,
                                    const NormWeights& norm) {
  if (names.weight.empty()) return absl::OkStatus();
  QEFF_RETURN_IF_ERROR(Write(names.weight, 0, norm.weight));
  return names.bias.empty() ? absl::OkStatus()
                            : Write(names.bias, 0, norm.bias);
}

absl::Status ModelWriter::WriteLinear(const LinearModule& module,
                                      const BlockWeights& weights) {
  const std::string name = module.module + ".weight";
  Matrix<float> turned;
  if (module.transposed) {
    turned = Matrix<float>(module.in_features, module.out_features);
  }
  int64_t row = 0;
  std::vector<float> bias;
  for (const LinearWeights* part : PartsOfLinear(module.role, weights)) {
    const Matrix<float>& matrix = part->weight;
    QEFF_CHECK(matrix.cols() == module.in_features);
    if (!module.transposed) {
      QEFF_RETURN_IF_ERROR(Write(name, row * matrix.cols(), matrix.span()));
    } else {
      for (int64_t r = 0; r < matrix.rows(); ++r) {
        for (int64_t c = 0; c < matrix.cols(); ++c) {
          turned.row(c)[row + r] = matrix.row(r)[c];
        }
      }
    }
    row += matrix.rows();
    bias.insert(bias.end(), part->bias.begin(), part->bias.end());
  }
  QEFF_CHECK(row == module.out_features);
  if (module.transposed) QEFF_RETURN_IF_ERROR(Write(name, 0, turned.span()));
  return module.has_bias ? Write(module.module + ".bias", 0, bias)
                         : absl::OkStatus();
}

absl::Status ModelWriter::WriteBlock(int64_t block,
                                     const BlockWeights& weights) {
  const BlockNames& names = map_.blocks[static_cast<size_t>(block)];
  QEFF_RETURN_IF_ERROR(WriteNorm(names.attention_norm, weights.attention_norm));
  QEFF_RETURN_IF_ERROR(WriteNorm(names.ffn_norm, weights.ffn_norm));
  QEFF_RETURN_IF_ERROR(WriteNorm(names.q_norm, weights.q_norm));
  QEFF_RETURN_IF_ERROR(WriteNorm(names.k_norm, weights.k_norm));
  for (const LinearModule& module : names.linears) {
    QEFF_RETURN_IF_ERROR(WriteLinear(module, weights));
  }
  return absl::OkStatus();
}

absl::Status ModelWriter::WriteFinalNorm(const NormWeights& norm) {
  return WriteNorm(map_.final_norm, norm);
}

absl::Status ModelWriter::WriteRows(const std::string& name, int64_t begin,
                                    absl::Span<const float> rows) {
  return Write(name, begin * map_.spec.hidden_size, rows);
}

absl::Status ModelWriter::WriteTokens(int64_t begin,
                                      absl::Span<const float> rows) {
  return WriteRows(map_.token_embedding, begin, rows);
}

absl::Status ModelWriter::WritePositions(int64_t begin,
                                         absl::Span<const float> rows) {
  return WriteRows(map_.position_embedding, begin, rows);
}

absl::Status ModelWriter::WriteLmHead(int64_t begin,
                                      absl::Span<const float> rows) {
  QEFF_CHECK(!map_.spec.tied_lm_head && !map_.lm_head.transposed);
  return WriteRows(map_.lm_head.module + ".weight", begin, rows);
}

}  // namespace qeff
