// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/quant/weight_rows.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Source bytes of a piece of work: large enough that a system call a piece
// does not show, small enough that a few stay in the caches and memory is low.
constexpr int64_t kPieceBytes = 2 << 20;

// Rows of a piece are a multiple of this: then its zero points, packed along
// the rows, are whole words for any number of bits.
constexpr int64_t kRowMultiple = 32;

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
      const int64_t rows = std::max(
          kPieceBytes / row_bytes / kRowMultiple * kRowMultiple, kRowMultiple);
      cut(tensor, /*quantized=*/true, tensor.rows, rows, row_bytes);
    }
  }
  return pieces;
}

// Takes bytes of a tensor of the output. Called from several threads.
using Sink = absl::FunctionRef<absl::Status(const std::string& name,
                                            uint64_t offset_bytes,
                                            absl::Span<const uint8_t> bytes)>;

// Memory of one thread, reused between pieces.
struct Workspace {
  std::vector<float> rows;
  std::vector<uint8_t> packed, scales, zeros, zero_words;
};

absl::Status NotFinite(const Checkpoint& checkpoint,
                       const PlannedTensor& tensor, int64_t row, int64_t col) {
  if (tensor.transposed) std::swap(row, col);
  return NumericalError(checkpoint.folder(), ": tensor ", tensor.name,
                        ": element [", row, ", ", col, "] is NaN or infinite");
}

absl::Status QuantizePiece(const Checkpoint& checkpoint, const Piece& piece,
                           Workspace* workspace, Sink sink) {
  const PlannedTensor& tensor = *piece.tensor;
  QEFF_ASSIGN_OR_RETURN(const TensorView weight, checkpoint.Get(tensor.name));
  const WeightRows rows = ReadWeightRows(weight, tensor.transposed, piece.begin,
                                         piece.count, &workspace->rows);

  const QuantizedShape shape(tensor.scheme, piece.count, tensor.cols);
  const size_t groups = static_cast<size_t>(shape.rows * shape.groups);
  const int64_t row_bytes = 4 * shape.row_words;
  const int64_t scale_row_bytes =
      shape.groups * static_cast<int64_t>(DTypeBytes(tensor.scale_dtype()));
  workspace->packed.resize(static_cast<size_t>(shape.rows * row_bytes));
  workspace->scales.resize(static_cast<size_t>(shape.rows * scale_row_bytes));
  workspace->zeros.resize(shape.asymmetric ? groups : 0);
  const absl::optional<int64_t> bad = QuantizeRows(
      tensor.scheme, tensor.scale_dtype(), rows.dtype, rows.bytes, shape.rows,
      shape.cols,
      {absl::MakeSpan(workspace->packed), absl::MakeSpan(workspace->scales),
       absl::MakeSpan(workspace->zeros)});
  if (bad.has_value()) {
    return NotFinite(checkpoint, tensor, piece.begin + *bad / shape.cols,
                     *bad % shape.cols);
  }

  QEFF_RETURN_IF_ERROR(sink(PackedTensorName(tensor.module),
                            static_cast<uint64_t>(piece.begin * row_bytes),
                            workspace->packed));
  QEFF_RETURN_IF_ERROR(sink(
      ScaleTensorName(tensor.module),
      static_cast<uint64_t>(piece.begin * scale_row_bytes), workspace->scales));
  if (shape.asymmetric) {
    workspace->zero_words.resize(
        static_cast<size_t>(4 * shape.zero_words * shape.groups));
    PackColumns(tensor.scheme.bits, shape.rows, shape.groups, workspace->zeros,
                absl::MakeSpan(workspace->zero_words));
    const int64_t words = piece.begin * tensor.scheme.bits / 32;
    QEFF_RETURN_IF_ERROR(sink(ZeroPointTensorName(tensor.module),
                              static_cast<uint64_t>(4 * words * shape.groups),
                              workspace->zero_words));
  }
  if (piece.begin == 0) {
    const int64_t sides[2] = {tensor.rows, tensor.cols};
    QEFF_RETURN_IF_ERROR(
        sink(ShapeTensorName(tensor.module), 0,
             absl::MakeSpan(reinterpret_cast<const uint8_t*>(sides),
                            sizeof(sides))));
  }

  // A transposed piece touches all pages of the tensor.
  TensorView read = weight;
  if (!tensor.transposed) {
    const uint64_t begin = static_cast<uint64_t>(piece.begin * tensor.cols) *
                           DTypeBytes(tensor.dtype);
    read.bytes = weight.bytes.subspan(begin, piece.source_bytes);
  }
  checkpoint.Release(read);
  return absl::OkStatus();
}

absl::Status CopyPiece(const Checkpoint& checkpoint, const Piece& piece,
                       Sink sink) {
  QEFF_ASSIGN_OR_RETURN(TensorView view, checkpoint.Get(piece.tensor->name));
  view.bytes = view.bytes.subspan(static_cast<size_t>(piece.begin),
                                  static_cast<size_t>(piece.count));
  QEFF_RETURN_IF_ERROR(
      sink(piece.tensor->name, static_cast<uint64_t>(piece.begin), view.bytes));
  checkpoint.Release(view);
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
                     Sink sink) {
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
                  ? QuantizePiece(checkpoint, piece,
                                  &workspaces[static_cast<size_t>(thread)],
                                  sink)
                  : CopyPiece(checkpoint, piece, sink);
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

std::vector<TensorInfo> OutputTensors(const QuantizePlan& plan) {
  std::vector<TensorInfo> tensors;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.action == PlannedTensor::Action::kKeep ||
        tensor.action == PlannedTensor::Action::kAdd) {
      tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
    }
    if (!tensor.quantized()) continue;
    const QuantizedShape shape(tensor.scheme, tensor.rows, tensor.cols);
    for (TensorDeclaration& declaration :
         QuantizedTensors(tensor.module, shape, tensor.scale_dtype())) {
      tensors.push_back({std::move(declaration.name), declaration.dtype,
                         std::move(declaration.shape)});
    }
  }
  return tensors;
}

absl::Status QuantizeToFolder(const Checkpoint& checkpoint,
                              const QuantizePlan& plan,
                              const std::string& output, ThreadPool& pool,
                              const QuantizeRunOptions& options) {
  QEFF_ASSIGN_OR_RETURN(
      const std::unique_ptr<CheckpointWriter> writer,
      CheckpointWriter::Create(output, OutputTensors(plan), options.writer));
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

// Runs `body`; memory that is out becomes a status.
absl::Status CatchBadAlloc(absl::FunctionRef<absl::Status()> body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory while quantizing");
  }
}

}  // namespace

absl::Status QuantizeCheckpoint(const Checkpoint& checkpoint,
                                const QuantizePlan& plan,
                                const std::string& output, ThreadPool& pool,
                                const QuantizeRunOptions& options) {
  return CatchBadAlloc([&] {
    return QuantizeToFolder(checkpoint, plan, output, pool, options);
  });
}

absl::Status VerifyQuantized(const Checkpoint& checkpoint,
                             const QuantizePlan& plan,
                             const std::string& output, ThreadPool& pool) {
  return CatchBadAlloc(
      [&] { return VerifyFolder(checkpoint, plan, output, pool); });
}

}  // namespace qeff
