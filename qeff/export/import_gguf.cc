// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/import_gguf.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "qeff/export/gguf_config.h"
#include "qeff/export/gguf_tokenizer_files.h"
#include "qeff/export/head_rows.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/gguf_file.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/util/checked.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Elements that are decoded at once.
constexpr int64_t kChunkElems = int64_t{1} << 20;

DType TypeInFolder(GgmlType type) {
  return type == GgmlType::kF16    ? DType::kF16
         : type == GgmlType::kBF16 ? DType::kBF16
                                   : DType::kF32;
}

// Its shape in the folder.
Shape ShapeInFolder(const GgufNamedTensor& named) {
  const Shape& shape = named.tensor->shape;
  return named.transposed ? Shape({shape[1], shape[0]}) : shape;
}

// Decodes tensors into a folder.
class TensorCopier {
 public:
  TensorCopier(const GgufFile& file, CheckpointWriter* writer)
      : file_(file), writer_(*writer) {}

  absl::Status Copy(const GgufNamedTensor& named) {
    QEFF_RETURN_IF_ERROR(named.transposed ? CopyTransposed(named)
                                          : CopyRows(named));
    file_.file().Release(file_.Bytes(*named.tensor));
    return absl::OkStatus();
  }

 private:
  // Rows [begin, begin + count). A vector is a row, whose elements are the rows
  // of its heads.
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
    if (named.interleaved_head_dim != 0) {
      SeparateHeads(named.interleaved_head_dim,
                    tensor.shape.rank() == 1 ? 1 : cols,
                    absl::MakeSpan(values));
    }
    return values;
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

  absl::Status CopyRows(const GgufNamedTensor& named) {
    const int64_t cols = GgufRowElems(*named.tensor);
    const int64_t rows = GgufRows(*named.tensor);
    int64_t chunk = std::max<int64_t>(1, kChunkElems / cols);
    if (named.interleaved_head_dim != 0 && rows > 1) {
      chunk = RoundUp(chunk, named.interleaved_head_dim);
    }
    for (int64_t begin = 0; begin < rows; begin += chunk) {
      QEFF_ASSIGN_OR_RETURN(
          const std::vector<float> values,
          ReadRows(named, begin, std::min(chunk, rows - begin)));
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

absl::StatusOr<ImportReport> Import(const std::string& path,
                                    const std::string& output) {
  QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file,
                        GgufFile::Open(path));
  QEFF_ASSIGN_OR_RETURN(const GgufModel model, MapGgufFile(*file));
  QEFF_ASSIGN_OR_RETURN(const auto tokenizer_files,
                        GgufTokenizerFiles(file->header().metadata, path));
  ImportReport report;
  std::vector<TensorInfo> infos;
  for (const GgufNamedTensor& named : model.tensors) {
    infos.push_back(
        {named.name, TypeInFolder(named.tensor->type), ShapeInFolder(named)});
    report.weight_bytes += infos.back().size_bytes();
    ++report.tensors;
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                        CheckpointWriter::Create(output, infos));
  TensorCopier copier(*file, writer.get());
  for (const GgufNamedTensor& named : model.tensors) {
    QEFF_RETURN_IF_ERROR(copier.Copy(named));
  }
  QEFF_RETURN_IF_ERROR(file->file().VerifyUnchanged());
  std::vector<CheckpointWriter::ExtraFile> extra;
  for (const auto& [name, content] : tokenizer_files) {
    extra.push_back({name, content});
  }
  QEFF_RETURN_IF_ERROR(writer->Commit(model.config, extra));
  return report;
}

}  // namespace

absl::StatusOr<ImportReport> ImportGguf(const std::string& path,
                                        const std::string& output) {
  return GuardMemory([&] { return Import(path, output); });
}

}  // namespace qeff
