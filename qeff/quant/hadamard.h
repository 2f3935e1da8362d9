// SPDX-License-Identifier: Apache-2.0
//
// Random rotations of vectors by Hadamard matrices: they spread what is large
// in one element over all of them, and cost n log n operations.
//
//   const Hadamard rotation(spec.hidden_size, seed, /*stream=*/0);
//   rotation.RotateRows(weights.view(), *pool);  // W R
//
// Source: Ashkboos et al. 2024 (QuaRot), section 3; R. Paley 1933 for orders
// that are no power of two.

#ifndef QEFF_QUANT_HADAMARD_H_
#define QEFF_QUANT_HADAMARD_H_

#include <cstdint>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// A matrix H of [order, order] with elements 1 and -1 and H H^T = order I, by
// Paley's two constructions over a prime field; empty where neither gives one.
// Precondition (checked): 1 <= order <= 4096.
std::vector<int8_t> PaleyHadamard(int64_t order);

// The orthogonal matrix R = D diag(B, ..., B) of [size, size], where D is
// diagonal of random signs and B = H / sqrt(block) with a Hadamard matrix
// H = H_(2^k) x H_m, of m by Paley. `block` is the largest divisor of size for
// which there is one: size itself for every power of two, and times 12, 20, 28,
// 36, ...; for an odd size it is 1. Immutable, hence thread-safe.
class Hadamard {
 public:
  // The signs depend on (seed, stream) alone. Precondition (checked): size
  // >= 1.
  Hadamard(int64_t size, uint64_t seed, uint64_t stream);

  int64_t size() const { return static_cast<int64_t>(signs_.size()); }
  int64_t block() const { return block_; }

  // Each run of size() elements of each row x becomes x R. Preconditions
  // (checked): size() divides the number of columns. Computed in double and
  // rounded once: a relative error of 2^-24 an element of typical size, and
  // the same bits for any pool and on every machine.
  void RotateRows(MatrixView<float> matrix, ThreadPool& pool) const;

  // The same of each run of size() elements of each column: R^T M for a matrix
  // of size() rows.
  void RotateColumns(MatrixView<float> matrix, ThreadPool& pool) const;

 private:
  struct Strided;

  void Rotate(const Strided& vectors, ThreadPool& pool) const;

  int64_t block_ = 1;
  int64_t order_ = 1;          // m
  std::vector<double> paley_;  // [m, m]; empty when m is 1
  std::vector<double> signs_;
};

}  // namespace qeff

#endif  // QEFF_QUANT_HADAMARD_H_
