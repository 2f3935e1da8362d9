// SPDX-License-Identifier: Apache-2.0

#include <sys/statvfs.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/stubs/common.h"
#include "nlohmann/json.hpp"
#include "qeff/kernels/limits/dispatched_target.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16_peak.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/kernels/sgemm/fma_peak.h"
#include "qeff/util/status.h"
#include "tools/commands/cache_root.h"
#include "tools/commands/commands.h"
#include "tools/commands/machine.h"
#include "tools/version.h"
#include "unicode/uversion.h"

namespace qeff {
namespace {

// Of each measurement; the best counts, which other work disturbed least.
constexpr int kRounds = 9;

// More than caches hold, and little of what is there.
size_t BytesToRead(const MemoryState& memory) {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  return std::clamp(memory.available_bytes / 4 / kMiB, uint64_t{16},
                    uint64_t{512}) *
         kMiB;
}

template <typename Measure>
double BestOf(const Measure& measure) {
  double best = 0;
  for (int i = 0; i < kRounds; ++i) best = std::max(best, measure());
  return best;
}

std::string IcuVersion() {
  UVersionInfo numbers;
  char text[U_MAX_VERSION_STRING_LENGTH];
  u_getVersion(numbers);
  u_versionToString(numbers, text);
  return text;
}

// Of libraries that say theirs.
Json LibraryVersions() {
  Json versions{{"Highway", HighwayVersion()},
                {"ICU", IcuVersion()},
                {"nlohmann_json", absl::StrCat(NLOHMANN_JSON_VERSION_MAJOR, ".",
                                               NLOHMANN_JSON_VERSION_MINOR, ".",
                                               NLOHMANN_JSON_VERSION_PATCH)},
                {"protobuf", google::protobuf::internal::VersionString(
                                 GOOGLE_PROTOBUF_VERSION)}};
#ifdef ABSL_LTS_RELEASE_VERSION
  versions["Abseil"] =
      absl::StrCat(ABSL_LTS_RELEASE_VERSION, ".", ABSL_LTS_RELEASE_PATCH_LEVEL);
#else
  versions["Abseil"] = "not a release";
#endif
  return versions;
}

// Bytes that can be written below `folder`, or where it would be made.
uint64_t FreeBytes(std::filesystem::path folder) {
  struct statvfs info;
  while (statvfs(folder.c_str(), &info) != 0) {
    if (!folder.has_relative_path()) return 0;
    folder = folder.parent_path();
  }
  return uint64_t{info.f_bavail} * info.f_frsize;
}

Json Cache() {
  const absl::StatusOr<std::string> root = CacheRoot("");
  if (!root.ok()) return nullptr;
  std::error_code error;
  return Json{{"folder", *root},
              {"exists", std::filesystem::is_directory(*root, error)},
              {"free_bytes", FreeBytes(*root)}};
}

class DoctorCommand : public Command {
 public:
  absl::string_view name() const override { return "doctor"; }
  absl::string_view summary() const override {
    return "Says what this machine is and how fast it can be.";
  }
  absl::string_view description() const override {
    return "Prints the processor, what kernels are compiled for and it runs, "
           "its memory, the versions of libraries and where the cache is. Then "
           "it measures, with --threads, what bounds every kernel: reading "
           "memory, and arithmetic on registers of the types that kernels "
           "compute with. Of nine rounds the best; other work on the machine "
           "makes it less. Takes about a second.\n\n"
           "Ends with warnings of what slows qeff down here.";
  }
  absl::string_view examples() const override {
    return "doctor\n"
           "doctor --threads=1 --json=doctor.json\n";
  }
  void DeclareFlags(FlagTable*) override {}
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    Json json = Machine(env);
    json["libraries"] = LibraryVersions();
    json["cache"] = Cache();
    json["measured"] = Measured(env);
    json["warnings"] = Warnings(json);
    PrintReport(json, env.out);
    return json;
  }

 private:
  static Json Machine(const CommandEnv& env) {
    Json features = Json::array(), missing = Json::array();
    for (const ProcessorFeature& feature : ProcessorFeatures()) {
      (feature.is_there ? features : missing)
          .push_back(std::string(feature.name));
    }
    const MemoryState memory = Memory();
    return Json{{"version", kQeffVersion},
                {"processor", ProcessorName()},
                {"features", std::move(features)},
                {"missing_features", std::move(missing)},
                {"target", DispatchedTargetName()},
                {"processors", NumAvailableProcessors()},
                {"threads", env.pool->num_threads()},
                {"memory_bytes", memory.total_bytes},
                {"available_memory_bytes", memory.available_bytes}};
  }

  static Json Measured(const CommandEnv& env) {
    ThreadPool& pool = *env.pool;
    const AlignedArray<uint8_t> memory = MemoryToRead(BytesToRead(Memory()));
    const auto peak = [&pool](void (*run)(int64_t), int64_t operations) {
      return BestOf([&] { return PeakRate(pool, run, operations); });
    };
    return Json{{"read_bytes_per_second",
                 BestOf([&] { return ReadBandwidth(pool, memory.span()); })},
                {"float32_operations_per_second",
                 peak(RunFusedMultiplyAdds, OperationsOfFusedMultiplyAdds())},
                {"bf16_operations_per_second",
                 peak(RunBF16DotProducts, OperationsOfBF16DotProducts())},
                {"int8_operations_per_second",
                 peak(RunDotProducts, OperationsOfDotProducts())}};
  }

  static Json Warnings(const Json& machine) {
    Json warnings = Json::array();
    const int threads = machine["threads"], processors = machine["processors"];
    if (threads > processors) {
      warnings.push_back(
          absl::StrCat(threads, " threads on ", processors, " processors"));
    }
    for (const Json& feature : machine["missing_features"]) {
      if (feature != "avx2" && feature != "avx512vnni") continue;
      warnings.push_back(absl::StrCat("the processor has no ",
                                      feature.get<std::string>(),
                                      ": integer products take longer"));
    }
    if (machine["cache"].is_null()) {
      warnings.push_back(absl::StrCat(
          "no cache: expected one of ", kCacheRootHelp,
          ": compile --target=aic100 and aic200 need --cache or --output"));
    }
    return warnings;
  }

  static void PrintReport(const Json& json, FILE* out) {
    const auto line = [out](absl::string_view name, const std::string& value) {
      absl::FPrintF(out, "%-11s %s\n", name, value);
    };
    const auto gigabytes = [](const Json& bytes) {
      return absl::StrFormat("%.1f GB", bytes.get<double>() / 1e9);
    };
    line("qeff", json["version"]);
    line("processor", json["processor"]);
    line("features",
         absl::StrJoin(json["features"].get<std::vector<std::string>>(), " "));
    line("kernels", json["target"]);
    line("threads", absl::StrCat(json["threads"].get<int>(), " on ",
                                 json["processors"].get<int>(), " processors"));
    line("memory", absl::StrCat(gigabytes(json["memory_bytes"]), ", ",
                                gigabytes(json["available_memory_bytes"]),
                                " of it available"));
    const Json& measured = json["measured"];
    line("reads", absl::StrCat(gigabytes(measured["read_bytes_per_second"]),
                               " per second"));
    for (const char* type : {"float32", "bf16", "int8"}) {
      line(type, absl::StrFormat(
                     "%.0f billion operations per second",
                     measured[absl::StrCat(type, "_operations_per_second")]
                             .get<double>() /
                         1e9));
    }
    for (const auto& [name, version] : json["libraries"].items()) {
      line(name == "nlohmann_json" ? "nlohmann" : name, version);
    }
    const Json& cache = json["cache"];
    line("cache",
         cache.is_null()
             ? "none"
             : absl::StrCat(cache["folder"].get<std::string>(),
                            cache["exists"].get<bool>() ? "" : " (not yet)",
                            ", ", gigabytes(cache["free_bytes"]), " free"));
    for (const Json& warning : json["warnings"]) {
      line("warning:", warning);
    }
  }
};

}  // namespace

std::unique_ptr<Command> MakeDoctorCommand() {
  return std::make_unique<DoctorCommand>();
}

}  // namespace qeff
