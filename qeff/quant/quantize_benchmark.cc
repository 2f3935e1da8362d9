// SPDX-License-Identifier: Apache-2.0
//
// Quantizes a model folder and says what that took:
//   quantize_benchmark --model=DIR [--shape=llama-1b] [--scheme=int4_g128]
//       [--threads=2] [--runs=3] [--mse] [--verify]
// With --shape, DIR is first filled with random weights of that shape unless
// it exists. The result is written to DIR.quantized and removed. Printed are
// the seconds until everything was handed to the system (before it is synced
// to disk), those in all, source bytes a second before the sync, and the peak
// of resident memory, mapped pages included.

#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "qeff/io/checkpoint.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/synth.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Flags = std::map<std::string, std::string>;

// Peak resident memory since ResetPeak, in megabytes. Linux only.
double PeakMegabytes() {
  double kilobytes = 0;
  if (std::FILE* file = std::fopen("/proc/self/status", "r")) {
    char line[256];
    while (std::fgets(line, sizeof(line), file) != nullptr) {
      if (absl::StartsWith(line, "VmHWM:")) {
        kilobytes = std::strtod(line + 6, nullptr);
      }
    }
    std::fclose(file);
  }
  return kilobytes * 1024 / 1e6;
}

void ResetPeak() {
  if (std::FILE* file = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

absl::Status RunOnce(const Checkpoint& checkpoint, const QuantizePlan& plan,
                     const std::string& output, ThreadPool& pool, bool verify) {
  std::error_code ignored;
  std::filesystem::remove_all(output, ignored);
  ResetPeak();
  const absl::Time start = absl::Now();
  absl::Duration before_sync;
  QuantizeRunOptions options;
  options.before_commit = [&] { before_sync = absl::Now() - start; };
  QEFF_RETURN_IF_ERROR(
      QuantizeCheckpoint(checkpoint, plan, output, pool, options));
  const double seconds = absl::ToDoubleSeconds(before_sync);
  std::printf(
      "%.2f s before the sync, %.2f s in all, %.2f GB/s, %.0f MB peak\n",
      seconds, absl::ToDoubleSeconds(absl::Now() - start),
      static_cast<double>(plan.BytesBefore()) / seconds / 1e9, PeakMegabytes());
  if (verify) {
    const absl::Time begin = absl::Now();
    QEFF_RETURN_IF_ERROR(VerifyQuantized(checkpoint, plan, output, pool));
    std::printf("verified in %.2f s\n",
                absl::ToDoubleSeconds(absl::Now() - begin));
  }
  std::filesystem::remove_all(output, ignored);
  return absl::OkStatus();
}

absl::Status Run(Flags flags) {
  const std::string model = flags["model"];
  int threads = 0, runs = 0;
  if (model.empty() || !absl::SimpleAtoi(flags["threads"], &threads) ||
      !absl::SimpleAtoi(flags["runs"], &runs)) {
    return InvalidInputError("wants --model=DIR; see the head of the source");
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadPool> pool,
                        CreateThreadPool(threads));
  if (!flags["shape"].empty() && !Exists(model)) {
    QEFF_ASSIGN_OR_RETURN(const Json config, KnownShapeConfig(flags["shape"]));
    QEFF_RETURN_IF_ERROR(
        WriteSynthCheckpoint(config, SynthOptions(), model, pool.get()));
  }
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(model));
  QEFF_ASSIGN_OR_RETURN(const ModelMap map, MapModel(*checkpoint));
  QuantizeOptions options;
  QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme(flags["scheme"]));
  if (flags.count("mse") > 0) options.rounding = Rounding::kLeastSquares;
  QEFF_ASSIGN_OR_RETURN(const QuantizePlan plan,
                        PlanQuantization(*checkpoint, map, options));
  std::printf("%s, %d threads: %.1f MB to %.1f MB\n", flags["scheme"].c_str(),
              threads, static_cast<double>(plan.BytesBefore()) / 1e6,
              static_cast<double>(plan.BytesAfter()) / 1e6);
  for (int i = 0; i < runs; ++i) {
    QEFF_RETURN_IF_ERROR(RunOnce(*checkpoint, plan, model + ".quantized", *pool,
                                 flags.count("verify") > 0));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  qeff::Flags flags = {
      {"scheme", "int4_g128"}, {"threads", "2"}, {"runs", "3"}};
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (!absl::ConsumePrefix(&argument, "--")) continue;
    const std::pair<std::string, std::string> flag =
        absl::StrSplit(argument, absl::MaxSplits('=', 1));
    flags[flag.first] = flag.second;
  }
  const absl::Status status = qeff::Run(flags);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return qeff::ExitCodeFor(status);
}
