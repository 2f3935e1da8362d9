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
#include <ctime>
#include <functional>
#include <memory>
#include <vector>

#include "hwy/highway.h"
#include "qeff/kernels/matmul_int/matmul_int.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/kernels/matmul_int/quantize_activations.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

struct Scheme {
  const char* name;
  int bits;
  int64_t group;
};
constexpr Scheme kSchemes[] = {{"int8", 8, 0},        {"int8_g128", 8, 128},
                               {"int8_g32", 8, 32},   {"int4", 4, 0},
                               {"int4_g128", 4, 128}, {"int4_g64", 4, 64},
                               {"int4_g32", 4, 32}};

struct MatrixShape {
  int64_t rows;
  int64_t cols;
};
constexpr MatrixShape kShapes[] = {
    {2048, 2048}, {256, 2048}, {5632, 2048}, {2048, 5632}};

constexpr int64_t kTokens[] = {1, 2, 4, 8, 16, 32, 128, 256, 512};
constexpr int64_t kMostTokensOfDecode = 8;
constexpr int64_t kColdBytes = int64_t{256} << 20;

double Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) / 1e9;
}

// On `pool`, which runs `body`.
double SecondsOf(const ThreadPool& pool, const std::function<void()>& body) {
  const clockid_t clock =
      pool.num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  const double start = Now(clock);
  body();
  return Now(clock) - start;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The limits of `threads` threads at once, in operations and bytes a second.
class Limits {
 public:
  Limits(ThreadPool& pool, const AlignedArray<uint8_t>& memory)
      : pool_(pool), memory_(memory) {}

  double Peak() const {
    constexpr int64_t kSteps = 50000;
    const int64_t parts = int64_t{4} * pool_.num_threads();
    const double seconds = SecondsOf(pool_, [&] {
      pool_.ParallelFor(parts, 1,
                        [&](int64_t, int64_t, int) { RunDotProducts(kSteps); });
    });
    return static_cast<double>(parts * kSteps * OperationsOfDotProducts()) /
           seconds;
  }

  // The faster of the two ways to read.
  double Bandwidth() const { return std::max(Read(false), Read(true)); }

 private:
  double Read(bool fetch_ahead) const {
    constexpr int64_t kPart = 1 << 18;
    const int64_t parts = static_cast<int64_t>(memory_.size()) / kPart;
    const double seconds = SecondsOf(pool_, [&] {
      pool_.ParallelFor(parts, 8, [&](int64_t begin, int64_t end, int) {
        ReadMemory(memory_.data() + begin * kPart, (end - begin) * kPart,
                   fetch_ahead);
      });
    });
    return static_cast<double>(parts * kPart) / seconds;
  }

  ThreadPool& pool_;
  const AlignedArray<uint8_t>& memory_;
};

struct Cell {
  double gops = 0, gbps = 0, of_peak = 0, of_bandwidth = 0, quantize_share = 0;
};

class Bench {
 public:
  Bench(int threads, double seconds)
      : pool_(*CreateThreadPool(threads)),
        seconds_(seconds),
        memory_(static_cast<size_t>(kColdBytes)),
        limits_(*pool_, memory_) {
    const Random random(1);
    uint64_t* words = reinterpret_cast<uint64_t*>(memory_.data());
    // Any bytes are codes; these are also normal numbers as BF16 scales.
    for (size_t i = 0; i < memory_.size() / 8; ++i) {
      words[i] = (random.At(i) & 0x3F3F3F3F3F3F3F3F) | 0x3C3C3C3C3C3C3C3C;
    }
  }

  Cell Measure(const Scheme& scheme, const MatrixShape& shape,
               int64_t tokens) const {
    const PackedIntLayout layout = *PackedIntLayout::Create(
        scheme.bits, shape.rows, shape.cols, scheme.group, DType::kBF16);
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
      decode ? bandwidths.push_back(limits_.Bandwidth())
             : peaks.push_back(limits_.Peak());
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
      peaks.push_back(limits_.Peak());
      bandwidths.push_back(limits_.Bandwidth());
    }
    std::printf(
        "peak %.0f GOP/s, bandwidth %.1f GB/s, %d threads, %s\n",
        Median(peaks) / 1e9, Median(bandwidths) / 1e9, pool_->num_threads(),
        hwy::TargetName(hwy::SupportedTargets() & -hwy::SupportedTargets()));
  }

 private:
  std::unique_ptr<ThreadPool> pool_;
  double seconds_;
  AlignedArray<uint8_t> memory_;
  Limits limits_;
};

void PrintAll(int threads, double seconds, const char* only) {
  const Bench bench(threads, seconds);
  bench.PrintLimits();
  std::printf("%-10s %-12s %6s %9s %7s %7s %9s %9s\n", "scheme", "shape",
              "tokens", "GOP/s", "of peak", "GB/s", "of bandw.", "quantize");
  for (const Scheme& scheme : kSchemes) {
    if (only != nullptr && std::strcmp(only, scheme.name) != 0) continue;
    for (const MatrixShape& shape : kShapes) {
      for (const int64_t tokens : kTokens) {
        const Cell cell = bench.Measure(scheme, shape, tokens);
        std::printf("%-10s %5dx%-6d %6d %9.1f %6.0f%% %7.1f %8.0f%% %8.1f%%\n",
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
