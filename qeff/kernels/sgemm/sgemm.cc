// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/sgemm/sgemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/sgemm/sgemm.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

#ifndef QEFF_KERNELS_SGEMM_SGEMM_ONCE_
#define QEFF_KERNELS_SGEMM_SGEMM_ONCE_
namespace qeff {
namespace internal_sgemm {

// Products in a run of sums: a block of A of these columns and kBlockRows rows,
// and one of B with kBlockCols columns, fill three quarters of 1 MiB of L2.
constexpr int64_t kBlockDepth = 256;
constexpr int64_t kBlockRows = 240;  // of all tile heights a multiple
constexpr int64_t kBlockCols = 512;

using Scratch = SgemmScratch::Blocks;

// The part of C that a task makes.
struct Part {
  int64_t row_begin, row_end;
  int64_t col_begin, col_end;
};

}  // namespace internal_sgemm
}  // namespace qeff
#endif  // QEFF_KERNELS_SGEMM_SGEMM_ONCE_

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_sgemm {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using V = hn::Vec<F32>;
constexpr int64_t kN = static_cast<int64_t>(hn::MaxLanes(F32()));

// A tile of C in registers: 12 * 2 sums, 2 vectors of B and a broadcast element
// of A take 27 of 32 registers, 6 * 2 sums 15 of 16.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || \
    HWY_TARGET == HWY_NEON
constexpr int64_t kTileRows = 12;
#else
constexpr int64_t kTileRows = 6;
#endif
constexpr int64_t kTileCols = 2 * kN;

// kSize floats, of which only the first `count` are there and the rest 0. Most
// are all there, and a constant size needs no call.
template <int64_t kSize>
HWY_INLINE void CopyPadded(const float* from, int64_t count, float* to) {
  if (count == kSize) {
    std::memcpy(to, from, kSize * sizeof(float));
    return;
  }
  std::copy_n(from, count, to);
  std::fill(to + count, to + kSize, 0.0f);
}

// Rows [row, row + kTileRows) of A from `depth_begin` on, zeros beyond its
// rows. Not transposed: as rows of kBlockDepth elements. Transposed: as columns
// of kTileRows. Either is what reads A in order.
void PackTileOfA(const SgemmArgs& args, int64_t row, int64_t rows,
                 int64_t depth_begin, int64_t depth, float* to) {
  if (args.a_transposed) {
    for (int64_t d = 0; d < depth; ++d) {
      CopyPadded<kTileRows>(args.a.row(depth_begin + d) + row, rows,
                            to + d * kTileRows);
    }
    return;
  }
  for (int64_t r = 0; r < kTileRows; ++r) {
    float* packed = to + r * kBlockDepth;
    if (r < rows) {
      std::copy_n(args.a.row(row + r) + depth_begin, depth, packed);
    } else {
      std::fill_n(packed, depth, 0.0f);
    }
  }
}

// Columns [col, col + cols) of B as rows of kTileCols, zeros beyond.
void PackTileOfB(const SgemmArgs& args, int64_t col, int64_t cols,
                 int64_t depth_begin, int64_t depth, float* to) {
  if (!args.b_transposed) {
    for (int64_t d = 0; d < depth; ++d) {
      CopyPadded<kTileCols>(args.b.row(depth_begin + d) + col, cols,
                            to + d * kTileCols);
    }
    return;
  }
  // Runs of 16 elements of a column: the rows that they go to stay in L1.
  constexpr int64_t kRun = 16;
  for (int64_t d = 0; d < depth; d += kRun) {
    const int64_t count = std::min(kRun, depth - d);
    for (int64_t c = 0; c < kTileCols; ++c) {
      float* element = to + d * kTileCols + c;
      if (c < cols) {
        const float* from = args.b.row(col + c) + depth_begin + d;
        for (int64_t i = 0; i < count; ++i) element[i * kTileCols] = from[i];
      } else {
        for (int64_t i = 0; i < count; ++i) element[i * kTileCols] = 0.0f;
      }
    }
  }
}

// Adds to, subtracts from or sets what is at `c`.
HWY_INLINE void Update(SgemmUpdate update, V sum, float* c) {
  if (update == SgemmUpdate::kAdd) sum = hn::Add(hn::LoadU(F32(), c), sum);
  if (update == SgemmUpdate::kSubtract) {
    sum = hn::Sub(hn::LoadU(F32(), c), sum);
  }
  hn::StoreU(sum, F32(), c);
}

// A tile of C. `stride_elems` separates its rows.
template <bool kTransposed>
HWY_NOINLINE void MultiplyTile(const float* HWY_RESTRICT a,
                               const float* HWY_RESTRICT b, int64_t depth,
                               SgemmUpdate update, float* c,
                               int64_t stride_elems) {
  constexpr int64_t kRowElems = kTransposed ? 1 : kBlockDepth;
  constexpr int64_t kDepthElems = kTransposed ? kTileRows : 1;
  V sums[kTileRows][2];
  HWY_UNROLL(12)
  for (int64_t r = 0; r < kTileRows; ++r) {
    sums[r][0] = sums[r][1] = hn::Zero(F32());
    hwy::Prefetch(c + r * stride_elems);
    hwy::Prefetch(c + r * stride_elems + kTileCols - 1);
  }
  for (int64_t d = 0; d < depth; ++d) {
    const V b0 = hn::Load(F32(), b), b1 = hn::Load(F32(), b + kN);
    HWY_UNROLL(12)
    for (int64_t r = 0; r < kTileRows; ++r) {
      const V element = hn::Set(F32(), a[r * kRowElems]);
      sums[r][0] = hn::MulAdd(element, b0, sums[r][0]);
      sums[r][1] = hn::MulAdd(element, b1, sums[r][1]);
    }
    a += kDepthElems;
    b += kTileCols;
  }
  HWY_UNROLL(12)
  for (int64_t r = 0; r < kTileRows; ++r) {
    Update(update, sums[r][0], c + r * stride_elems);
    Update(update, sums[r][1], c + r * stride_elems + kN);
  }
}

// A tile at the edge of C: only [rows, cols] of it are there.
template <bool kTransposed>
void MultiplyEdge(const float* a, const float* b, int64_t depth,
                  SgemmUpdate update, int64_t rows, int64_t cols, float* c,
                  int64_t stride_elems) {
  HWY_ALIGN float tile[kTileRows * kTileCols];
  const size_t bytes = static_cast<size_t>(cols) * sizeof(float);
  std::memset(tile, 0, sizeof(tile));
  if (update != SgemmUpdate::kSet) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(tile + r * kTileCols, c + r * stride_elems, bytes);
    }
  }
  MultiplyTile<kTransposed>(a, b, depth, update, tile, kTileCols);
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(c + r * stride_elems, tile + r * kTileCols, bytes);
  }
}

// Rows [row_begin, row_end) and columns [col_begin, col_end) of C, at most a
// block of each, from the packed blocks.
template <bool kTransposed>
void MultiplyBlocks(const SgemmArgs& args, const Part& part, int64_t depth,
                    SgemmUpdate update, const Scratch& scratch) {
  for (int64_t col = part.col_begin; col < part.col_end; col += kTileCols) {
    const float* b = scratch.b.data() + (col - part.col_begin) * kBlockDepth;
    const int64_t cols = std::min(kTileCols, part.col_end - col);
    for (int64_t row = part.row_begin; row < part.row_end; row += kTileRows) {
      if (args.upper_only && row >= col + cols) break;
      const float* a = scratch.a.data() + (row - part.row_begin) * kBlockDepth;
      const int64_t rows = std::min(kTileRows, part.row_end - row);
      float* c = args.c.data() + row * args.c.stride_elems() + col;
      if (rows == kTileRows && cols == kTileCols) {
        MultiplyTile<kTransposed>(a, b, depth, update, c,
                                  args.c.stride_elems());
      } else {
        MultiplyEdge<kTransposed>(a, b, depth, update, rows, cols, c,
                                  args.c.stride_elems());
      }
    }
  }
}

void MultiplyPart(const SgemmArgs& args, const Part& part, Scratch* scratch) {
  const int64_t k = args.a_transposed ? args.a.rows() : args.a.cols();
  for (int64_t depth_begin = 0; depth_begin < k; depth_begin += kBlockDepth) {
    const int64_t depth = std::min(kBlockDepth, k - depth_begin);
    const SgemmUpdate update =
        args.update == SgemmUpdate::kSet && depth_begin > 0 ? SgemmUpdate::kAdd
                                                            : args.update;
    for (int64_t col = part.col_begin; col < part.col_end; col += kTileCols) {
      PackTileOfB(args, col, std::min(kTileCols, part.col_end - col),
                  depth_begin, depth,
                  scratch->b.data() + (col - part.col_begin) * kBlockDepth);
    }
    for (int64_t row = part.row_begin; row < part.row_end; row += kBlockRows) {
      if (args.upper_only && row >= part.col_end) break;
      const Part block = {row, std::min(row + kBlockRows, part.row_end),
                          part.col_begin, part.col_end};
      for (int64_t r = row; r < block.row_end; r += kTileRows) {
        PackTileOfA(args, r, std::min(kTileRows, block.row_end - r),
                    depth_begin, depth,
                    scratch->a.data() + (r - row) * kBlockDepth);
      }
      args.a_transposed
          ? MultiplyBlocks<true>(args, block, depth, update, *scratch)
          : MultiplyBlocks<false>(args, block, depth, update, *scratch);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_sgemm
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_sgemm {
HWY_EXPORT(MultiplyPart);

// How many blocks of columns and pieces of rows C is made in.
struct Grid {
  int64_t col_blocks = 1, pieces = 1;
};

// Of the grids that give each thread as many parts, three or more, the one that
// packs least: each part packs its columns of B, and for them its rows of A.
Grid ChooseGrid(int64_t rows, int64_t cols, int threads) {
  constexpr int64_t kLeastRows = kBlockRows / 5;
  const int64_t wanted = int64_t{3} * threads;
  const int64_t least_blocks = CeilDiv(cols, kBlockCols);
  const int64_t most_pieces = CeilDiv(rows, kLeastRows);
  // Where there is little to do.
  Grid best = {least_blocks,
               std::min(most_pieces, CeilDiv(wanted, least_blocks))};
  double least = 0;
  for (int64_t blocks = least_blocks; blocks < least_blocks + wanted;
       ++blocks) {
    int64_t pieces = CeilDiv(wanted, blocks);
    while (pieces * blocks % threads != 0) ++pieces;
    if (pieces > most_pieces) continue;
    const double packed =
        static_cast<double>(blocks) / static_cast<double>(cols) +
        static_cast<double>(pieces) / static_cast<double>(rows);
    if (least != 0 && packed >= least) continue;
    least = packed;
    best = {blocks, pieces};
  }
  return best;
}

// Above the diagonal parts are of all sizes: more of them even out.
Grid UpperGrid(int64_t rows, int64_t cols, int threads) {
  const int64_t blocks = CeilDiv(cols, kBlockCols);
  const int64_t wanted = CeilDiv(int64_t{6} * threads, blocks);
  return {blocks, std::min(CeilDiv(rows, kBlockRows), wanted)};
}

std::vector<Part> Parts(const MatrixView<float>& c, bool upper_only,
                        int threads) {
  const Grid grid = upper_only ? UpperGrid(c.rows(), c.cols(), threads)
                               : ChooseGrid(c.rows(), c.cols(), threads);
  // Whole tiles of any target.
  const int64_t block_cols =
      RoundUp(CeilDiv(c.cols(), grid.col_blocks), int64_t{32});
  const int64_t piece_rows =
      RoundUp(CeilDiv(c.rows(), grid.pieces), int64_t{12});
  std::vector<Part> parts;
  for (int64_t row = 0; row < c.rows(); row += piece_rows) {
    for (int64_t col = 0; col < c.cols(); col += block_cols) {
      const Part part = {row, std::min(row + piece_rows, c.rows()), col,
                         std::min(col + block_cols, c.cols())};
      if (upper_only && part.row_begin >= part.col_end) continue;
      parts.push_back(part);
    }
  }
  return parts;
}

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Multiply(const SgemmArgs& args, const Part& part, Scratch* scratch) {
  HWY_DYNAMIC_DISPATCH(MultiplyPart)(args, part, scratch);
}

// Whether the product is not empty. An empty sum is 0.
bool HasTerms(const SgemmArgs& args) {
  const int64_t k = args.a_transposed ? args.a.rows() : args.a.cols();
  const int64_t m = args.a_transposed ? args.a.cols() : args.a.rows();
  const int64_t n = args.b_transposed ? args.b.rows() : args.b.cols();
  QEFF_CHECK(args.c.rows() == m && args.c.cols() == n);
  QEFF_CHECK((args.b_transposed ? args.b.cols() : args.b.rows()) == k);
  if (m > 0 && n > 0 && k == 0 && args.update == SgemmUpdate::kSet) {
    for (int64_t r = 0; r < m; ++r) std::fill_n(args.c.row(r), n, 0.0f);
  }
  return m > 0 && n > 0 && k > 0;
}

}  // namespace internal_sgemm

SgemmScratch::Blocks* SgemmScratch::Get(int threads) {
  if (static_cast<int>(blocks_.size()) < threads) {
    blocks_.resize(static_cast<size_t>(threads));
  }
  // Room for a whole tile at the edges, of any target.
  constexpr int64_t kEdge = 32;
  using internal_sgemm::kBlockDepth;
  for (Blocks& of_thread : blocks_) {
    if (!of_thread.b.empty()) continue;
    of_thread.a = AlignedArray<float>(static_cast<size_t>(
        (internal_sgemm::kBlockRows + kEdge) * kBlockDepth));
    of_thread.b = AlignedArray<float>(static_cast<size_t>(
        (internal_sgemm::kBlockCols + kEdge) * kBlockDepth));
  }
  return blocks_.data();
}

void Sgemm(const SgemmArgs& args, ThreadPool& pool, SgemmScratch& scratch) {
  if (!internal_sgemm::HasTerms(args)) return;
  const auto parts =
      internal_sgemm::Parts(args.c, args.upper_only, pool.num_threads());
  SgemmScratch::Blocks* blocks = scratch.Get(pool.num_threads());
  pool.ParallelFor(static_cast<int64_t>(parts.size()), 1,
                   [&](int64_t begin, int64_t end, int thread) {
                     for (int64_t i = begin; i < end; ++i) {
                       internal_sgemm::Multiply(args,
                                                parts[static_cast<size_t>(i)],
                                                &blocks[thread]);
                     }
                   });
}

void Sgemm(const SgemmArgs& args, ThreadPool& pool) {
  SgemmScratch scratch;
  Sgemm(args, pool, scratch);
}

void SgemmOnThisThread(const SgemmArgs& args, SgemmScratch& scratch) {
  if (!internal_sgemm::HasTerms(args)) return;
  using internal_sgemm::kBlockCols;
  const int64_t rows = args.c.rows(), cols = args.c.cols();
  for (int64_t col = 0; col < cols; col += kBlockCols) {
    internal_sgemm::Multiply(
        args, {0, rows, col, std::min(col + kBlockCols, cols)}, scratch.Get(1));
  }
}

}  // namespace qeff
#endif  // HWY_ONCE
