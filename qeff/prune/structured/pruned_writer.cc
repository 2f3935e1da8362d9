// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/pruned_writer.h"

#include <algorithm>
#include <utility>

#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/prune/structured/slice_weights.h"
#include "qeff/util/check.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Elements that are held at a time of what is streamed.
constexpr int64_t kChunkElems = 1 << 21;

DType WrittenType(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 ? dtype : DType::kF32;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PrunedWriter>> PrunedWriter::Create(
    const Transformer& model, const StructuredPlan& plan,
    const PrunedConfig& config, const std::string& output) {
  std::unique_ptr<PrunedWriter> result(new PrunedWriter(model, plan, config));
  QEFF_ASSIGN_OR_RETURN(const auto types, result->Types());
  const std::vector<TensorInfo> tensors = ModelTensors(
      config.map, [&](const std::string& name) { return types.at(name); });
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointWriter> writer,
                        CheckpointWriter::Create(output, tensors));
  result->writer_.emplace(config.map, tensors, std::move(writer));
  return result;
}

absl::StatusOr<HashMap<std::string, DType>> PrunedWriter::Types() const {
  // What the model is made of, and the result, have the same tensors but for
  // the layers that are gone.
  ModelMap from = model_.map();
  std::vector<BlockNames> blocks;
  for (const int64_t layer : plan_.layers) {
    blocks.push_back(from.blocks[static_cast<size_t>(layer)]);
  }
  from.blocks = std::move(blocks);
  const auto any = [](const std::string&) { return DType::kF32; };
  const std::vector<TensorInfo> sources = ModelTensors(from, any);
  const std::vector<TensorInfo> tensors = ModelTensors(config_.map, any);
  QEFF_CHECK(sources.size() == tensors.size());
  HashMap<std::string, DType> types;
  for (size_t i = 0; i < tensors.size(); ++i) {
    QEFF_ASSIGN_OR_RETURN(const TensorView view,
                          model_.checkpoint().Get(sources[i].name));
    types[tensors[i].name] = WrittenType(view.dtype);
  }
  return types;
}

absl::Status PrunedWriter::WriteBlock(int64_t layer,
                                      const BlockWeights& weights) {
  return writer_->WriteBlock(layer, weights);
}

absl::Status PrunedWriter::WriteEmbedding(
    const std::string& name,
    absl::Status (ModelWriter::*write)(int64_t, absl::Span<const float>)) {
  if (name.empty()) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(name));
  const int64_t rows = view.shape[0], cols = view.shape[1];
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
    QEFF_RETURN_IF_ERROR((*writer_.*write)(begin, sliced.span()));
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
    QEFF_RETURN_IF_ERROR(writer_->WriteLmHead(begin, sliced.span()));
  }
  model_.ReleaseBlock(-1);
  return absl::OkStatus();
}

absl::Status PrunedWriter::WriteEnds(const NormWeights& final_norm,
                                     MatrixView<const float> projection,
                                     ThreadPool& pool) {
  QEFF_RETURN_IF_ERROR(
      WriteEmbedding(model_.map().token_embedding, &ModelWriter::WriteTokens));
  QEFF_RETURN_IF_ERROR(WriteEmbedding(model_.map().position_embedding,
                                      &ModelWriter::WritePositions));
  QEFF_RETURN_IF_ERROR(writer_->WriteFinalNorm(final_norm));
  return model_.spec().tied_lm_head ? absl::OkStatus()
                                    : WriteLmHead(projection, pool);
}

absl::Status PrunedWriter::Commit() {
  QEFF_ASSIGN_OR_RETURN(const auto files, ReadOtherFiles(model_.checkpoint()));
  QEFF_RETURN_IF_ERROR(model_.checkpoint().VerifyUnchanged());
  return writer_->Commit(config_.config, files);
}

}  // namespace qeff
