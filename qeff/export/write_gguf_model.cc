// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/write_gguf_model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/export/ggml_repack.h"
#include "qeff/export/gguf_read_back.h"
#include "qeff/export/gguf_tokenizer.h"
#include "qeff/export/head_rows.h"
#include "qeff/export/stored_types.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/io/gguf_file.h"
#include "qeff/io/gguf_writer.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/ggml/ggml_rows.h"
#include "qeff/kernels/ggml/nearness.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Elements that a thread reads and encodes at once.
constexpr int64_t kChunkElems = int64_t{1} << 17;

void Encode(GgmlType type, absl::Span<const float> values,
            std::vector<uint8_t>* bytes) {
  const GgmlTypeTraits& traits = *FindGgmlType(type);
  bytes->resize(values.size() / traits.block_elems * traits.block_bytes);
  switch (type) {
    case GgmlType::kF32:
      return ConvertFromFloat(values, DType::kF32, absl::MakeSpan(*bytes));
    case GgmlType::kF16:
      return ConvertFromFloat(values, DType::kF16, absl::MakeSpan(*bytes));
    case GgmlType::kBF16:
      return ConvertFromFloat(values, DType::kBF16, absl::MakeSpan(*bytes));
    case GgmlType::kQ4_0:
      return EncodeRowsQ4_0(values, absl::MakeSpan(*bytes));
    case GgmlType::kQ8_0:
      return EncodeRowsQ8_0(values, absl::MakeSpan(*bytes));
    default:
      return EncodeGgmlRow(type, values, /*importance=*/{},
                           absl::MakeSpan(*bytes));
  }
}

std::vector<float> RopeFactors(const TransformerSpec& spec) {
  const std::vector<double> scaled = RopeFrequencies(spec);
  std::vector<float> factors;
  for (size_t i = 0; i < scaled.size(); ++i) {
    const double exponent =
        -2.0 * static_cast<double>(i) / static_cast<double>(spec.head_dim);
    factors.push_back(
        static_cast<float>(std::pow(spec.rope.theta, exponent) / scaled[i]));
  }
  return factors;
}

// The module that `tensor` is made from; its bias has the same.
std::string ModuleOf(const Transformer& model, const GgufModelTensor& tensor) {
  if (tensor.block < 0) return model.map().lm_head.module;
  for (const LinearModule& linear :
       model.map().blocks[static_cast<size_t>(tensor.block)].linears) {
    if (linear.role == tensor.role) return linear.module;
  }
  QEFF_CHECK(false && "a tensor of no layer");
}

// The type of the blocks that `tensor` is made from, if it is.
absl::optional<GgmlType> StoredType(const Transformer& model,
                                    const StoredTypes& stored,
                                    const GgufModelTensor& tensor) {
  if (tensor.source != GgufSource::kLinear) return absl::nullopt;
  const auto found = stored.find(ModuleOf(model, tensor));
  if (found == stored.end()) return absl::nullopt;
  return found->second;
}

class ModelWriter {
 public:
  // `file` is what `writer` writes.
  ModelWriter(const Transformer& model, const GgufModelMap& map,
              const StoredTypes& stored, const GgufFile& file,
              GgufWriter* writer, ThreadPool* pool)
      : model_(model),
        map_(map),
        stored_(stored),
        file_(file),
        writer_(*writer),
        pool_(*pool) {}

  absl::Status Run() {
    for (size_t i = 0; i < map_.tensors.size(); ++i) {
      const GgufModelTensor& tensor = map_.tensors[i];
      QEFF_RETURN_IF_ERROR(WriteTensor(i));
      file_.file().Release(file_.Bytes(*file_.Find(tensor.info.name)));
      const bool last_of_block = i + 1 == map_.tensors.size() ||
                                 map_.tensors[i + 1].block != tensor.block;
      if (last_of_block) model_.ReleaseBlock(tensor.block);
    }
    return absl::OkStatus();
  }

 private:
  // The layer of a tensor that is codes or blocks, or null.
  using Stored = const QuantizedMatrix*;

  absl::Status WriteTensor(size_t index) {
    const GgufModelTensor& tensor = map_.tensors[index];
    if (tensor.source == GgufSource::kPositionEmbedding) {
      QEFF_ASSIGN_OR_RETURN(Matrix<float> table,
                            model_.LoadPositionEmbedding());
      return WriteValues(index, 0, table.span());
    }
    if (tensor.source != GgufSource::kEmbedding &&
        tensor.source != GgufSource::kLinear) {
      QEFF_ASSIGN_OR_RETURN(std::vector<float> values, LoadVector(tensor));
      return WriteValues(index, 0, absl::MakeSpan(values));
    }
    if (!StoredType(model_, stored_, tensor).has_value()) {
      return WriteMatrix(index, nullptr);
    }
    QEFF_ASSIGN_OR_RETURN(
        const QuantizedMatrix matrix,
        ReadQuantizedMatrix(model_.checkpoint(), ModuleOf(model_, tensor),
                            *model_.quantization()));
    return WriteMatrix(index, &matrix);
  }

  absl::StatusOr<std::vector<float>> LoadVector(
      const GgufModelTensor& tensor) const {
    switch (tensor.source) {
      case GgufSource::kRopeFactors:
        return RopeFactors(model_.spec());
      case GgufSource::kLinearBias:
        return model_.LoadLinearBias(tensor.block, tensor.role);
      case GgufSource::kFinalNorm:
      case GgufSource::kFinalNormBias: {
        QEFF_ASSIGN_OR_RETURN(NormWeights norm, model_.LoadFinalNorm());
        return tensor.source == GgufSource::kFinalNorm ? std::move(norm.weight)
                                                       : std::move(norm.bias);
      }
      default:
        break;
    }
    QEFF_ASSIGN_OR_RETURN(BlockWeights norms,
                          model_.LoadBlockNorms(tensor.block));
    switch (tensor.source) {
      case GgufSource::kAttentionNorm:
        return std::move(norms.attention_norm.weight);
      case GgufSource::kAttentionNormBias:
        return std::move(norms.attention_norm.bias);
      case GgufSource::kFfnNorm:
        return std::move(norms.ffn_norm.weight);
      case GgufSource::kFfnNormBias:
        return std::move(norms.ffn_norm.bias);
      case GgufSource::kQNorm:
        return std::move(norms.q_norm.weight);
      default:
        return std::move(norms.k_norm.weight);
    }
  }

  // Rows [begin, begin + count) of a matrix, dequantized.
  absl::StatusOr<Matrix<float>> LoadRows(const GgufModelTensor& tensor,
                                         Stored stored, int64_t begin,
                                         int64_t count) const {
    if (tensor.source == GgufSource::kEmbedding) {
      return model_.LoadTokenEmbeddingRows(begin, count);
    }
    if (stored != nullptr) {
      Matrix<float> rows(count, stored->cols);
      QEFF_RETURN_IF_ERROR(DequantizeRows(*stored, begin, count, rows.data()));
      return rows;
    }
    QEFF_ASSIGN_OR_RETURN(
        LinearWeights rows,
        model_.LoadLinearRows(tensor.block, tensor.role, begin, count));
    return std::move(rows.weight);
  }

  absl::Status WriteRows(size_t index, Stored stored, int64_t begin,
                         int64_t count) {
    const GgufModelTensor& tensor = map_.tensors[index];
    QEFF_ASSIGN_OR_RETURN(Matrix<float> rows,
                          LoadRows(tensor, stored, begin, count));
    if (stored == nullptr) return WriteValues(index, begin, rows.span());
    const GgmlTypeTraits& traits = *FindGgmlType(tensor.info.type);
    const int64_t row_bytes =
        stored->cols / traits.block_elems * traits.block_bytes;
    std::vector<uint8_t> bytes(static_cast<size_t>(count * row_bytes));
    RepackRows(*stored, tensor.info.type, begin, count, absl::MakeSpan(bytes));
    if (tensor.interleave) {
      const int64_t head_dim = model_.spec().head_dim;
      InterleaveHeads(head_dim, row_bytes, absl::MakeSpan(bytes));
      InterleaveHeads(head_dim, stored->cols, rows.span());
    }
    QEFF_RETURN_IF_ERROR(
        writer_.Write(index, static_cast<uint64_t>(begin * row_bytes), bytes));
    // What was loaded is what the layer's own codes mean.
    return ReadBack(index, begin, rows.span(), /*exact=*/true);
  }

  // Encodes and writes whole rows of tensor `index`, from row `begin` on, which
  // are in the model's order and then in the file's.
  absl::Status WriteValues(size_t index, int64_t begin,
                           absl::Span<float> values) {
    const GgufModelTensor& tensor = map_.tensors[index];
    const GgmlType type = tensor.info.type;
    QEFF_RETURN_IF_ERROR(CheckFits(index, begin, values));
    const bool is_matrix = tensor.info.shape.rank() == 2;
    const int64_t row_elems = is_matrix ? tensor.info.shape[1] : 1;
    if (tensor.interleave) {
      InterleaveHeads(model_.spec().head_dim, row_elems, values);
    }
    std::vector<uint8_t> bytes;
    Encode(type, values, &bytes);
    const GgmlTypeTraits& traits = *FindGgmlType(type);
    const uint64_t offset_bytes = static_cast<uint64_t>(begin * row_elems) /
                                  traits.block_elems * traits.block_bytes;
    QEFF_RETURN_IF_ERROR(writer_.Write(index, offset_bytes, bytes));
    return ReadBack(index, is_matrix ? begin : 0, values,
                    type == GgmlType::kF32);
  }

  // kDataLoss unless every value fits the type of tensor `index`, in which
  // `values` are rows from row `begin` on, in the model's order.
  absl::Status CheckFits(size_t index, int64_t begin,
                         absl::Span<const float> values) const {
    const GgufTensorInfo& info = map_.tensors[index].info;
    const int64_t at = FirstNotBelow(GgmlLimit(info.type), values);
    if (at == static_cast<int64_t>(values.size())) return absl::OkStatus();
    const int64_t cols = info.shape.rank() == 2 ? info.shape[1] : 1;
    return NumericalError(model_.checkpoint().folder(), ": tensor for ",
                          info.name, ": element [", begin + at / cols, ", ",
                          at % cols, "] is NaN, infinite or too large for ",
                          FindGgmlType(info.type)->name);
  }

  // Reads rows from `begin` on from the file and compares them with `values`,
  // which are in its order.
  absl::Status ReadBack(size_t index, int64_t begin,
                        absl::Span<const float> values, bool exact) const {
    const GgufTensorInfo& info = *file_.Find(map_.tensors[index].info.name);
    std::vector<float> read(values.size());
    QEFF_RETURN_IF_ERROR(file_.ReadRows(info, begin, absl::MakeSpan(read)));
    const int64_t at =
        exact ? std::mismatch(read.begin(), read.end(), values.begin()).first -
                    read.begin()
              : FirstWrongReadBack(info.type, values, read);
    if (at == static_cast<int64_t>(values.size())) return absl::OkStatus();
    const int64_t cols = GgufRowElems(info);
    return absl::UnavailableError(absl::StrCat(
        file_.path(), ": tensor ", info.name, ": element [", begin + at / cols,
        ", ", at % cols, "]: wrote ", values[static_cast<size_t>(at)],
        ", read back ", read[static_cast<size_t>(at)]));
  }

  absl::Status WriteMatrix(size_t index, Stored stored) {
    const GgufModelTensor& tensor = map_.tensors[index];
    const int64_t cols = tensor.info.shape[1];
    int64_t chunk_rows = std::max<int64_t>(1, kChunkElems / cols);
    if (tensor.interleave) {
      chunk_rows = RoundUp(chunk_rows, model_.spec().head_dim);
    }
    std::mutex mutex;
    absl::Status status;  // first error, guarded by mutex
    std::atomic<bool> failed{false};
    pool_.ParallelFor(tensor.info.shape[0], chunk_rows,
                      [&](int64_t begin, int64_t end, int) {
                        if (failed.load(std::memory_order_relaxed)) return;
                        const absl::Status rows =
                            WriteRows(index, stored, begin, end - begin);
                        if (rows.ok()) return;
                        const std::lock_guard<std::mutex> lock(mutex);
                        status.Update(rows);
                        failed.store(true, std::memory_order_relaxed);
                      });
    return status;
  }

  const Transformer& model_;
  const GgufModelMap& map_;
  const StoredTypes& stored_;
  const GgufFile& file_;
  GgufWriter& writer_;
  ThreadPool& pool_;
};

// The tensors of the file: codes and blocks keep their type, and layers that
// were kept beside them are F16.
absl::StatusOr<GgufModelMap> MapTensors(const Transformer& model,
                                        const StoredTypes& stored,
                                        GgufModelTypes types) {
  const std::vector<LinearModule> linears = model.map().Linears();
  const auto first = std::find_if(
      linears.begin(), linears.end(), [&](const LinearModule& module) {
        return module.block >= 0 && stored.contains(module.module);
      });
  const bool has_stored = first != linears.end();
  if (has_stored) types.linear = stored.at(first->module);
  QEFF_ASSIGN_OR_RETURN(GgufModelMap map, MapGgufModel(model.spec(), types),
                        model.checkpoint().folder());
  for (GgufModelTensor& tensor : map.tensors) {
    const auto type = StoredType(model, stored, tensor);
    if (type.has_value()) {
      tensor.info.type = *type;
    } else if (has_stored && tensor.source == GgufSource::kLinear &&
               tensor.block >= 0) {
      tensor.info.type = GgmlType::kF16;
    }
  }
  return map;
}

absl::StatusOr<GgufModelReport> Write(const Transformer& model,
                                      const TokenizerTables& tokenizer,
                                      const GgufModelTypes& types,
                                      const std::string& path,
                                      ThreadPool* pool) {
  StoredTypes stored;
  if (!types.requantize) {
    QEFF_ASSIGN_OR_RETURN(stored, FindStoredTypes(model));
  }
  QEFF_ASSIGN_OR_RETURN(GgufModelMap map, MapTensors(model, stored, types));
  QEFF_ASSIGN_OR_RETURN(
      GgufMetadata vocabulary,
      GgufTokenizerMetadata(tokenizer, model.spec().vocab_size),
      model.checkpoint().folder());
  std::move(vocabulary.begin(), vocabulary.end(),
            std::back_inserter(map.metadata));
  GgufModelReport report;
  std::vector<GgufTensorInfo> infos;
  for (const GgufModelTensor& tensor : map.tensors) {
    infos.push_back(tensor.info);
    const GgmlType wanted = tensor.block < 0 ? types.lm_head : types.linear;
    if (tensor.info.type == GgmlType::kF16 && wanted != GgmlType::kF16) {
      report.kept_f16.push_back(tensor.info.name);
    }
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<GgufWriter> writer,
                        GgufWriter::Create(path, map.metadata, infos));
  QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file,
                        GgufFile::Open(writer->temporary_path()));
  QEFF_RETURN_IF_ERROR(
      ModelWriter(model, map, stored, *file, writer.get(), pool).Run());
  QEFF_RETURN_IF_ERROR(model.checkpoint().VerifyUnchanged());
  QEFF_RETURN_IF_ERROR(writer->Commit());
  report.file_bytes = writer->file_bytes();
  return report;
}

}  // namespace

absl::StatusOr<GgufModelReport> WriteGgufModel(const Transformer& model,
                                               const TokenizerTables& tokenizer,
                                               const GgufModelTypes& types,
                                               const std::string& path,
                                               ThreadPool* pool) {
  return GuardMemory(
      [&] { return Write(model, tokenizer, types, path, pool); });
}

}  // namespace qeff
