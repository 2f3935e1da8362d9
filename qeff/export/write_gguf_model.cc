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
#include <new>
#include <numeric>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/export/gguf_tokenizer.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/io/gguf_writer.h"
#include "qeff/io/quantization_config.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Elements that a thread reads and encodes at once.
constexpr int64_t kChunkElems = int64_t{1} << 19;

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
    default:
      return EncodeGgmlRow(type, values, /*importance=*/{},
                           absl::MakeSpan(*bytes));
  }
}

// Turns each head's rows [half 0; half 1] into pairs. `rows` holds whole heads
// of `head_dim` rows of `cols` elements.
template <class T>
void InterleaveHeads(int64_t head_dim, int64_t cols, absl::Span<T> rows) {
  const size_t row = static_cast<size_t>(cols);
  const size_t head = row * static_cast<size_t>(head_dim);
  const size_t half = static_cast<size_t>(head_dim) / 2;
  std::vector<T> source(head);
  for (size_t begin = 0; begin < rows.size(); begin += head) {
    T* to = rows.data() + begin;
    std::copy_n(to, head, source.begin());
    for (size_t i = 0; i < half; ++i) {
      for (size_t s = 0; s < 2; ++s) {
        std::copy_n(source.data() + (s * half + i) * row, row,
                    to + (2 * i + s) * row);
      }
    }
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

// The layers that are ggml's blocks already, by module.
using StoredBlocks = absl::flat_hash_map<std::string, QuantizedMatrix>;

absl::StatusOr<StoredBlocks> FindStoredBlocks(const Transformer& model) {
  StoredBlocks stored;
  if (!model.quantization().has_value()) return stored;
  for (const LinearModule& module : model.map().Linears()) {
    const auto weights = model.quantization()->Find(module.module);
    if (!weights.has_value() || !weights->ggml.has_value()) continue;
    QEFF_ASSIGN_OR_RETURN(stored[module.module],
                          ReadQuantizedMatrix(model.checkpoint(), module.module,
                                              *model.quantization()));
  }
  return stored;
}

// The blocks of `tensor`, or null.
const QuantizedMatrix* BlocksOf(const Transformer& model,
                                const StoredBlocks& stored,
                                const GgufModelTensor& tensor) {
  if (tensor.source != GgufSource::kLinear) return nullptr;
  std::string module = model.map().lm_head.module;
  if (tensor.block >= 0) {
    const auto& linears =
        model.map().blocks[static_cast<size_t>(tensor.block)].linears;
    const auto linear =
        std::find_if(linears.begin(), linears.end(),
                     [&](const auto& l) { return l.role == tensor.role; });
    if (linear == linears.end()) return nullptr;
    module = linear->module;
  }
  const auto found = stored.find(module);
  return found == stored.end() ? nullptr : &found->second;
}

class ModelWriter {
 public:
  ModelWriter(const Transformer& model, const GgufModelMap& map,
              const StoredBlocks& stored, GgufWriter* writer, ThreadPool* pool)
      : model_(model),
        map_(map),
        stored_(stored),
        writer_(*writer),
        pool_(*pool) {}

  absl::Status Run() {
    for (size_t i = 0; i < map_.tensors.size(); ++i) {
      const GgufModelTensor& tensor = map_.tensors[i];
      QEFF_RETURN_IF_ERROR(WriteTensor(i));
      const bool last_of_block = i + 1 == map_.tensors.size() ||
                                 map_.tensors[i + 1].block != tensor.block;
      if (last_of_block) model_.ReleaseBlock(tensor.block);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status WriteTensor(size_t index) {
    switch (map_.tensors[index].source) {
      case GgufSource::kEmbedding:
      case GgufSource::kLinear:
        return WriteMatrix(index);
      case GgufSource::kLinearBias:
        return absl::OkStatus();  // with its weight
      default:
        return WriteVector(index);
    }
  }

  absl::StatusOr<std::vector<float>> LoadVector(
      const GgufModelTensor& tensor) const {
    if (tensor.source == GgufSource::kRopeFactors) {
      return RopeFactors(model_.spec());
    }
    if (tensor.source == GgufSource::kFinalNorm) {
      QEFF_ASSIGN_OR_RETURN(NormWeights norm, model_.LoadFinalNorm());
      return std::move(norm.weight);
    }
    QEFF_ASSIGN_OR_RETURN(BlockWeights norms,
                          model_.LoadBlockNorms(tensor.block));
    switch (tensor.source) {
      case GgufSource::kAttentionNorm:
        return std::move(norms.attention_norm.weight);
      case GgufSource::kFfnNorm:
        return std::move(norms.ffn_norm.weight);
      case GgufSource::kQNorm:
        return std::move(norms.q_norm.weight);
      default:
        return std::move(norms.k_norm.weight);
    }
  }

  absl::Status WriteVector(size_t index) {
    QEFF_ASSIGN_OR_RETURN(const std::vector<float> values,
                          LoadVector(map_.tensors[index]));
    return WriteValues(index, 0, values);
  }

  // Encodes and writes whole rows of tensor `index`, from row `begin` on.
  absl::Status WriteValues(size_t index, int64_t begin,
                           absl::Span<const float> values) {
    const GgufTensorInfo& info = writer_.tensors()[index];
    std::vector<uint8_t> bytes;
    Encode(info.type, values, &bytes);
    const GgmlTypeTraits& traits = *FindGgmlType(info.type);
    const int64_t row_elems = info.shape.rank() == 2 ? info.shape[1] : 1;
    const uint64_t offset_bytes = static_cast<uint64_t>(begin * row_elems) /
                                  traits.block_elems * traits.block_bytes;
    return writer_.Write(index, offset_bytes, bytes);
  }

  // kDataLoss unless every value fits the type of tensor `index`, in which
  // `values` are rows from row `begin` on, in the model's order.
  absl::Status CheckFits(size_t index, int64_t begin,
                         absl::Span<const float> values) const {
    const GgufTensorInfo& info = writer_.tensors()[index];
    const int64_t at = FirstUnfitForGgml(info.type, values);
    if (at == static_cast<int64_t>(values.size())) return absl::OkStatus();
    const int64_t cols = info.shape.rank() == 2 ? info.shape[1] : 1;
    return NumericalError(model_.checkpoint().folder(), ": tensor for ",
                          info.name, ": element [", begin + at / cols, ", ",
                          at % cols, "] is NaN, infinite or too large for ",
                          FindGgmlType(info.type)->name);
  }

  // Rows [begin, begin + count) of a matrix, and of its bias.
  absl::StatusOr<LinearWeights> LoadRows(const GgufModelTensor& tensor,
                                         int64_t begin, int64_t count) const {
    if (tensor.source == GgufSource::kLinear) {
      return model_.LoadLinearRows(tensor.block, tensor.role, begin, count);
    }
    std::vector<int32_t> ids(static_cast<size_t>(count));
    std::iota(ids.begin(), ids.end(), static_cast<int32_t>(begin));
    LinearWeights rows;
    rows.weight = Matrix<float>(count, model_.spec().hidden_size);
    QEFF_RETURN_IF_ERROR(model_.Embed(ids, rows.weight.view()));
    return rows;
  }

  absl::Status WriteRows(size_t index, int64_t begin, int64_t count) {
    const GgufModelTensor& tensor = map_.tensors[index];
    QEFF_ASSIGN_OR_RETURN(LinearWeights rows, LoadRows(tensor, begin, count));
    const int64_t head_dim = model_.spec().head_dim;
    const QuantizedMatrix* stored = BlocksOf(model_, stored_, tensor);
    if (stored != nullptr) {
      // Loading has checked them.
      QEFF_RETURN_IF_ERROR(WriteBlocks(index, *stored, begin, count));
    } else {
      QEFF_RETURN_IF_ERROR(CheckFits(index, begin, rows.weight.span()));
      if (tensor.interleave) {
        InterleaveHeads(head_dim, rows.weight.cols(), rows.weight.span());
      }
      QEFF_RETURN_IF_ERROR(WriteValues(index, begin, rows.weight.span()));
    }
    if (tensor.bias < 0) return absl::OkStatus();
    if (tensor.interleave) {
      InterleaveHeads(head_dim, 1, absl::MakeSpan(rows.bias));
    }
    return WriteValues(static_cast<size_t>(tensor.bias), begin, rows.bias);
  }

  // Rows of blocks as they are, in the order of the file.
  absl::Status WriteBlocks(size_t index, const QuantizedMatrix& stored,
                           int64_t begin, int64_t count) {
    const absl::Span<const uint8_t> rows =
        stored.blocks.subspan(static_cast<size_t>(begin * stored.row_bytes),
                              static_cast<size_t>(count * stored.row_bytes));
    std::vector<uint8_t> bytes(rows.begin(), rows.end());
    if (map_.tensors[index].interleave) {
      InterleaveHeads(model_.spec().head_dim, stored.row_bytes,
                      absl::MakeSpan(bytes));
    }
    return writer_.Write(index, static_cast<uint64_t>(begin * stored.row_bytes),
                         bytes);
  }

  absl::Status WriteMatrix(size_t index) {
    const GgufModelTensor& tensor = map_.tensors[index];
    const int64_t cols = tensor.info.shape[1];
    int64_t chunk_rows = std::max<int64_t>(1, kChunkElems / cols);
    if (tensor.interleave) {
      chunk_rows = RoundUp(chunk_rows, model_.spec().head_dim);
    }
    std::mutex mutex;
    absl::Status status;  // first error, guarded by mutex
    std::atomic<bool> failed{false};
    pool_.ParallelFor(
        tensor.info.shape[0], chunk_rows, [&](int64_t begin, int64_t end, int) {
          if (failed.load(std::memory_order_relaxed)) return;
          const absl::Status rows = WriteRows(index, begin, end - begin);
          if (rows.ok()) return;
          const std::lock_guard<std::mutex> lock(mutex);
          status.Update(rows);
          failed.store(true, std::memory_order_relaxed);
        });
    return status;
  }

  const Transformer& model_;
  const GgufModelMap& map_;
  const StoredBlocks& stored_;
  GgufWriter& writer_;
  ThreadPool& pool_;
};

// The tensors of the file: blocks keep their type, and layers that were kept
// beside them are F16.
absl::StatusOr<GgufModelMap> MapTensors(const Transformer& model,
                                        const StoredBlocks& stored,
                                        GgufModelTypes types) {
  const std::vector<LinearModule> linears = model.map().Linears();
  const auto first = std::find_if(
      linears.begin(), linears.end(), [&](const LinearModule& module) {
        return module.block >= 0 && stored.contains(module.module);
      });
  const bool has_blocks = first != linears.end();
  if (has_blocks) types.linear = *stored.at(first->module).ggml;
  QEFF_ASSIGN_OR_RETURN(GgufModelMap map, MapGgufModel(model.spec(), types),
                        model.checkpoint().folder());
  for (GgufModelTensor& tensor : map.tensors) {
    const QuantizedMatrix* blocks = BlocksOf(model, stored, tensor);
    if (blocks != nullptr) {
      tensor.info.type = *blocks->ggml;
    } else if (has_blocks && tensor.source == GgufSource::kLinear &&
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
  QEFF_ASSIGN_OR_RETURN(const StoredBlocks stored, FindStoredBlocks(model));
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
  QEFF_RETURN_IF_ERROR(
      ModelWriter(model, map, stored, writer.get(), pool).Run());
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
  try {
    return Write(model, tokenizer, types, path, pool);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  }
}

}  // namespace qeff
