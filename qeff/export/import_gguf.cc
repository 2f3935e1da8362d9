// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/import_gguf.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "qeff/export/gguf_config.h"
#include "qeff/export/gguf_tokenizer_files.h"
#include "qeff/export/head_rows.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/gguf_file.h"
#include "qeff/io/quantization_config.h"
#include "qeff/io/weight_quantization.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/util/checked.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Elements that are decoded at once.
constexpr int64_t kChunkElems = int64_t{1} << 20;

// Those that are schemes of qeff (quant_scheme.h).
constexpr GgmlType kKeptTypes[] = {GgmlType::kQ8_0, GgmlType::kQ4_0,
                                   GgmlType::kQ4_K, GgmlType::kQ5_K,
                                   GgmlType::kQ6_K};

bool StaysBlocks(const GgufNamedTensor& named) {
  return !named.linear_module.empty() &&
         std::find(std::begin(kKeptTypes), std::end(kKeptTypes),
                   named.tensor->type) != std::end(kKeptTypes);
}

QuantScheme SchemeOf(GgmlType type) {
  QuantScheme scheme;
  scheme.ggml = type;
  return scheme;
}

DType TypeInFolder(GgmlType type) {
  return type == GgmlType::kF16    ? DType::kF16
         : type == GgmlType::kBF16 ? DType::kBF16
                                   : DType::kF32;
}

// Its shape in the folder, as floats.
Shape ShapeInFolder(const GgufNamedTensor& named) {
  const Shape& shape = named.tensor->shape;
  return named.transposed ? Shape({shape[1], shape[0]}) : shape;
}

QuantizedShape BlocksShape(const GgufNamedTensor& named) {
  return {SchemeOf(named.tensor->type), GgufRows(*named.tensor),
          GgufRowElems(*named.tensor)};
}

// What the folder has of it.
std::vector<TensorInfo> TensorsInFolder(const GgufNamedTensor& named,
                                        bool as_blocks) {
  if (!as_blocks) {
    return {
        {named.name, TypeInFolder(named.tensor->type), ShapeInFolder(named)}};
  }
  std::vector<TensorInfo> infos;
  for (TensorDeclaration& declaration :
       QuantizedTensors(named.linear_module, BlocksShape(named), DType::kF16)) {
    infos.push_back({std::move(declaration.name), declaration.dtype,
                     std::move(declaration.shape)});
  }
  return infos;
}

// Copies tensors into a folder.
class TensorCopier {
 public:
  TensorCopier(const GgufFile& file, CheckpointWriter* writer)
      : file_(file), writer_(*writer) {}

  absl::Status Copy(const GgufNamedTensor& named, bool as_blocks) {
    QEFF_RETURN_IF_ERROR(named.transposed && !as_blocks
                             ? CopyTransposed(named)
                             : CopyRows(named, as_blocks));
    if (as_blocks) QEFF_RETURN_IF_ERROR(WriteShape(named));
    file_.file().Release(file_.Bytes(*named.tensor));
    return absl::OkStatus();
  }

 private:
  // Rows [begin, begin + count) as they are in the file, all finite.
  absl::StatusOr<std::vector<float>> ReadRows(const GgufNamedTensor& named,
                                              int64_t begin, int64_t count) {
    const GgufTensorInfo& tensor = *named.tensor;
    const int64_t cols = GgufRowElems(tensor);
    std::vector<float> values(static_cast<size_t>(count * cols));
    QEFF_RETURN_IF_ERROR(file_.ReadRows(tensor, begin, absl::MakeSpan(values)));
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [](float v) { return !std::isfinite(v); });
    if (bad != values.end()) {
      return NumericalError(file_.path(), ": tensor '", tensor.name, "': row ",
                            begin + (bad - values.begin()) / cols,
                            " has a value that is not finite");
    }
    return values;
  }

  // A vector is a row, whose elements are the rows of its heads.
  template <class T>
  static void OrderHeads(const GgufNamedTensor& named, int64_t row_elems,
                         std::vector<T>& rows) {
    if (named.interleaved_head_dim == 0) return;
    SeparateHeads(named.interleaved_head_dim,
                  named.tensor->shape.rank() == 1 ? 1 : row_elems,
                  absl::MakeSpan(rows));
  }

  // Writes elements from `first` on.
  absl::Status Write(const GgufNamedTensor& named, int64_t first,
                     const std::vector<float>& values) {
    const DType dtype = TypeInFolder(named.tensor->type);
    std::vector<uint8_t> bytes(values.size() * DTypeBytes(dtype));
    ConvertFromFloat(values, dtype, absl::MakeSpan(bytes));
    return writer_.Write(
        named.name, static_cast<uint64_t>(first) * DTypeBytes(dtype), bytes);
  }

  absl::Status WriteBlocks(const GgufNamedTensor& named, int64_t begin,
                           int64_t count) {
    const int64_t row_bytes = BlocksShape(named).block_row_bytes;
    const auto from = file_.Bytes(*named.tensor)
                          .subspan(static_cast<size_t>(begin * row_bytes),
                                   static_cast<size_t>(count * row_bytes));
    std::vector<uint8_t> blocks(from.begin(), from.end());
    OrderHeads(named, row_bytes, blocks);
    return writer_.Write(BlocksTensorName(named.linear_module),
                         static_cast<uint64_t>(begin * row_bytes), blocks);
  }

  absl::Status WriteShape(const GgufNamedTensor& named) {
    const QuantizedShape shape = BlocksShape(named);
    if (!shape.stores_shape) return absl::OkStatus();
    const int64_t sides[2] = {shape.rows, shape.cols};
    return writer_.Write(
        ShapeTensorName(named.linear_module), 0,
        absl::MakeSpan(reinterpret_cast<const uint8_t*>(sides), sizeof(sides)));
  }

  absl::Status CopyRows(const GgufNamedTensor& named, bool as_blocks) {
    const int64_t cols = GgufRowElems(*named.tensor);
    const int64_t rows = GgufRows(*named.tensor);
    int64_t chunk = std::max<int64_t>(1, kChunkElems / cols);
    if (named.interleaved_head_dim != 0 && rows > 1) {
      chunk = RoundUp(chunk, named.interleaved_head_dim);
    }
    for (int64_t begin = 0; begin < rows; begin += chunk) {
      const int64_t count = std::min(chunk, rows - begin);
      QEFF_ASSIGN_OR_RETURN(std::vector<float> values,
                            ReadRows(named, begin, count));
      if (as_blocks) {
        QEFF_RETURN_IF_ERROR(WriteBlocks(named, begin, count));
        continue;
      }
      OrderHeads(named, cols, values);
      QEFF_RETURN_IF_ERROR(Write(named, begin * cols, values));
    }
    return absl::OkStatus();
  }

  // The whole matrix at once: what the folder has as a row is a column here.
  absl::Status CopyTransposed(const GgufNamedTensor& named) {
    const int64_t cols = GgufRowElems(*named.tensor);
    const int64_t rows = GgufRows(*named.tensor);
    QEFF_ASSIGN_OR_RETURN(const std::vector<float> values,
                          ReadRows(named, 0, rows));
    std::vector<float> turned(values.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        turned[static_cast<size_t>(c * rows + r)] =
            values[static_cast<size_t>(r * cols + c)];
      }
    }
    return Write(named, 0, turned);
  }

  const GgufFile& file_;
  CheckpointWriter& writer_;
};

// The config.json of a model whose `tensors` are blocks where StaysBlocks says
// so.
absl::StatusOr<Json> QuantizedConfig(const GgufModel& model) {
  std::map<GgmlType, std::vector<std::string>> modules;
  std::vector<std::string> kept;
  for (const GgufNamedTensor& named : model.tensors) {
    if (StaysBlocks(named)) {
      modules[named.tensor->type].push_back(named.linear_module);
    } else if (!named.linear_module.empty()) {
      kept.push_back(named.linear_module);
    }
  }
  if (modules.empty()) return model.config;
  const auto most = std::max_element(modules.begin(), modules.end(),
                                     [](const auto& a, const auto& b) {
                                       return a.second.size() < b.second.size();
                                     });
  most->second = {"Linear"};
  std::vector<QuantizationConfig::Group> groups;
  for (auto& [type, targets] : modules) {
    groups.push_back(
        {std::move(targets), WeightQuantization::FromScheme(SchemeOf(type))});
  }
  if (model.config["tie_word_embeddings"] == true) kept.push_back("lm_head");
  std::sort(kept.begin(), kept.end());
  QEFF_ASSIGN_OR_RETURN(const QuantizationConfig quantization,
                        QuantizationConfig::Create(QuantizedLayout::kQeff,
                                                   std::move(groups), kept));
  Json config = model.config;
  config["quantization_config"] = quantization.ToJson();
  return config;
}

absl::StatusOr<ImportReport> Import(const std::string& path,
                                    const std::string& output,
                                    GgufBlocks blocks) {
  QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file,
                        GgufFile::Open(path));
  QEFF_ASSIGN_OR_RETURN(const GgufModel model, MapGgufFile(*file));
  QEFF_ASSIGN_OR_RETURN(const auto tokenizer_files,
                        GgufTokenizerFiles(file->header().metadata, path));
  const bool keep = blocks == GgufBlocks::kKeep;
  ImportReport report;
  std::vector<TensorInfo> infos;
  for (const GgufNamedTensor& named : model.tensors) {
    const bool as_blocks = keep && StaysBlocks(named);
    for (TensorInfo& info : TensorsInFolder(named, as_blocks)) {
      report.weight_bytes += info.size_bytes();
      infos.push_back(std::move(info));
    }
    ++report.tensors;
    report.quantized_tensors += as_blocks;
  }
  Json config = model.config;
  if (keep) {
    QEFF_ASSIGN_OR_RETURN(config, QuantizedConfig(model));
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                        CheckpointWriter::Create(output, infos));
  TensorCopier copier(*file, writer.get());
  for (const GgufNamedTensor& named : model.tensors) {
    QEFF_RETURN_IF_ERROR(copier.Copy(named, keep && StaysBlocks(named)));
  }
  QEFF_RETURN_IF_ERROR(file->file().VerifyUnchanged());
  std::vector<CheckpointWriter::ExtraFile> extra;
  for (const auto& [name, content] : tokenizer_files) {
    extra.push_back({name, content});
  }
  QEFF_RETURN_IF_ERROR(writer->Commit(config, extra));
  return report;
}

}  // namespace

absl::StatusOr<ImportReport> ImportGguf(const std::string& path,
                                        const std::string& output,
                                        GgufBlocks blocks) {
  return GuardMemory([&] { return Import(path, output, blocks); });
}

}  // namespace qeff
