// SPDX-License-Identifier: Apache-2.0
//
// Float32 products of matrices that both change from call to call: Hessians,
// error propagation, gradients. For weights that stay, qeff/xnnpack packs them
// once; for packed or stored weights see matmul_int, matmul_bf16 and matvec.
//
//   // H += X^T X, above the diagonal
//   SgemmArgs args;
//   args.a = args.b = x;
//   args.a_transposed = true;
//   args.c = h;
//   args.update = SgemmUpdate::kAdd;
//   args.upper_only = true;
//   Sgemm(args, *pool);

#ifndef QEFF_KERNELS_SGEMM_SGEMM_H_
#define QEFF_KERNELS_SGEMM_SGEMM_H_

#include <cstdint>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/aligned.h"

namespace qeff {

enum class SgemmUpdate : uint8_t {
  kSet,       // C = A B
  kAdd,       // C += A B
  kSubtract,  // C -= A B
};

// A is [m, k] and B is [k, n]; `a` and `b` hold them, or with *_transposed
// [k, m] and [n, k].
struct SgemmArgs {
  MatrixView<const float> a;
  bool a_transposed = false;
  MatrixView<const float> b;
  bool b_transposed = false;
  MatrixView<float> c;  // [m, n]
  SgemmUpdate update = SgemmUpdate::kSet;
  // Only elements (i, j) with i <= j are meant: others are left alone or get
  // some values. For products that are known to be symmetric.
  bool upper_only = false;
};

// Packed copies of blocks of A and B, 0.8 MiB for each thread that has had
// work: what products need besides their matrices. For callers that have many
// of them. Not thread-safe.
class SgemmScratch {
 public:
  struct Blocks {
    AlignedArray<float> a, b;
  };

  // Blocks of threads [0, threads), allocated where they are not yet. Throws
  // std::bad_alloc.
  Blocks* Get(int threads);

 private:
  std::vector<Blocks> blocks_;
};

// Preconditions (checked): the sizes fit. C overlaps neither A nor B, which may
// be the same; any size may be 0, and with k = 0 the product is 0. Any
// alignment. Thread-safe; works on `pool`. Allocates in `scratch`, or without
// one what it would hold; throws std::bad_alloc.
//
// Numerics: an element is summed over k in order, in runs of 256 products that
// begin at 0 and are then added to (or subtracted from) the element. Targets
// with fused multiply-add use it, others round twice. The same bits for any
// number of threads, and wherever the element is in C. With u = 2^-24,
//   |C - exact| <= 2 (min(k, 256) + k / 256 + 1) u sum_k |a b|
// and u |C| for each addition to what C held.
// Cost: multiplications and additions from about 64 rows and columns on.
void Sgemm(const SgemmArgs& args, ThreadPool& pool, SgemmScratch& scratch);
void Sgemm(const SgemmArgs& args, ThreadPool& pool);

// The same bits on the calling thread, also inside of a loop of a pool: for
// many small products, which callers split over threads.
void SgemmOnThisThread(const SgemmArgs& args, SgemmScratch& scratch);

}  // namespace qeff

#endif  // QEFF_KERNELS_SGEMM_SGEMM_H_
