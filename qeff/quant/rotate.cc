// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/rotate.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/quant/hadamard.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Rows that are held at a time where all of them are not needed.
constexpr int64_t kChunkBytes = 8 << 20;

// One run.
class Rotator {
 public:
  Rotator(const Transformer& model, const RotationPlan& plan, ThreadPool& pool,
          const RotateRunOptions& options)
      : model_(model),
        plan_(plan),
        pool_(pool),
        options_(options),
        hidden_(model.spec().hidden_size, plan.seed, /*stream=*/0),
        total_(plan.Bytes()) {}

  absl::Status Go(const std::string& output) {
    std::vector<TensorInfo> tensors;
    for (const RotatedTensor& tensor : plan_.tensors) {
      tensors.push_back(tensor.info);
    }
    QEFF_ASSIGN_OR_RETURN(writer_,
                          CheckpointWriter::Create(output, std::move(tensors)));
    for (const RotatedTensor& tensor : plan_.tensors) {
      QEFF_RETURN_IF_ERROR(WriteTensor(tensor));
    }
    const Checkpoint& checkpoint = model_.checkpoint();
    QEFF_ASSIGN_OR_RETURN(const auto files, ReadOtherFiles(checkpoint));
    QEFF_RETURN_IF_ERROR(checkpoint.VerifyUnchanged());
    return writer_->Commit(plan_.config, files);
  }

 private:
  absl::Status WriteTensor(const RotatedTensor& tensor) {
    QEFF_ASSIGN_OR_RETURN(const TensorView source,
                          model_.checkpoint().Get(tensor.source));
    if (!tensor.changes()) return Copy(tensor, source);
    const Shape& shape = tensor.info.shape;
    const int64_t rows = shape[0];
    const int64_t cols = shape.rank() == 2 ? shape[1] : 1;
    std::vector<float> norm;
    if (!tensor.norm.empty()) {
      QEFF_ASSIGN_OR_RETURN(norm, ReadNorm(tensor.norm));
    }
    int64_t chunk = rows;
    if (!tensor.hidden_rows) {
      // Heads stay whole.
      const int64_t head = model_.spec().head_dim;
      chunk = (kChunkBytes / 4 / cols / head + 1) * head;
    }
    Matrix<float> matrix(std::min(chunk, rows), cols);
    for (int64_t begin = 0; begin < rows; begin += chunk) {
      const MatrixView<float> part =
          matrix.view().Rows(0, std::min(chunk, rows - begin));
      if (tensor.ones) {
        std::fill_n(part.data(), part.rows() * cols, 1.0f);
      } else {
        QEFF_RETURN_IF_ERROR(Load(tensor, source, begin, norm, part));
        Rotate(tensor, begin, part);
      }
      QEFF_RETURN_IF_ERROR(Store(tensor, begin, part));
    }
    return absl::OkStatus();
  }

  absl::Status Copy(const RotatedTensor& tensor, const TensorView& source) {
    const size_t step = static_cast<size_t>(kChunkBytes);
    for (size_t begin = 0; begin < source.bytes.size(); begin += step) {
      TensorView part = source;
      part.bytes = source.bytes.subspan(begin, step);
      QEFF_RETURN_IF_ERROR(writer_->Write(tensor.info.name, begin, part.bytes));
      model_.checkpoint().Release(part);
      QEFF_RETURN_IF_ERROR(Advance(part.bytes.size()));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> ReadNorm(const std::string& name) const {
    QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(name));
    std::vector<float> norm(static_cast<size_t>(view.num_elements()));
    ConvertToFloat(view.dtype, view.bytes, absl::MakeSpan(norm));
    for (size_t i = 0; i < norm.size(); ++i) {
      if (!std::isfinite(norm[i])) return NotFinite(name, absl::StrCat(i));
    }
    return norm;
  }

  absl::Status NotFinite(const std::string& name,
                         const std::string& index) const {
    return NumericalError(model_.checkpoint().folder(), ": tensor ", name,
                          ": element [", index, "] is NaN or infinite");
  }

  // Rows of `source` from `begin` on, times `norm` unless that is empty.
  absl::Status Load(const RotatedTensor& tensor, const TensorView& source,
                    int64_t begin, absl::Span<const float> norm,
                    MatrixView<float> part) {
    const size_t cols = static_cast<size_t>(part.cols());
    const size_t row_bytes = cols * DTypeBytes(source.dtype);
    TensorView read = source;
    read.bytes =
        source.bytes.subspan(static_cast<size_t>(begin) * row_bytes,
                             static_cast<size_t>(part.rows()) * row_bytes);
    std::atomic<int64_t> bad{part.rows()};  // the first row
    pool_.ParallelFor(
        part.rows(), BalancedGrain(part.rows(), pool_.num_threads(), 16),
        [&](int64_t first, int64_t last, int) {
          for (int64_t r = first; r < last; ++r) {
            const absl::Span<float> row(part.row(r), cols);
            ConvertToFloat(read.dtype,
                           read.bytes.subspan(
                               static_cast<size_t>(r) * row_bytes, row_bytes),
                           row);
            if (FirstNotFinite(row) < cols) {
              int64_t seen = bad;
              while (r < seen && !bad.compare_exchange_weak(seen, r)) {
              }
            }
            for (size_t c = 0; c < norm.size(); ++c) row[c] *= norm[c];
          }
        });
    if (bad < part.rows()) {
      std::vector<float> row(cols);
      ReadFloats(read, bad * part.cols(), absl::MakeSpan(row));
      return NotFinite(tensor.source,
                       absl::StrCat(begin + bad, ", ", FirstNotFinite(row)));
    }
    model_.checkpoint().Release(read);
    return absl::OkStatus();
  }

  static size_t FirstNotFinite(absl::Span<const float> row) {
    size_t c = 0;
    while (c < row.size() && std::isfinite(row[c])) ++c;
    return c;
  }

  void Rotate(const RotatedTensor& tensor, int64_t begin,
              MatrixView<float> part) {
    const Hadamard values(model_.spec().head_dim, plan_.seed,
                          static_cast<uint64_t>(tensor.block) + 1);
    if (tensor.value_columns) values.RotateRows(part, pool_);
    if (tensor.hidden_columns) hidden_.RotateRows(part, pool_);
    if (tensor.first_value_row >= 0) {
      const int64_t skipped = std::min(
          std::max<int64_t>(tensor.first_value_row - begin, 0), part.rows());
      values.RotateColumns(part.Rows(skipped, part.rows() - skipped), pool_);
    }
    if (tensor.hidden_rows) hidden_.RotateColumns(part, pool_);
  }

  absl::Status Store(const RotatedTensor& tensor, int64_t begin,
                     MatrixView<const float> part) {
    const DType dtype = tensor.info.dtype;
    const int64_t element = static_cast<int64_t>(DTypeBytes(dtype));
    const int64_t rows = std::max<int64_t>(kChunkBytes / 4 / part.cols(), 1);
    for (int64_t r = 0; r < part.rows(); r += rows) {
      const int64_t count = std::min(rows, part.rows() - r);
      const absl::Span<const float> values(
          part.row(r), static_cast<size_t>(count * part.cols()));
      stored_.resize(values.size() * DTypeBytes(dtype));
      ConvertFromFloat(values, dtype, absl::MakeSpan(stored_));
      QEFF_RETURN_IF_ERROR(writer_->Write(
          tensor.info.name,
          static_cast<uint64_t>((begin + r) * part.cols() * element), stored_));
      QEFF_RETURN_IF_ERROR(Advance(stored_.size()));
    }
    return absl::OkStatus();
  }

  absl::Status Advance(uint64_t bytes) {
    done_ += bytes;
    return options_.progress ? options_.progress(done_, total_)
                             : absl::OkStatus();
  }

  const Transformer& model_;
  const RotationPlan& plan_;
  ThreadPool& pool_;
  const RotateRunOptions& options_;
  const Hadamard hidden_;
  std::unique_ptr<CheckpointWriter> writer_;
  std::vector<uint8_t> stored_;
  uint64_t done_ = 0;
  const uint64_t total_;
};

}  // namespace

absl::Status RotateModel(const Transformer& model, const RotationPlan& plan,
                         const std::string& output, ThreadPool& pool,
                         const RotateRunOptions& options) {
  return GuardMemory(
      [&] { return Rotator(model, plan, pool, options).Go(output); });
}

}  // namespace qeff
