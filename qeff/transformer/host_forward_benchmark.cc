// SPDX-License-Identifier: Apache-2.0
//
// Tokens a second of the host forward on a model folder, with logits of every
// token, and the resident memory it took. Not a Google Benchmark: one pass of a
// large model is a measurement.
//
// Usage: host_forward_benchmark FOLDER [THREADS [LENGTH [SEQUENCES [BUDGET]]]]
// with the weight budget in MiB.

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

absl::Status Measure(const std::string& folder, int threads, int64_t length,
                     int64_t count, uint64_t budget_bytes) {
  const auto checkpoint = Checkpoint::Open(folder);
  if (!checkpoint.ok()) return checkpoint.status();
  const auto model = Transformer::Load(*checkpoint);
  if (!model.ok()) return model.status();
  const auto pool = CreateThreadPool(threads);
  if (!pool.ok()) return pool.status();
  HostForwardOptions options;
  options.weight_budget_bytes = budget_bytes;
  const auto forward = HostForward::Create(*model, pool->get(), options);
  if (!forward.ok()) return forward.status();

  Random random(1);
  std::vector<std::vector<int32_t>> sequences(static_cast<size_t>(count));
  for (auto& sequence : sequences) {
    for (int64_t i = 0; i < length; ++i) {
      sequence.push_back(static_cast<int32_t>(random.NextBelow(
          static_cast<uint64_t>((*model)->spec().vocab_size))));
    }
  }
  // The first pass packs the weights.
  for (int pass = 0; pass < 4; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    double seconds_in_logits = 0;
    const absl::Status status = (*forward)->Run(
        sequences, nullptr, [&](int64_t, MatrixView<const float> hidden) {
          const auto logits_start = std::chrono::steady_clock::now();
          const auto logits = (*forward)->Logits(hidden);
          seconds_in_logits +=
              std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                            logits_start)
                  .count();
          return logits.status();
        });
    if (!status.ok()) return status;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    std::printf(
        "pass %d: %.3f s (%.3f s of it logits), %.0f tokens/s, peak resident "
        "%ld MiB\n",
        pass, seconds, seconds_in_logits,
        static_cast<double>(count * length) / seconds, usage.ru_maxrss / 1024);
  }
  return absl::OkStatus();
}

int64_t Argument(int argc, char** argv, int index, int64_t fallback) {
  return index < argc ? std::atoll(argv[index]) : fallback;
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: %s FOLDER [THREADS [LENGTH [SEQUENCES "
                 "[BUDGET_MIB]]]]\n",
                 argv[0]);
    return 2;
  }
  const absl::Status status = qeff::Measure(
      argv[1], static_cast<int>(qeff::Argument(argc, argv, 2, 2)),
      qeff::Argument(argc, argv, 3, 512), qeff::Argument(argc, argv, 4, 4),
      static_cast<uint64_t>(qeff::Argument(argc, argv, 5, 1024)) << 20);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  }
  return status.ok() ? 0 : 1;
}
