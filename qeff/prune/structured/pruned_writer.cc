// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/pruned_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/prune/structured/slice_weights.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Elements that are held at a time of what is streamed.
constexpr int64_t kChunkElems = 1 << 21;

DType WrittenType(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 ? dtype : DType::kF32;
}

const LinearWeights& WeightsOf(LinearRole role, const BlockWeights& weights) {
  switch (role) {
    case LinearRole::kQ:
      return weights.q;
    case LinearRole::kK:
      return weights.k;
    case LinearRole::kV:
      return weights.v;
    case LinearRole::kO:
      return weights.o;
    case LinearRole::kGate:
      return weights.gate;
    case LinearRole::kUp:
      return weights.up;
    default:
      QEFF_CHECK(role == LinearRole::kDown);
      return weights.down;
  }
}

// The layers that make up `role`, by rows.
std::vector<const LinearWeights*> PartsOf(LinearRole role,
                                          const BlockWeights& weights) {
  if (role == LinearRole::kQkv) return {&weights.q, &weights.k, &weights.v};
  return {&WeightsOf(role, weights)};
}

Shape StoredShape(const LinearModule& module) {
  return module.transposed ? Shape({module.in_features, module.out_features})
                           : Shape({module.out_features, module.in_features});
}

}  // namespace

absl::StatusOr<std::unique_ptr<PrunedWriter>> PrunedWriter::Create(
    const Transformer& model, const StructuredPlan& plan,
    const PrunedConfig& config, const std::string& output) {
  std::unique_ptr<PrunedWriter> result(new PrunedWriter(model, plan, config));
  QEFF_ASSIGN_OR_RETURN(std::vector<TensorInfo> tensors, result->Tensors());
  QEFF_ASSIGN_OR_RETURN(result->writer_,
                        CheckpointWriter::Create(output, std::move(tensors)));
  return result;
}

absl::Status PrunedWriter::Declare(const std::string& name,
                                   const std::string& source,
                                   const Shape& shape,
                                   std::vector<TensorInfo>* tensors) {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(source));
  const DType dtype = WrittenType(view.dtype);
  types_[name] = dtype;
  tensors->push_back({name, dtype, shape});
  return absl::OkStatus();
}

absl::Status PrunedWriter::DeclareNorm(const NormNames& names,
                                       const NormNames& sources, int64_t size,
                                       std::vector<TensorInfo>* tensors) {
  if (names.weight.empty()) return absl::OkStatus();
  QEFF_RETURN_IF_ERROR(
      Declare(names.weight, sources.weight, Shape({size}), tensors));
  if (names.bias.empty()) return absl::OkStatus();
  return Declare(names.bias, sources.bias, Shape({size}), tensors);
}

absl::StatusOr<std::vector<TensorInfo>> PrunedWriter::Tensors() {
  const ModelMap &from = model_.map(), &to = config_.map;
  const TransformerSpec& spec = to.spec;
  const int64_t hidden = spec.hidden_size;
  std::vector<TensorInfo> tensors;
  QEFF_RETURN_IF_ERROR(Declare(to.token_embedding, from.token_embedding,
                               Shape({spec.vocab_size, hidden}), &tensors));
  if (!to.position_embedding.empty()) {
    QEFF_RETURN_IF_ERROR(Declare(to.position_embedding, from.position_embedding,
                                 Shape({spec.max_positions, hidden}),
                                 &tensors));
  }
  for (size_t i = 0; i < to.blocks.size(); ++i) {
    const BlockNames& block = to.blocks[i];
    const BlockNames& source =
        from.blocks[static_cast<size_t>(plan_.layers[i])];
    QEFF_RETURN_IF_ERROR(DeclareNorm(block.attention_norm,
                                     source.attention_norm, hidden, &tensors));
    QEFF_RETURN_IF_ERROR(
        DeclareNorm(block.ffn_norm, source.ffn_norm, hidden, &tensors));
    QEFF_RETURN_IF_ERROR(
        DeclareNorm(block.q_norm, source.q_norm, spec.head_dim, &tensors));
    QEFF_RETURN_IF_ERROR(
        DeclareNorm(block.k_norm, source.k_norm, spec.head_dim, &tensors));
    for (size_t m = 0; m < block.linears.size(); ++m) {
      const LinearModule& module = block.linears[m];
      const std::string& stored = source.linears[m].module;
      QEFF_RETURN_IF_ERROR(Declare(module.module + ".weight",
                                   stored + ".weight", StoredShape(module),
                                   &tensors));
      if (!module.has_bias) continue;
      QEFF_RETURN_IF_ERROR(Declare(module.module + ".bias", stored + ".bias",
                                   Shape({module.out_features}), &tensors));
    }
  }
  QEFF_RETURN_IF_ERROR(
      DeclareNorm(to.final_norm, from.final_norm, hidden, &tensors));
  if (!spec.tied_lm_head) {
    QEFF_RETURN_IF_ERROR(Declare(to.lm_head.module + ".weight",
                                 from.lm_head.module + ".weight",
                                 StoredShape(to.lm_head), &tensors));
  }
  return tensors;
}

absl::Status PrunedWriter::Write(const std::string& name, int64_t first_elem,
                                 absl::Span<const float> values) {
  const DType dtype = types_.at(name);
  const int64_t bytes = static_cast<int64_t>(DTypeBytes(dtype));
  for (size_t begin = 0; begin < values.size();
       begin += static_cast<size_t>(kChunkElems)) {
    const auto part = values.subspan(begin, static_cast<size_t>(kChunkElems));
    stored_.resize(part.size() * DTypeBytes(dtype));
    ConvertFromFloat(part, dtype, absl::MakeSpan(stored_));
    QEFF_RETURN_IF_ERROR(writer_->Write(
        name,
        static_cast<uint64_t>((first_elem + static_cast<int64_t>(begin)) *
                              bytes),
        stored_));
  }
  return absl::OkStatus();
}

absl::Status PrunedWriter::WriteNorm(const NormNames& names,
                                     const NormWeights& norm) {
  if (names.weight.empty()) return absl::OkStatus();
  QEFF_RETURN_IF_ERROR(Write(names.weight, 0, norm.weight));
  return names.bias.empty() ? absl::OkStatus()
                            : Write(names.bias, 0, norm.bias);
}

absl::Status PrunedWriter::WriteLinear(const LinearModule& module,
                                       const BlockWeights& weights) {
  const std::string name = module.module + ".weight";
  Matrix<float> turned;
  if (module.transposed) {
    turned = Matrix<float>(module.in_features, module.out_features);
  }
  int64_t row = 0;
  std::vector<float> bias;
  for (const LinearWeights* part : PartsOf(module.role, weights)) {
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

absl::Status PrunedWriter::WriteBlock(int64_t layer,
                                      const BlockWeights& weights) {
  const BlockNames& names = config_.map.blocks[static_cast<size_t>(layer)];
  QEFF_RETURN_IF_ERROR(WriteNorm(names.attention_norm, weights.attention_norm));
  QEFF_RETURN_IF_ERROR(WriteNorm(names.ffn_norm, weights.ffn_norm));
  QEFF_RETURN_IF_ERROR(WriteNorm(names.q_norm, weights.q_norm));
  QEFF_RETURN_IF_ERROR(WriteNorm(names.k_norm, weights.k_norm));
  for (const LinearModule& module : names.linears) {
    QEFF_RETURN_IF_ERROR(WriteLinear(module, weights));
  }
  return absl::OkStatus();
}

absl::Status PrunedWriter::WriteEmbedding(const std::string& name) {
  if (name.empty()) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(name));
  const int64_t rows = view.shape[0], cols = view.shape[1];
  const int64_t kept = static_cast<int64_t>(plan_.hidden.size());
  const int64_t chunk = std::max<int64_t>(kChunkElems / cols, 1);
  Matrix<float> part(std::min(chunk, rows), cols);
  const int64_t row_bytes = cols * static_cast<int64_t>(DTypeBytes(view.dtype));
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    TensorView read = view;
    read.bytes = view.bytes.subspan(static_cast<size_t>(begin * row_bytes),
                                    static_cast<size_t>(count * row_bytes));
    ConvertToFloat(read.dtype, read.bytes,
                   part.span().first(static_cast<size_t>(count * cols)));
    const Matrix<float> sliced =
        SelectCols(part.view().Rows(0, count), plan_.hidden);
    QEFF_RETURN_IF_ERROR(Write(name, begin * kept, sliced.span()));
    model_.checkpoint().Release(read);
  }
  return absl::OkStatus();
}

absl::Status PrunedWriter::WriteLmHead(MatrixView<const float> projection,
                                       ThreadPool& pool) {
  const TransformerSpec& spec = model_.spec();
  const int64_t chunk = std::max<int64_t>(kChunkElems / spec.hidden_size, 1);
  const int64_t kept = static_cast<int64_t>(plan_.hidden.size());
  for (int64_t begin = 0; begin < spec.vocab_size; begin += chunk) {
    const int64_t count = std::min(chunk, spec.vocab_size - begin);
    QEFF_ASSIGN_OR_RETURN(
        const LinearWeights rows,
        model_.LoadLinearRows(-1, LinearRole::kLmHead, begin, count));
    Matrix<float> sliced;
    if (projection.rows() == 0) {
      sliced = SelectCols(rows.weight.view(), plan_.hidden);
    } else {
      sliced = Matrix<float>(count, kept);
      SgemmArgs args;
      args.a = rows.weight.view();
      args.b = projection;
      args.c = sliced.view();
      Sgemm(args, pool);
    }
    QEFF_RETURN_IF_ERROR(Write(config_.map.lm_head.module + ".weight",
                               begin * kept, sliced.span()));
  }
  model_.ReleaseBlock(-1);
  return absl::OkStatus();
}

absl::Status PrunedWriter::WriteEnds(const NormWeights& final_norm,
                                     MatrixView<const float> projection,
                                     ThreadPool& pool) {
  QEFF_RETURN_IF_ERROR(WriteEmbedding(model_.map().token_embedding));
  QEFF_RETURN_IF_ERROR(WriteEmbedding(model_.map().position_embedding));
  QEFF_RETURN_IF_ERROR(WriteNorm(config_.map.final_norm, final_norm));
  return model_.spec().tied_lm_head ? absl::OkStatus()
                                    : WriteLmHead(projection, pool);
}

absl::Status PrunedWriter::Commit() {
  QEFF_ASSIGN_OR_RETURN(const auto files, ReadOtherFiles(model_.checkpoint()));
  QEFF_RETURN_IF_ERROR(model_.checkpoint().VerifyUnchanged());
  return writer_->Commit(config_.config, files);
}

}  // namespace qeff
