// SPDX-License-Identifier: Apache-2.0
//
// Parsing headers, and writing checkpoints up to the sync and with it.

#include <stdlib.h>

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/safetensors_header.h"
#include "qeff/util/check.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace {

// A header of `state.range(0)` tensors with names of usual length.
void BM_ParseHeader(benchmark::State& state) {
  std::string header = "{";
  for (int64_t i = 0; i < state.range(0); ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"model.layers.", i,
                    ".self_attn.q_proj.weight\":{\"dtype\":\"BF16\",",
                    "\"shape\":[1,1],\"data_offsets\":[", 2 * i, ",", 2 * i + 2,
                    "]}");
  }
  const std::string bytes = SafetensorsBytes(
      header + "}", std::string(static_cast<size_t>(2 * state.range(0)), 0));
  for (auto _ : state) {
    const auto parsed = ParseSafetensorsHeader(AsBytes(bytes), "f");
    QEFF_CHECK(parsed.ok());
  }
  state.SetBytesProcessed(static_cast<int64_t>(header.size()) *
                          static_cast<int64_t>(state.iterations()));
}
BENCHMARK(BM_ParseHeader)->Arg(1000)->Arg(100000);

// A checkpoint of `state.range(0)` MiB in tensors of 8 MiB, written in parts
// of 256 KiB. Time is up to the sync; the sync is a counter of its own.
void BM_WriteCheckpoint(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kTensorBytes = 8 << 20;
  constexpr size_t kPartBytes = 256 << 10;
  const std::vector<uint8_t> part(kPartBytes, 0x5A);
  std::vector<TensorInfo> tensors;
  for (int64_t i = 0; i < state.range(0) / 8; ++i) {
    tensors.push_back({absl::StrCat("model.layers.", i, ".weight"), DType::kU8,
                       Shape({static_cast<int64_t>(kTensorBytes)})});
  }
  const std::string parent = MakeTestFolder();
  double sync_seconds = 0;
  for (auto _ : state) {
    const Clock::time_point start = Clock::now();
    Clock::time_point written;
    CheckpointWriterOptions options;
    options.before_sync = [&written] { written = Clock::now(); };
    auto writer = CheckpointWriter::Create(parent + "/out", tensors, options);
    QEFF_CHECK(writer.ok());
    for (const TensorInfo& tensor : tensors) {
      for (size_t at = 0; at < kTensorBytes; at += kPartBytes) {
        QEFF_CHECK((*writer)->Write(tensor.name, at, part).ok());
      }
    }
    QEFF_CHECK((*writer)->Commit(Json::object(), {}).ok());
    sync_seconds +=
        std::chrono::duration<double>(Clock::now() - written).count();
    state.SetIterationTime(
        std::chrono::duration<double>(written - start).count());
    QEFF_CHECK(system(absl::StrCat("rm -r '", parent, "/out'").c_str()) == 0);
  }
  state.SetBytesProcessed((state.range(0) << 20) *
                          static_cast<int64_t>(state.iterations()));
  state.counters["sync_s"] =
      benchmark::Counter(sync_seconds, benchmark::Counter::kAvgIterations);
}
BENCHMARK(BM_WriteCheckpoint)
    ->Arg(64)
    ->Arg(1024)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(3);

}  // namespace
}  // namespace qeff
