// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/quant/codebook_search.h"
#include "qeff/quant/mse_rows.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/quant/weight_rows.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Source bytes of a piece of work: large enough that a system call a piece
// does not show, small enough that a few stay in the caches and memory is low.
constexpr int64_t kPieceBytes = 2 << 20;

// Rows of a quantized tensor, or bytes of a copied one.
struct Piece {
  const PlannedTensor* tensor;
  bool quantized;
  int64_t begin;
  int64_t count;
  uint64_t source_bytes;
};

std::vector<Piece> Pieces(const QuantizePlan& plan) {
  std::vector<Piece> pieces;
  const auto cut = [&](const PlannedTensor& tensor, bool quantized,
                       int64_t total, int64_t size, int64_t unit_bytes) {
    for (int64_t begin = 0; begin < total; begin += size) {
      const int64_t count = std::min(size, total - begin);
      pieces.push_back({&tensor, quantized, begin, count,
                        static_cast<uint64_t>(count * unit_bytes)});
    }
  };
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.action == PlannedTensor::Action::kKeep ||
        tensor.action == PlannedTensor::Action::kAdd) {
      cut(tensor, /*quantized=*/false,
          static_cast<int64_t>(tensor.bytes_before), kPieceBytes, 1);
    }
    if (tensor.quantized()) {
      const int64_t row_bytes =
          tensor.cols * static_cast<int64_t>(DTypeBytes(tensor.dtype));
      const int64_t rows =
          std::max(kPieceBytes / row_bytes / kQuantizedRowMultiple *
                       kQuantizedRowMultiple,
                   kQuantizedRowMultiple);
      cut(tensor, /*quantized=*/true, tensor.rows, rows, row_bytes);
    }
  }
  return pieces;
}

// Memory of one thread, reused between pieces.
struct Workspace {
  std::vector<float> rows;
  std::vector<uint8_t> packed, scales, zeros;
};

absl::Status NotFinite(const Checkpoint& checkpoint,
                       const PlannedTensor& tensor, int64_t row, int64_t col) {
  if (tensor.transposed) std::swap(row, col);
  return NumericalError(checkpoint.folder(), ": tensor ", tensor.name,
                        ": element [", row, ", ", col,
                        "] is NaN or infinite; --skip_bad_tensors keeps it");
}

// A value that ggml's blocks cannot hold.
absl::Status Unfit(const Checkpoint& checkpoint, const PlannedTensor& tensor,
                   int64_t row, int64_t col, float value) {
  if (!std::isfinite(value)) return NotFinite(checkpoint, tensor, row, col);
  if (tensor.transposed) std::swap(row, col);
  return NumericalError(checkpoint.folder(), ": tensor ", tensor.name,
                        ": element [", row, ", ", col, "] = ", value,
                        " is too large for ", QuantSchemeName(tensor.scheme));
}

void ReleasePiece(const Checkpoint& checkpoint, const Piece& piece,
                  const TensorView& weight) {
  const PlannedTensor& tensor = *piece.tensor;
  // A transposed piece touches all pages of the tensor.
  TensorView read = weight;
  if (!tensor.transposed) {
    const uint64_t begin = static_cast<uint64_t>(piece.begin * tensor.cols) *
                           DTypeBytes(tensor.dtype);
    read.bytes = weight.bytes.subspan(begin, piece.source_bytes);
  }
  checkpoint.Release(read);
}

// Rounds `rows` into ggml's blocks, all columns being equally important.
absl::Status EncodeBlocks(const Checkpoint& checkpoint, const Piece& piece,
                          const WeightRows& rows, Workspace* workspace,
                          TensorSink sink) {
  const PlannedTensor& tensor = *piece.tensor;
  const QuantizedShape shape(tensor.scheme, piece.count, tensor.cols);
  const size_t cols = static_cast<size_t>(tensor.cols);
  const size_t row_bytes = static_cast<size_t>(shape.block_row_bytes);
  const size_t source_bytes = cols * DTypeBytes(rows.dtype);
  const std::vector<float> importance(cols, 1.0f);
  std::vector<float> row(cols);
  std::vector<uint8_t>& blocks = workspace->packed;
  blocks.resize(static_cast<size_t>(piece.count) * row_bytes);
  for (size_t r = 0; r < static_cast<size_t>(piece.count); ++r) {
    ConvertToFloat(rows.dtype,
                   rows.bytes.subspan(r * source_bytes, source_bytes),
                   absl::MakeSpan(row));
    const int64_t unfit = FirstUnfitForGgml(*tensor.scheme.ggml, row);
    if (unfit < tensor.cols) {
      return Unfit(checkpoint, tensor, piece.begin + static_cast<int64_t>(r),
                   unfit, row[static_cast<size_t>(unfit)]);
    }
    EncodeGgmlRow(*tensor.scheme.ggml, row, importance,
                  absl::MakeSpan(blocks).subspan(r * row_bytes, row_bytes));
  }
  QuantizedRowBytes bytes;
  bytes.blocks = blocks;
  return WriteQuantizedRows(tensor, piece.begin, piece.count, bytes, sink);
}

// Rounds `rows` to codes of a table.
absl::Status EncodeCodebook(const Checkpoint& checkpoint, const Piece& piece,
                            const WeightRows& rows, Workspace* workspace,
                            TensorSink sink) {
  const PlannedTensor& tensor = *piece.tensor;
  const QuantizedShape shape(tensor.scheme, piece.count, tensor.cols);
  const size_t count = static_cast<size_t>(piece.count);
  const size_t cols = static_cast<size_t>(tensor.cols);
  const size_t row_bytes = static_cast<size_t>(shape.row_bytes);
  const size_t source_bytes = cols * DTypeBytes(rows.dtype);
  const size_t scale_row_bytes =
      static_cast<size_t>(shape.groups) * DTypeBytes(tensor.scale_dtype());
  std::vector<float> row(cols);
  std::vector<uint8_t> codes(cols);
  workspace->packed.resize(count * row_bytes);
  workspace->scales.resize(count * scale_row_bytes);
  for (size_t r = 0; r < count; ++r) {
    ConvertToFloat(rows.dtype,
                   rows.bytes.subspan(r * source_bytes, source_bytes),
                   absl::MakeSpan(row));
    if (!std::isfinite(AbsMax(row))) {
      const auto bad = std::find_if(row.begin(), row.end(),
                                    [](float x) { return !std::isfinite(x); });
      return NotFinite(checkpoint, tensor,
                       piece.begin + static_cast<int64_t>(r),
                       bad - row.begin());
    }
    RoundCodebookRow(tensor.scheme, row, tensor.scale_dtype(),
                     absl::MakeSpan(codes),
                     absl::MakeSpan(workspace->scales)
                         .subspan(r * scale_row_bytes, scale_row_bytes));
    PackCodebookRow(
        tensor.scheme.bits, codes,
        absl::MakeSpan(workspace->packed).subspan(r * row_bytes, row_bytes));
  }
  return WriteQuantizedRows(tensor, piece.begin, piece.count,
                            {workspace->packed, workspace->scales, {}}, sink);
}

absl::Status QuantizePiece(const Checkpoint& checkpoint, const Piece& piece,
                           Rounding rounding, Workspace* workspace,
                           TensorSink sink) {
  const PlannedTensor& tensor = *piece.tensor;
  QEFF_ASSIGN_OR_RETURN(const TensorView weight, checkpoint.Get(tensor.name));
  const WeightRows rows = ReadWeightRows(weight, tensor.transposed, piece.begin,
                                         piece.count, &workspace->rows);

  if (!tensor.scheme.integers()) {
    const auto encode =
        tensor.scheme.ggml.has_value() ? EncodeBlocks : EncodeCodebook;
    QEFF_RETURN_IF_ERROR(encode(checkpoint, piece, rows, workspace, sink));
    ReleasePiece(checkpoint, piece, weight);
    return absl::OkStatus();
  }
  const QuantizedShape shape(tensor.scheme, piece.count, tensor.cols);
  const size_t groups = static_cast<size_t>(shape.rows * shape.groups);
  const int64_t row_bytes = 4 * shape.row_words;
  const int64_t scale_row_bytes =
      shape.groups * static_cast<int64_t>(DTypeBytes(tensor.scale_dtype()));
  workspace->packed.resize(static_cast<size_t>(shape.rows * row_bytes));
  workspace->scales.resize(static_cast<size_t>(shape.rows * scale_row_bytes));
  workspace->zeros.resize(shape.asymmetric ? groups : 0);
  const auto quantize =
      rounding == Rounding::kLeastSquares ? QuantizeRowsByError : QuantizeRows;
  const absl::optional<int64_t> bad = quantize(
      tensor.scheme, tensor.scale_dtype(), rows.dtype, rows.bytes, shape.rows,
      shape.cols,
      {absl::MakeSpan(workspace->packed), absl::MakeSpan(workspace->scales),
       absl::MakeSpan(workspace->zeros)});
  if (bad.has_value()) {
    return NotFinite(checkpoint, tensor, piece.begin + *bad / shape.cols,
                     *bad % shape.cols);
  }

  QEFF_RETURN_IF_ERROR(WriteQuantizedRows(
      tensor, piece.begin, piece.count,
      {workspace->packed, workspace->scales, workspace->zeros}, sink));
  ReleasePiece(checkpoint, piece, weight);
  return absl::OkStatus();
}

// The error of the earliest piece that failed. Thread-safe. Pieces are begun
// in order, so whatever the threads do, it is the same one.
class FirstError {
 public:
  bool Before(size_t piece) const {
    return failed_.load(std::memory_order_relaxed) < piece;
  }
  void Set(size_t piece, const absl::Status& status) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (piece >= failed_.load(std::memory_order_relaxed)) return;
    failed_.store(piece, std::memory_order_relaxed);
    status_ = status;
  }
  absl::Status status() const { return status_; }

 private:
  std::atomic<size_t> failed_{static_cast<size_t>(-1)};
  std::mutex mutex_;
  absl::Status status_;
};

// Computes every tensor of the output and gives it to `sink`.
absl::Status RunPlan(const Checkpoint& checkpoint, const QuantizePlan& plan,
                     ThreadPool& pool,
                     const std::function<bool(uint64_t, uint64_t)>& progress,
                     TensorSink sink) {
  const std::vector<Piece> pieces = Pieces(plan);
  uint64_t total = 0;
  for (const Piece& piece : pieces) total += piece.source_bytes;
  std::vector<Workspace> workspaces(static_cast<size_t>(pool.num_threads()));
  FirstError error;
  std::mutex progress_mutex;
  uint64_t done = 0;
  pool.ParallelFor(
      static_cast<int64_t>(pieces.size()), /*grain=*/1,
      [&](int64_t begin, int64_t end, int thread) {
        for (size_t i = static_cast<size_t>(begin);
             i < static_cast<size_t>(end); ++i) {
          if (error.Before(i)) return;
          const Piece& piece = pieces[i];
          const absl::Status status =
              piece.quantized
                  ? QuantizePiece(checkpoint, piece, plan.rounding,
                                  &workspaces[static_cast<size_t>(thread)],
                                  sink)
                  : CopyTensorBytes(checkpoint, piece.tensor->name, piece.begin,
                                    piece.count, sink);
          if (!status.ok()) {
            error.Set(i, status);
            return;
          }
          std::lock_guard<std::mutex> lock(progress_mutex);
          done += piece.source_bytes;
          if (progress && !progress(done, total)) {
            error.Set(i, absl::CancelledError("quantization was cancelled"));
          }
        }
      });
  return error.status();
}

absl::Status QuantizeToFolder(const Checkpoint& checkpoint,
                              const QuantizePlan& plan,
                              const std::string& output, ThreadPool& pool,
                              const QuantizeRunOptions& options) {
  QEFF_ASSIGN_OR_RETURN(
      const std::unique_ptr<CheckpointWriter> writer,
      options.folder == nullptr
          ? CheckpointWriter::Create(output, OutputTensors(plan),
                                     options.writer)
          : CheckpointWriter::CreateIn(options.folder, OutputTensors(plan),
                                       options.writer));
  QEFF_RETURN_IF_ERROR(
      RunPlan(checkpoint, plan, pool, options.progress,
              [&](const std::string& name, uint64_t offset_bytes,
                  absl::Span<const uint8_t> bytes) {
                return writer->Write(name, offset_bytes, bytes);
              }));
  if (options.before_commit) options.before_commit();
  QEFF_ASSIGN_OR_RETURN(const auto files, ReadOtherFiles(checkpoint));
  QEFF_RETURN_IF_ERROR(checkpoint.VerifyUnchanged());
  return writer->Commit(plan.config, files);
}

absl::Status VerifyFolder(const Checkpoint& checkpoint,
                          const QuantizePlan& plan, const std::string& output,
                          ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Checkpoint> written,
                        Checkpoint::Open(output));
  if (written->config() != plan.config) {
    return absl::DataLossError(absl::StrCat(
        written->config_path(), ": is not the planned configuration"));
  }
  const std::vector<TensorInfo> expected = OutputTensors(plan);
  for (const TensorInfo& info : expected) {
    QEFF_RETURN_IF_ERROR(written->Get(info.name, info.shape).status());
  }
  if (written->tensors().size() != expected.size()) {
    return absl::DataLossError(absl::StrCat(output, ": expected ",
                                            expected.size(), " tensors, found ",
                                            written->tensors().size()));
  }
  return RunPlan(checkpoint, plan, pool, nullptr,
                 [&](const std::string& name, uint64_t offset_bytes,
                     absl::Span<const uint8_t> bytes) -> absl::Status {
                   QEFF_ASSIGN_OR_RETURN(TensorView view, written->Get(name));
                   if (offset_bytes + bytes.size() > view.bytes.size()) {
                     return absl::DataLossError(absl::StrCat(
                         output, ": tensor ", name, ": too short"));
                   }
                   view.bytes = view.bytes.subspan(offset_bytes, bytes.size());
                   const auto differs = std::mismatch(
                       bytes.begin(), bytes.end(), view.bytes.begin());
                   if (differs.first != bytes.end()) {
                     return absl::DataLossError(absl::StrCat(
                         output, ": tensor ", name, ": byte ",
                         offset_bytes + static_cast<uint64_t>(differs.first -
                                                              bytes.begin()),
                         " is not what was to be written"));
                   }
                   written->Release(view);
                   return absl::OkStatus();
                 });
}

// Scales of inputs come from calibration (calibrated_quantize.h).
absl::Status CheckNoInputScales(const QuantizePlan& plan) {
  for (const PlannedTensor& tensor : plan.tensors) {
    if (!tensor.quantized() || tensor.scheme.inputs != InputCodes::kStatic) {
      continue;
    }
    return InvalidInputError(tensor.module, ": scheme ",
                             QuantSchemeName(tensor.scheme),
                             " needs calibration data");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status QuantizeCheckpoint(const Checkpoint& checkpoint,
                                const QuantizePlan& plan,
                                const std::string& output, ThreadPool& pool,
                                const QuantizeRunOptions& options) {
  QEFF_RETURN_IF_ERROR(CheckNoInputScales(plan));
  return GuardMemory([&] {
    return QuantizeToFolder(checkpoint, plan, output, pool, options);
  });
}

absl::Status VerifyQuantized(const Checkpoint& checkpoint,
                             const QuantizePlan& plan,
                             const std::string& output, ThreadPool& pool) {
  QEFF_RETURN_IF_ERROR(CheckNoInputScales(plan));
  return GuardMemory(
      [&] { return VerifyFolder(checkpoint, plan, output, pool); });
}

}  // namespace qeff
