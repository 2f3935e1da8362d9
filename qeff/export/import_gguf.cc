// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/import_gguf.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <new>
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

// Decodes and writes one tensor. A vector is a row, whose elements are the rows
// of its heads.
absl::Status CopyTensor(const GgufFile& file, const GgufNamedTensor& named,
                        CheckpointWriter* writer) {
  const GgufTensorInfo& tensor = *named.tensor;
  const int64_t cols = GgufRowElems(tensor);
  const int64_t rows = GgufRows(tensor);
  const bool is_vector = tensor.shape.rank() == 1;
  const DType dtype = TypeInFolder(tensor.type);
  int64_t chunk = std::max<int64_t>(1, kChunkElems / cols);
  if (named.interleaved_head_dim != 0 && !is_vector) {
    chunk = RoundUp(chunk, named.interleaved_head_dim);
  }
  std::vector<uint8_t> bytes;
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    std::vector<float> values(static_cast<size_t>(count * cols));
    QEFF_RETURN_IF_ERROR(file.ReadRows(tensor, begin, absl::MakeSpan(values)));
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [](float v) { return !std::isfinite(v); });
    if (bad != values.end()) {
      return NumericalError(file.path(), ": tensor '", tensor.name, "': row ",
                            begin + (bad - values.begin()) / cols,
                            " has a value that is not finite");
    }
    if (named.interleaved_head_dim != 0) {
      SeparateHeads(named.interleaved_head_dim, is_vector ? 1 : cols,
                    absl::MakeSpan(values));
    }
    bytes.resize(values.size() * DTypeBytes(dtype));
    ConvertFromFloat(values, dtype, absl::MakeSpan(bytes));
    QEFF_RETURN_IF_ERROR(writer->Write(
        named.name, static_cast<uint64_t>(begin * cols) * DTypeBytes(dtype),
        bytes));
  }
  file.file().Release(file.Bytes(tensor));
  return absl::OkStatus();
}

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
        {named.name, TypeInFolder(named.tensor->type), named.tensor->shape});
    report.weight_bytes += infos.back().size_bytes();
    ++report.tensors;
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                        CheckpointWriter::Create(output, infos));
  for (const GgufNamedTensor& named : model.tensors) {
    QEFF_RETURN_IF_ERROR(CopyTensor(*file, named, writer.get()));
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
  try {
    return Import(path, output);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  }
}

}  // namespace qeff
