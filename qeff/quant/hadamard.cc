// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/hadamard.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/util/check.h"
#include "qeff/util/random.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

constexpr int64_t kMaxPaleyOrder = 4096;
// A product with H_m costs m additions an element.
constexpr int64_t kMaxFactorOrder = 512;
// Vectors that are rotated at a time, side by side.
constexpr int64_t kLanes = 16;

bool IsPrime(int64_t n) {
  if (n < 2) return false;
  for (int64_t d = 2; d * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return true;
}

// The prime q of Paley's first construction, of order q + 1, and of the second,
// of order 2 (q + 1); 0 if there is none.
int64_t FirstPrime(int64_t order) {
  const int64_t q = order - 1;
  return q % 4 == 3 && IsPrime(q) ? q : 0;
}
int64_t SecondPrime(int64_t order) {
  const int64_t q = order / 2 - 1;
  return order % 2 == 0 && q % 4 == 1 && IsPrime(q) ? q : 0;
}

bool HasPaley(int64_t order) {
  return order == 1 || order == 2 || FirstPrime(order) != 0 ||
         SecondPrime(order) != 0;
}

// The matrix of [q + 1, q + 1] with zeros on its diagonal, a border of ones
// (negative in the first column with q = 3 mod 4) and inside whether i - j is a
// square mod q: 1, or -1.
std::vector<int8_t> Conference(int64_t q) {
  std::vector<int8_t> residue(static_cast<size_t>(q), -1);
  residue[0] = 0;
  for (int64_t x = 1; x < q; ++x) residue[static_cast<size_t>(x * x % q)] = 1;
  const size_t order = static_cast<size_t>(q + 1);
  std::vector<int8_t> matrix(order * order, 0);
  for (size_t i = 1; i < order; ++i) {
    matrix[i] = 1;
    matrix[i * order] = q % 4 == 3 ? -1 : 1;
    for (size_t j = 1; j < order; ++j) {
      const size_t difference = (i + order - 1 - j) % (order - 1);
      matrix[i * order + j] = residue[difference];
    }
  }
  return matrix;
}

// One of kLanes vectors side by side: y_j = sum over i of x_i h_ij for each of
// the vectors of `order` in [rows, kLanes] at `x`.
QEFF_VECTOR_CLONES
void MultiplyPaley(const double* h, int64_t order, int64_t rows, double* x,
                   double* scratch) {
  for (int64_t begin = 0; begin < rows; begin += order) {
    double* part = x + begin * kLanes;
    for (int64_t j = 0; j < order; ++j) {
      double sums[kLanes] = {};
      for (int64_t i = 0; i < order; ++i) {
        const double factor = h[i * order + j];
        for (int64_t l = 0; l < kLanes; ++l) {
          sums[l] += factor * part[i * kLanes + l];
        }
      }
      std::copy(sums, sums + kLanes, scratch + j * kLanes);
    }
    std::copy(scratch, scratch + order * kLanes, part);
  }
}

// Rows `step` apart, `step` times a power of two within each `block`.
QEFF_VECTOR_CLONES
void Butterflies(int64_t step, int64_t block, int64_t rows, double* x) {
  for (int64_t half = step; half < block; half *= 2) {
    for (int64_t begin = 0; begin < rows; begin += 2 * half) {
      double* a = x + begin * kLanes;
      double* b = a + half * kLanes;
      for (int64_t i = 0; i < half * kLanes; ++i) {
        const double sum = a[i] + b[i];
        b[i] = a[i] - b[i];
        a[i] = sum;
      }
    }
  }
}

}  // namespace

std::vector<int8_t> PaleyHadamard(int64_t order) {
  QEFF_CHECK(order >= 1 && order <= kMaxPaleyOrder);
  if (!HasPaley(order)) return {};
  if (order == 1) return {1};
  if (order == 2) return {1, 1, 1, -1};
  const size_t n = static_cast<size_t>(order);
  if (const int64_t q = FirstPrime(order); q != 0) {
    std::vector<int8_t> matrix = Conference(q);
    for (size_t i = 0; i < n; ++i) matrix[i * n + i] = 1;
    return matrix;
  }
  const std::vector<int8_t> conference = Conference(SecondPrime(order));
  std::vector<int8_t> matrix(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const int c = conference[i / 2 * (n / 2) + j / 2];
      const int corner = i % 2 == 1 && j % 2 == 1 ? -1 : 1;
      const int diagonal = i % 2 == 0 && j % 2 == 0 ? 1 : -1;
      matrix[i * n + j] = static_cast<int8_t>(c != 0 ? c * corner : diagonal);
    }
  }
  return matrix;
}

// Element i of vector v lies at data + (v / inner) * outer_stride +
// (v % inner) * inner_stride + i * stride.
struct Hadamard::Strided {
  float* data;
  int64_t vectors, inner, outer_stride, inner_stride, stride;

  float* vector(int64_t v) const {
    return data + v / inner * outer_stride + v % inner * inner_stride;
  }
};

Hadamard::Hadamard(int64_t size, uint64_t seed, uint64_t stream) {
  QEFF_CHECK(size >= 1);
  const Random random(seed, stream);
  for (int64_t i = 0; i < size; ++i) {
    signs_.push_back(random.At(static_cast<uint64_t>(i)) >> 63 == 0 ? 1 : -1);
  }
  // The largest divisor 2^k m for which there is an H_m, and its smallest m.
  for (block_ = size; block_ >= 1; --block_) {
    if (size % block_ != 0) continue;
    order_ = block_;
    while (order_ % 2 == 0) order_ /= 2;
    while (order_ < block_ && !HasPaley(order_)) order_ *= 2;
    if (order_ <= kMaxFactorOrder && HasPaley(order_)) break;
  }
  if (order_ == 1) return;
  for (const int8_t element : PaleyHadamard(order_)) paley_.push_back(element);
}

void Hadamard::Rotate(const Strided& vectors, ThreadPool& pool) const {
  const int64_t n = size();
  const double scale = 1 / std::sqrt(static_cast<double>(block_));
  std::vector<std::vector<double>> workspaces(
      static_cast<size_t>(pool.num_threads()));
  pool.ParallelFor(
      vectors.vectors, kLanes, [&](int64_t begin, int64_t end, int thread) {
        std::vector<double>& workspace =
            workspaces[static_cast<size_t>(thread)];
        workspace.resize(static_cast<size_t>((n + order_) * kLanes));
        double* x = workspace.data();
        for (int64_t v = begin; v < end; ++v) {
          const float* from = vectors.vector(v);
          for (int64_t i = 0; i < n; ++i) {
            x[i * kLanes + v - begin] = signs_[static_cast<size_t>(i)] * scale *
                                        double{from[i * vectors.stride]};
          }
        }
        if (order_ > 1) {
          MultiplyPaley(paley_.data(), order_, n, x, x + n * kLanes);
        }
        Butterflies(order_, block_, n, x);
        for (int64_t v = begin; v < end; ++v) {
          float* to = vectors.vector(v);
          for (int64_t i = 0; i < n; ++i) {
            to[i * vectors.stride] =
                static_cast<float>(x[i * kLanes + v - begin]);
          }
        }
      });
}

void Hadamard::RotateRows(MatrixView<float> matrix, ThreadPool& pool) const {
  QEFF_CHECK(matrix.cols() % size() == 0);
  const int64_t runs = matrix.cols() / size();
  Rotate({matrix.data(), matrix.rows() * runs, runs, matrix.stride_elems(),
          size(), 1},
         pool);
}

void Hadamard::RotateColumns(MatrixView<float> matrix, ThreadPool& pool) const {
  QEFF_CHECK(matrix.rows() % size() == 0);
  const int64_t stride = matrix.stride_elems();
  Rotate({matrix.data(), matrix.rows() / size() * matrix.cols(), matrix.cols(),
          size() * stride, 1, stride},
         pool);
}

}  // namespace qeff
