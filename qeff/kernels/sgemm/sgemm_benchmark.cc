// SPDX-License-Identifier: Apache-2.0
//
// Sgemm in the forms and sizes of calibration and training, beside the peak of
// multiply-adds, measured in turn with it.
//
//   sgemm_benchmark [threads [rounds]]

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/sgemm/fma_peak.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

struct Case {
  const char* use;
  int64_t m, n, k;
  bool a_transposed, b_transposed, upper_only;
};

constexpr Case kCases[] = {
    {"Hessian of 2048 inputs", 2048, 2048, 2048, true, false, true},
    {"Hessian of 5632 inputs", 5632, 5632, 1024, true, false, true},
    {"GPTQ update, 2048 x 2048", 2048, 1920, 128, false, false, false},
    {"GPTQ update, 2048 x 5632", 2048, 5504, 128, false, false, false},
    {"NN", 1024, 1024, 1024, false, false, false},
    {"NT", 1024, 1024, 1024, false, true, false},
    {"TN", 1024, 1024, 1024, true, false, false},
    {"NT, hidden 256", 4096, 768, 256, false, true, false},
    {"TN, hidden 256", 768, 256, 4096, true, false, false},
    {"NN, hidden 256", 4096, 256, 768, false, false, false},
};

Matrix<float> RandomMatrix(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix<float> matrix(rows, cols);
  const Random random(seed);
  for (int64_t i = 0; i < rows * cols; ++i) {
    matrix.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
  }
  return matrix;
}

void Measure(const Case& c, int64_t rounds, ThreadPool& pool) {
  const Matrix<float> a =
      RandomMatrix(c.a_transposed ? c.k : c.m, c.a_transposed ? c.m : c.k, 1);
  const Matrix<float> b =
      RandomMatrix(c.b_transposed ? c.n : c.k, c.b_transposed ? c.k : c.n, 2);
  Matrix<float> out(c.m, c.n);
  SgemmArgs args;
  args.a = a.view();
  args.b = b.view();
  args.c = out.view();
  args.a_transposed = c.a_transposed;
  args.b_transposed = c.b_transposed;
  args.update = SgemmUpdate::kAdd;
  args.upper_only = c.upper_only;
  const double n = static_cast<double>(c.n);
  const double elements =
      c.upper_only ? n * (n + 1) / 2 : static_cast<double>(c.m) * n;
  const double operations = 2 * elements * static_cast<double>(c.k);
  std::vector<double> rates, fractions;
  Sgemm(args, pool);
  for (int64_t i = 0; i < rounds; ++i) {
    const double before =
        PeakRate(pool, RunFusedMultiplyAdds, OperationsOfFusedMultiplyAdds());
    rates.push_back(operations / SecondsOf(pool, [&] { Sgemm(args, pool); }));
    const double after =
        PeakRate(pool, RunFusedMultiplyAdds, OperationsOfFusedMultiplyAdds());
    fractions.push_back(rates.back() / ((before + after) / 2));
  }
  std::printf("%-26s %5lld x %5lld x %5lld  %7.1f GFLOP/s  %3.0f %% of peak\n",
              c.use, static_cast<long long>(c.m), static_cast<long long>(c.n),
              static_cast<long long>(c.k), Median(rates) / 1e9,
              100 * Median(fractions));
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  const int threads =
      argc > 1 ? std::atoi(argv[1]) : qeff::NumAvailableProcessors();
  const int64_t rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  auto pool = qeff::CreateThreadPool(threads);
  if (!pool.ok()) return 1;
  for (const qeff::Case& c : qeff::kCases) qeff::Measure(c, rounds, **pool);
  return 0;
}
