// SPDX-License-Identifier: Apache-2.0
//
// MatMulInt on the shapes of llama-1b, beside the two limits of the machine:
// the peak of 512-bit VPDPBUSD and the bandwidth of reading as decode does.
// Every figure is a median over rounds in which limits and products take
// turns, so that other work on the machine slows all of them alike.
//
//   matmul_int_benchmark [threads [milliseconds per cell [scheme]]]
//
// One thread is measured in CPU time, which does not count what others do.
// Prints for each scheme, shape and number of tokens: GOP/s (two operations a
// weight and token), its share of the peak, the GB/s of weights read, and its
// share of the bandwidth. Weights rotate through at least 256 MiB of copies
// for 16 tokens or fewer, so that they come from memory.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "hwy/highway.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/matmul_int/matmul_int.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/kernels/matmul_int/matmul_int_testutil.h"
#include "qeff/kernels/matmul_int/quantize_activations.h"
#include "qeff/kernels/matmul_int/sparse_int_weights.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

struct Scheme {
  const char* name;
  int bits;
  int64_t group;
  // Columns of each `of` consecutive ones of a row that are not 0, at random
  // places (of 0: dense; of 1: half of all weights).
  int kept = 0;
  int of = 0;
};
constexpr Scheme kSchemes[] = {{"int8", 8, 0},
                               {"int8_g128", 8, 128},
                               {"int8_g32", 8, 32},
                               {"int4", 4, 0},
                               {"int4_g128", 4, 128},
                               {"int4_g64", 4, 64},
                               {"int4_g32", 4, 32},
                               {"int3_g64", 3, 64},
                               {"int3_g32", 3, 32},
                               {"int2_g64", 2, 64},
                               {"int8_50%", 8, 0, 1, 1},
                               {"int8_2:4", 8, 0, 2, 4},
                               {"int4_g128_50%", 4, 128, 1, 1},
                               {"int4_g128_2:4", 4, 128, 2, 4},
                               {"int4_g32_2:4", 4, 32, 2, 4}};

struct MatrixShape {
  int64_t rows;
  int64_t cols;
};
constexpr MatrixShape kShapes[] = {{2048, 2048}, {256, 2048}, {5632, 2048},
                                   {2048, 5632}, {256, 256},  {576, 576},
                                   {1024, 1024}};

constexpr int64_t kTokens[] = {1, 2, 4, 8, 16, 32, 128, 256, 512};
constexpr int64_t kMostTokensOfDecode = 8;
constexpr int64_t kColdBytes = int64_t{256} << 20;

struct Cell {
  double gops = 0, gbps = 0, of_peak = 0, of_bandwidth = 0, quantize_share = 0;
};

class Bench {
 public:
  Bench(int threads, double seconds)
      : pool_(*CreateThreadPool(threads)),
        seconds_(seconds),
        memory_(static_cast<size_t>(kColdBytes)) {
    const Random random(1);
    uint64_t* words = reinterpret_cast<uint64_t*>(memory_.data());
    // Any bytes are codes; these are also normal numbers as BF16 scales.
    for (size_t i = 0; i < memory_.size() / 8; ++i) {
      words[i] = (random.At(i) & 0x3F3F3F3F3F3F3F3F) | 0x3C3C3C3C3C3C3C3C;
    }
  }

  Cell Measure(const Scheme& scheme, const MatrixShape& shape, int64_t tokens) {
    PackedIntLayout layout = *PackedIntLayout::Create(
        scheme.bits, shape.rows, shape.cols, scheme.group, DType::kBF16);
    if (scheme.of > 0) layout = FillSparse(scheme, layout);
    const int64_t bytes = layout.total_bytes();
    const bool decode = tokens <= kMostTokensOfDecode;
    const int64_t copies = decode ? kColdBytes / bytes : 1;
    const ActivationLayout activations(tokens, layout);
    AlignedArray<uint8_t> x(static_cast<size_t>(activations.total_bytes()));
    const std::vector<float> values(static_cast<size_t>(tokens * shape.cols),
                                    1.0f);
    std::vector<float> y(static_cast<size_t>(tokens * shape.rows));
    const auto quantize = [&] {
      QuantizeActivations(activations, values, shape.cols, x.span(), *pool_);
    };
    const auto multiply = [&] {
      for (int64_t i = 0; i < copies; ++i) {
        MatMulInt({layout, absl::MakeConstSpan(memory_.data() + i * bytes,
                                               static_cast<size_t>(bytes))},
                  {activations, x.span()}, absl::MakeSpan(y), shape.rows,
                  *pool_);
      }
    };
    quantize();
    multiply();
    std::vector<double> times, peaks, bandwidths, quantizing;
    double spent = 0;
    while (spent < seconds_ || times.size() < 5) {
      times.push_back(SecondsOf(*pool_, multiply) /
                      static_cast<double>(copies));
      quantizing.push_back(SecondsOf(*pool_, quantize));
      decode ? bandwidths.push_back(Bandwidth()) : peaks.push_back(Peak());
      spent += times.back() * static_cast<double>(copies);
      if (times.size() > 400) break;
    }
    const double time = Median(times);
    const double operations =
        2.0 * static_cast<double>(shape.rows * shape.cols * tokens);
    Cell cell;
    cell.gops = operations / time / 1e9;
    cell.gbps = static_cast<double>(bytes) / time / 1e9;
    if (!peaks.empty()) cell.of_peak = cell.gops * 1e9 / Median(peaks);
    if (!bandwidths.empty()) {
      cell.of_bandwidth = cell.gbps * 1e9 / Median(bandwidths);
    }
    cell.quantize_share = Median(quantizing) / time;
    return cell;
  }

  void PrintLimits() const {
    std::vector<double> peaks, bandwidths;
    for (int i = 0; i < 9; ++i) {
      peaks.push_back(Peak());
      bandwidths.push_back(Bandwidth());
    }
    std::printf(
        "peak %.0f GOP/s, bandwidth %.1f GB/s, %d threads, %s\n",
        Median(peaks) / 1e9, Median(bandwidths) / 1e9, pool_->num_threads(),
        hwy::TargetName(hwy::SupportedTargets() & -hwy::SupportedTargets()));
  }

 private:
  // Copies of a sparse matrix instead of random bytes.
  PackedIntLayout FillSparse(const Scheme& scheme,
                             const PackedIntLayout& layout) {
    RandomIntMatrix matrix(layout, 1);
    const Random random(2);
    matrix.Remove([&](int64_t row, int64_t col) {
      const uint64_t draw = random.At(static_cast<uint64_t>(
          row * layout.cols() + col / scheme.of * scheme.of));
      if (scheme.of == 1) return draw >> 63 != 0;
      return (static_cast<int>(draw >> 60) + col) % scheme.of >= scheme.kept;
    });
    const AlignedArray<uint8_t> packed = matrix.Pack();
    const PackedIntLayout sparse =
        *SparseLayoutOf(layout, packed.span(), pool_.get());
    const size_t bytes = static_cast<size_t>(sparse.total_bytes());
    CompressIntWeights(sparse, packed.span(), memory_.span().subspan(0, bytes),
                       pool_.get());
    for (size_t at = bytes; at + bytes <= memory_.size(); at += bytes) {
      std::memcpy(memory_.data() + at, memory_.data(), bytes);
    }
    return sparse;
  }

  double Peak() const {
    return PeakRate(*pool_, RunDotProducts, OperationsOfDotProducts());
  }
  double Bandwidth() const { return ReadBandwidth(*pool_, memory_.span()); }

  std::unique_ptr<ThreadPool> pool_;
  double seconds_;
  AlignedArray<uint8_t> memory_;
};

void PrintAll(int threads, double seconds, const char* only) {
  Bench bench(threads, seconds);
  bench.PrintLimits();
  std::printf("%-14s %-12s %6s %9s %7s %7s %9s %9s\n", "scheme", "shape",
              "tokens", "GOP/s", "of peak", "GB/s", "of bandw.", "quantize");
  for (const Scheme& scheme : kSchemes) {
    if (only != nullptr && std::strcmp(only, scheme.name) != 0) continue;
    for (const MatrixShape& shape : kShapes) {
      for (const int64_t tokens : kTokens) {
        const Cell cell = bench.Measure(scheme, shape, tokens);
        std::printf("%-14s %5dx%-6d %6d %9.1f %6.0f%% %7.1f %8.0f%% %8.1f%%\n",
                    scheme.name, static_cast<int>(shape.rows),
                    static_cast<int>(shape.cols), static_cast<int>(tokens),
                    cell.gops, cell.of_peak * 100, cell.gbps,
                    cell.of_bandwidth * 100, cell.quantize_share * 100);
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  const int threads =
      argc > 1 ? std::atoi(argv[1]) : qeff::NumAvailableProcessors();
  const double milliseconds = argc > 2 ? std::atof(argv[2]) : 100;
  qeff::PrintAll(std::max(1, threads), milliseconds / 1e3,
                 argc > 3 ? argv[3] : nullptr);
  return 0;
}
