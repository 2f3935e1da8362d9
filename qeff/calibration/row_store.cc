// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/row_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/checksum.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Rows that are copied at a time hold about this much.
constexpr int64_t kPieceBytes = 4 << 20;

size_t Elems(int64_t rows, int64_t cols) {
  const CheckedU64 elems = CheckedU64(rows) * cols + RowStore::kReadBeyondElems;
  if (!elems.valid()) throw std::bad_alloc();
  return elems.value();
}

absl::Span<const uint8_t> Bytes(MatrixView<const float> rows) {
  QEFF_CHECK(rows.stride_elems() == rows.cols() || rows.rows() <= 1);
  return absl::MakeSpan(
      reinterpret_cast<const uint8_t*>(rows.data()),
      static_cast<size_t>(rows.rows() * rows.cols()) * sizeof(float));
}

absl::Span<uint8_t> MutableBytes(MatrixView<float> rows) {
  const auto bytes = Bytes(rows);
  return absl::MakeSpan(const_cast<uint8_t*>(bytes.data()), bytes.size());
}

// Checksums of the pieces, in order, are summed up like this.
uint64_t Combine(uint64_t checksum, absl::Span<const uint8_t> piece) {
  const uint64_t both[2] = {checksum, Checksum64(piece)};
  return Checksum64(
      absl::MakeSpan(reinterpret_cast<const uint8_t*>(both), sizeof(both)));
}

int64_t PieceRows(int64_t cols) {
  return std::max<int64_t>(1, kPieceBytes / (cols * 4));
}

absl::StatusOr<OutputFile> OpenFile(const std::string& path, int flags) {
  FileDescriptor fd(open(path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!fd.valid()) return OutputError(path, "open", errno);
  return OutputFile(std::move(fd), path);
}

}  // namespace

RowStore::RowStore(int64_t rows, int64_t cols)
    : rows_(rows), cols_(cols), values_(Elems(rows, cols)) {}

absl::StatusOr<RowStore> RowStore::InFile(const std::string& path, int64_t rows,
                                          int64_t cols) {
  (void)unlink(path.c_str());
  QEFF_ASSIGN_OR_RETURN(OutputFile file,
                        OpenFile(path, O_RDWR | O_CREAT | O_EXCL));
  (void)unlink(path.c_str());
  const uint64_t bytes = (CheckedU64(rows) * cols * sizeof(float)).value();
  QEFF_RETURN_IF_ERROR(CheckFreeSpace(ParentFolder(path), bytes));
  QEFF_RETURN_IF_ERROR(file.Resize(bytes));
  return RowStore(rows, cols, std::make_unique<OutputFile>(std::move(file)));
}

void RowStore::Reserve(int64_t rows) {
  const size_t elems = Elems(rows, cols_);
  if (values_.size() >= elems) return;
  values_ = AlignedArray<float>();  // free first
  values_ = AlignedArray<float>(elems);
}

absl::StatusOr<MatrixView<float>> RowStore::Read(int64_t begin, int64_t count) {
  QEFF_CHECK(begin >= 0 && count >= 0 && begin + count <= rows_);
  if (file_ == nullptr) {
    return MatrixView<float>(values_.data() + begin * cols_, count, cols_);
  }
  Reserve(count);
  const MatrixView<float> rows(values_.data(), count, cols_);
  QEFF_RETURN_IF_ERROR(
      file_->Read(static_cast<uint64_t>(begin * cols_) * sizeof(float),
                  MutableBytes(rows)));
  return rows;
}

absl::Status RowStore::Write(int64_t begin, MatrixView<const float> rows) {
  QEFF_CHECK(begin >= 0 && begin + rows.rows() <= rows_);
  QEFF_CHECK(rows.cols() == cols_);
  const auto bytes = Bytes(rows);
  if (file_ != nullptr) {
    return file_->Write(static_cast<uint64_t>(begin * cols_) * sizeof(float),
                        bytes);
  }
  float* to = values_.data() + begin * cols_;
  if (to != rows.data()) std::memcpy(to, bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> RowStore::Save(const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(OutputFile file,
                        OpenFile(path, O_RDWR | O_CREAT | O_TRUNC));
  uint64_t checksum = 0, written_bytes = 0;
  const int64_t piece_rows = PieceRows(cols_);
  for (int64_t row = 0; row < rows_; row += piece_rows) {
    QEFF_ASSIGN_OR_RETURN(const MatrixView<float> piece,
                          Read(row, std::min(piece_rows, rows_ - row)));
    QEFF_RETURN_IF_ERROR(file.Write(written_bytes, Bytes(piece)));
    written_bytes += Bytes(piece).size();
    checksum = Combine(checksum, Bytes(piece));
  }
  QEFF_RETURN_IF_ERROR(file.Sync());
  return checksum;
}

absl::StatusOr<uint64_t> RowStore::Load(const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(OutputFile file, OpenFile(path, O_RDONLY));
  struct stat info;
  const int64_t expected_bytes = rows_ * cols_ * 4;
  if (fstat(file.fd(), &info) != 0 || info.st_size != expected_bytes) {
    return InvalidInputError(path, ": expected ", expected_bytes,
                             " bytes, found ", info.st_size);
  }
  uint64_t checksum = 0, read_bytes = 0;
  const int64_t piece_rows = PieceRows(cols_);
  Matrix<float> piece(piece_rows, cols_);
  for (int64_t row = 0; row < rows_; row += piece_rows) {
    const auto rows = piece.view().Rows(0, std::min(piece_rows, rows_ - row));
    QEFF_RETURN_IF_ERROR(file.Read(read_bytes, MutableBytes(rows)));
    QEFF_RETURN_IF_ERROR(Write(row, rows));
    read_bytes += Bytes(rows).size();
    checksum = Combine(checksum, Bytes(rows));
  }
  return checksum;
}

}  // namespace qeff
