// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/input_statistics.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace {

// Rows that one product in float32 sums.
constexpr int64_t kChunkRows = 2048;

// Rows and columns of the pieces of the triangle that threads compute: their
// sums stay in cache until they are added up, and each packs its inputs.
constexpr int64_t kLargestTile = 512;
constexpr int64_t kLeastTile = 128;

// Where there are few features more threads have work.
int64_t TileSize(int64_t features, int threads) {
  int64_t size = kLargestTile;
  while (size > kLeastTile && CeilDiv(features, size) < 2 * threads) size /= 2;
  return size;
}

constexpr int64_t kFeaturesOfTask = 64;

// sum += a^T b, which has a size of its own at first.
void AddProduct(MatrixView<const float> a, MatrixView<const float> b,
                Matrix<float>* sum, ThreadPool& pool) {
  if (sum->empty()) *sum = Matrix<float>(a.cols(), b.cols());
  SgemmArgs args;
  args.a = a;
  args.a_transposed = true;
  args.b = b;
  args.c = sum->view();
  args.update = SgemmUpdate::kAdd;
  Sgemm(args, pool);
}

}  // namespace

InputStatistics::InputStatistics(int64_t features,
                                 const StatisticsOptions& options)
    : features_(features),
      hessian_(options.hessian),
      abs_sums_(static_cast<size_t>(features)),
      square_sums_(static_cast<size_t>(features)),
      abs_maxima_(static_cast<size_t>(features)) {
  if (options.magnitudes) magnitudes_.emplace();
  if (options.sampled_rows > 0) {
    sample_.emplace(options.sampled_rows, features);
  }
  if (!hessian_) return;
  triangle_ =
      AlignedArray<double>(static_cast<size_t>(features * (features + 1) / 2));
}

void InputStatistics::Add(MatrixView<const float> rows, ThreadPool& pool) {
  QEFF_CHECK(rows.cols() == features_);
  pool.ParallelFor(features_, kFeaturesOfTask,
                   [&](int64_t begin, int64_t end, int /*thread*/) {
                     for (int64_t r = 0; r < rows.rows(); ++r) {
                       const float* x = rows.row(r);
                       for (int64_t j = begin; j < end; ++j) {
                         const float magnitude = std::abs(x[j]);
                         const size_t i = static_cast<size_t>(j);
                         const double value = static_cast<double>(magnitude);
                         abs_sums_[i] += value;
                         square_sums_[i] += value * value;
                         abs_maxima_[i] = std::max(abs_maxima_[i], magnitude);
                       }
                     }
                   });
  for (const double sum : abs_sums_) finite_ = finite_ && std::isfinite(sum);
  if (magnitudes_.has_value()) magnitudes_->Add(rows, pool);
  if (sample_.has_value()) sample_->Add(rows);
  for (int64_t r = 0; hessian_ && r < rows.rows(); r += kChunkRows) {
    AddHessian(rows.Rows(r, std::min(kChunkRows, rows.rows() - r)), pool);
  }
  rows_ += rows.rows();
}

void InputStatistics::AddHessian(MatrixView<const float> rows,
                                 ThreadPool& pool) {
  const int64_t size = TileSize(features_, pool.num_threads());
  // Those on the diagonal, which are half the work, come last.
  std::vector<Tile> tiles;
  for (int64_t row = 0; row < features_; row += size) {
    for (int64_t col = row + size; col < features_; col += size) {
      tiles.push_back({row, col, size});
    }
  }
  for (int64_t i = 0; i < features_; i += size) tiles.push_back({i, i, size});
  scratch_.resize(static_cast<size_t>(pool.num_threads()));
  pool.ParallelFor(static_cast<int64_t>(tiles.size()), 1,
                   [&](int64_t i, int64_t end, int thread) {
                     for (; i < end; ++i) {
                       AddTile(rows, tiles[static_cast<size_t>(i)],
                               &scratch_[static_cast<size_t>(thread)]);
                     }
                   });
}

void InputStatistics::AddTile(MatrixView<const float> rows, const Tile& tile,
                              Scratch* scratch) {
  if (scratch->product.rows() < tile.size) {
    scratch->product = Matrix<float>(tile.size, tile.size);
  }
  const bool diagonal = tile.row == tile.col;
  const int64_t count = std::min(tile.size, features_ - tile.row);
  const int64_t cols = std::min(tile.size, features_ - tile.col);
  SgemmArgs args;
  args.a = rows.Cols(tile.row, count);
  args.a_transposed = true;
  args.b = rows.Cols(tile.col, cols);
  args.c = MatrixView<float>(scratch->product.data(), count, cols);
  args.upper_only = diagonal;
  SgemmOnThisThread(args, scratch->blocks);
  for (int64_t r = 0; r < count; ++r) {
    const float* product = args.c.row(r);
    double* sum = TriangleRow(tile.row + r) + tile.col - tile.row - r;
    for (int64_t c = diagonal ? r : 0; c < cols; ++c) {
      sum[c] += static_cast<double>(product[c]);
    }
  }
}

const MagnitudeHistogram& InputStatistics::magnitudes() const {
  QEFF_CHECK(magnitudes_.has_value());
  return *magnitudes_;
}

const RowSample& InputStatistics::sample() const {
  QEFF_CHECK(sample_.has_value());
  return *sample_;
}

void InputStatistics::AddGap(MatrixView<const float> rows,
                             MatrixView<const float> gap,
                             MatrixView<const float> residual_gap,
                             ThreadPool& pool) {
  QEFF_CHECK(rows.cols() == features_ && gap.cols() == features_ &&
             gap.rows() == rows.rows());
  AddProduct(gap, rows, &input_gap_, pool);
  if (residual_gap.rows() > 0) {
    AddProduct(residual_gap, rows, &residual_gap_, pool);
  }
}

Matrix<float> InputStatistics::MeanOf(Matrix<float> sum) const {
  const float factor =
      rows_ == 0 ? 0.0f : static_cast<float>(1.0 / static_cast<double>(rows_));
  for (float& value : sum.span()) value *= factor;
  return sum;
}

Matrix<float> InputStatistics::TakeInputGap() {
  return MeanOf(std::move(input_gap_));
}

Matrix<float> InputStatistics::TakeResidualGap() {
  return MeanOf(std::move(residual_gap_));
}

Matrix<float> InputStatistics::TakeHessian() {
  QEFF_CHECK(hessian_);
  scratch_.clear();
  Matrix<float> hessian(features_, features_);
  const double factor = rows_ == 0 ? 0.0 : 1.0 / static_cast<double>(rows_);
  for (int64_t i = 0; i < features_; ++i) {
    const double* sum = TriangleRow(i);
    float* row = hessian.row(i);
    for (int64_t j = i; j < features_; ++j) {
      row[j] = static_cast<float>(sum[j - i] * factor);
    }
  }
  triangle_ = AlignedArray<double>();
  return hessian;
}

}  // namespace qeff
