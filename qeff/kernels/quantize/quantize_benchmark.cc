// SPDX-License-Identifier: Apache-2.0
//
// Quantizing and dequantizing rows against memcpy of the same traffic: GB/s of
// bytes read plus bytes written, for data in the L2 cache and in memory.

#include <algorithm>
#include <cstring>

#include "benchmark/benchmark.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kCols = 2048;
constexpr int64_t kInL2 = 64;         // rows: 256 KiB in BF16
constexpr int64_t kInMemory = 16384;  // 64 MiB in BF16

// Bytes of `rows` rows of weights of type `dtype`.
AlignedArray<uint8_t> Weights(DType dtype, int64_t rows) {
  const size_t count = static_cast<size_t>(rows * kCols);
  AlignedArray<float> values(count);
  const Random random(1);
  for (size_t i = 0; i < count; ++i) values[i] = random.NormalAt(i);
  AlignedArray<uint8_t> bytes(count * DTypeBytes(dtype));
  ConvertFromFloat(values.span(), dtype, bytes.span());
  return bytes;
}

struct Quantized {
  Quantized(const QuantScheme& scheme, int64_t rows)
      : shape(scheme, rows, kCols),
        packed(static_cast<size_t>(rows * shape.row_words * 4)),
        scales(static_cast<size_t>(rows * shape.groups * 2)),
        zeros(scheme.symmetric ? 0 : static_cast<size_t>(rows * shape.groups)) {
  }

  int64_t bytes() const {
    return static_cast<int64_t>(packed.size() + scales.size() + zeros.size());
  }

  QuantizedShape shape;
  AlignedArray<uint8_t> packed, scales, zeros;
};

// memcpy of the bytes that quantizing BF16 to 4 bits reads and writes.
void BM_Memcpy(benchmark::State& state) {
  const size_t size = static_cast<size_t>(state.range(0) * kCols) * 5 / 4;
  const AlignedArray<uint8_t> from = MemoryToRead(size);
  AlignedArray<uint8_t> to(size);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), size);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 2 * static_cast<int64_t>(size));
}
BENCHMARK(BM_Memcpy)->Arg(kInL2)->Arg(kInMemory);

QuantScheme Scheme(int bits, int64_t group, bool symmetric) {
  QuantScheme scheme;
  scheme.bits = bits;
  scheme.group_size = group;
  scheme.symmetric = symmetric;
  return scheme;
}

void BM_Quantize(benchmark::State& state, DType dtype, int bits, int64_t group,
                 bool symmetric) {
  const int64_t rows = state.range(0);
  const QuantScheme scheme = Scheme(bits, group, symmetric);
  const AlignedArray<uint8_t> from = Weights(dtype, rows);
  Quantized to(scheme, rows);
  for (auto _ : state) {
    QuantizeRows(scheme, DType::kBF16, dtype, from.span(), rows, kCols,
                 {to.packed.span(), to.scales.span(), to.zeros.span()});
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() *
                          (static_cast<int64_t>(from.size()) + to.bytes()));
  state.SetItemsProcessed(state.iterations() * rows * kCols);
}

void BM_Dequantize(benchmark::State& state, int bits, int64_t group,
                   bool symmetric) {
  const int64_t rows = state.range(0);
  const QuantScheme scheme = Scheme(bits, group, symmetric);
  Quantized from(scheme, rows);
  // Pages that nobody has written are all the same one.
  std::fill(from.packed.begin(), from.packed.end(), uint8_t{0x21});
  std::fill(from.scales.begin(), from.scales.end(), uint8_t{0x3C});
  QuantizedRowsView view;
  view.bits = bits;
  view.cols = kCols;
  view.group_elems = from.shape.group_elems;
  view.packed = from.packed.span();
  view.scales = from.scales.span();
  view.zeros = from.zeros.span();
  AlignedArray<float> to(static_cast<size_t>(rows * kCols));
  for (auto _ : state) {
    DequantizeRows(view, 0, rows, to.span());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(
      state.iterations() *
      (from.bytes() + static_cast<int64_t>(to.size() * sizeof(float))));
  state.SetItemsProcessed(state.iterations() * rows * kCols);
}

void Sizes(benchmark::internal::Benchmark* b) { b->Arg(kInL2)->Arg(kInMemory); }

BENCHMARK_CAPTURE(BM_Quantize, bf16_int4_g128, DType::kBF16, 4, 128, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Quantize, f32_int4_g128, DType::kF32, 4, 128, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Quantize, f16_int4_g128, DType::kF16, 4, 128, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Quantize, bf16_int4_g32, DType::kBF16, 4, 32, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Quantize, bf16_int4_g128_asym, DType::kBF16, 4, 128, false)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Quantize, bf16_int3_g64, DType::kBF16, 3, 64, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Quantize, bf16_int8, DType::kBF16, 8, 0, true)
    ->Apply(Sizes);

BENCHMARK_CAPTURE(BM_Dequantize, int4_g128, 4, 128, true)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Dequantize, int4_g32, 4, 32, true)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Dequantize, int4_g128_asym, 4, 128, false)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Dequantize, int3_g64, 3, 64, true)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Dequantize, int2_g64, 2, 64, true)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Dequantize, int8, 8, 0, true)->Apply(Sizes);

}  // namespace
}  // namespace qeff
