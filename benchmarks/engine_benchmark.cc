// SPDX-License-Identifier: Apache-2.0
//
// Tokens a second of the device engine on a package of a well-known shape with
// random weights, beside what bounds them on this machine in the same run:
// prefill beside the peak of dot products, decoding beside the bandwidth of
// reading. See README.md.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/synthetic_package.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/device_package.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16_peak.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/aligned.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"
#include "tools/flags.h"

namespace qeff {
namespace {

// Bytes of weights that a step reads, and multiplications and additions of a
// token in the layers and in lm_head.
struct Work {
  double weight_bytes = 0;
  double layer_bytes = 0;
  double layer_ops = 0;
  double head_ops = 0;
};

Work WorkOf(const DeviceModel& model) {
  Work work;
  for (const DeviceBlock& b : model.blocks) {
    for (const DeviceLinear* linear :
         {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down}) {
      const DeviceMatrix& m = linear->weight;
      work.weight_bytes += static_cast<double>(m.bytes.size());
      work.layer_ops += 2.0 * static_cast<double>(m.rows * m.cols);
    }
  }
  work.layer_bytes = work.weight_bytes;
  const DeviceMatrix& head = model.lm_head.weight;
  work.weight_bytes += static_cast<double>(head.bytes.size());
  work.head_ops = 2.0 * static_cast<double>(head.rows * head.cols);
  return work;
}

// Times opening the package, whose pages are in memory.
absl::StatusOr<std::shared_ptr<const DeviceModel>> Load(const std::string& path,
                                                        const ThreadPool& pool,
                                                        double* load_ms) {
  std::shared_ptr<const DeviceModel> model;
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    absl::Status status;
    seconds.push_back(SecondsOf(pool, [&] {
      const absl::StatusOr<DevicePackage> package = DevicePackage::Open(path);
      status = package.status();
      if (package.ok()) model = package->model();
    }));
    QEFF_RETURN_IF_ERROR(status);
  }
  *load_ms = 1e3 * Median(seconds);
  return model;
}

struct Settings {
  std::string shape = "llama-1b";
  std::string scheme = "int4_g128";
  std::string lm_head = "int8";
  std::string sparsity;
  std::string kv_cache = "f32";
  std::string json;
  int64_t layers = 0;
  int64_t threads = 0;
  int64_t prefill = 256;
  int64_t decode = 64;
  int64_t prefill_chunk = 256;
  int64_t rounds = 3;
  bool all = false;

  void Declare(FlagTable* flags) {
    flags->Add("shape", &shape, "NAME", "A shape of `qeff synth`.");
    flags->Add("scheme", &scheme, "SCHEME",
               "int8, int4_g128, int4_g32, ..., bf16 or f32.");
    flags->Add("sparsity", &sparsity, "PART",
               "Of the weights of the layers that are 0, such as 0.5, or 2:4.");
    flags->Add("lm_head", &lm_head, "SCHEME", "The same for lm_head.");
    flags->AddChoice("kv_cache", &kv_cache, {"f32", "f16", "int8"},
                     "Type of cached keys and values.");
    flags->Add("layers", &layers, "N", "Blocks; 0 is all of the shape.");
    flags->Add("threads", &threads, "N", "0 is every processor.");
    flags->Add("prefill", &prefill, "N", "Tokens of the prompt.");
    flags->Add("decode", &decode, "N", "Tokens that are decoded.");
    flags->Add("prefill_chunk", &prefill_chunk, "N",
               "Tokens that go through a block together.");
    flags->Add("rounds", &rounds, "N", "Runs, of which medians are taken.");
    flags->Add("all", &all, "",
               "Also prompts of 32 and 512 tokens, 4 and 8 sequences, and "
               "passes that verify 2, 4 and 8 proposals of a draft model.");
    flags->Add("json", &json, "FILE", "Writes the figures there, too.");
  }
};

double MeanOfLast2(const std::vector<double>& values) {
  return (values[values.size() - 1] + values[values.size() - 2]) / 2;
}

class Bench {
 public:
  Bench(const Settings& settings, ThreadPool* pool,
        std::shared_ptr<const DeviceModel> model)
      : settings_(settings),
        pool_(pool),
        model_(std::move(model)),
        memory_(MemoryToRead(size_t{256} << 20)),
        work_(WorkOf(*model_)) {}

  absl::StatusOr<Json> Run() {
    QEFF_RETURN_IF_ERROR(Prefill(settings_.prefill, ""));
    QEFF_RETURN_IF_ERROR(Decode(1, ""));
    if (settings_.all) {
      for (int64_t tokens : {32, 512}) {
        QEFF_RETURN_IF_ERROR(Prefill(tokens, absl::StrCat("_", tokens)));
      }
      for (int64_t batch : {4, 8}) {
        QEFF_RETURN_IF_ERROR(Decode(batch, absl::StrCat("_batch_", batch)));
      }
      for (int64_t proposals : {2, 4, 8}) {
        QEFF_RETURN_IF_ERROR(Verify(proposals));
      }
    }
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_["peak_rss_bytes"] = int64_t{1024} * usage.ru_maxrss;
    json_["weight_bytes"] = work_.weight_bytes;
    json_["layer_bytes"] = work_.layer_bytes;
    std::printf("bytes of the layers %.0f, with lm_head %.0f\n",
                work_.layer_bytes, work_.weight_bytes);
    return json_;
  }

 private:
  absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(int64_t context_length,
                                                     int64_t batch_size) {
    EngineOptions options;
    options.context_length = context_length;
    options.batch_size = batch_size;
    options.prefill_chunk = settings_.prefill_chunk;
    options.kv_cache = settings_.kv_cache == "f16"    ? DType::kF16
                       : settings_.kv_cache == "int8" ? DType::kI8
                                                      : DType::kF32;
    return Engine::Create(model_, pool_, options);
  }

  std::vector<int32_t> Tokens(int64_t count) const {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < count; ++i) {
      tokens.push_back(
          static_cast<int32_t>((i * 7919 + 13) % model_->spec.vocab_size));
    }
    return tokens;
  }

  bool bf16() const { return settings_.scheme == "bf16"; }

  double Peak() {
    return bf16() ? PeakRate(*pool_, RunBF16DotProducts,
                             OperationsOfBF16DotProducts())
                  : PeakRate(*pool_, RunDotProducts, OperationsOfDotProducts());
  }

  // Limits are measured before and after each run, since other work on the
  // machine comes and goes; a fraction is of the mean of the two.
  absl::Status Prefill(int64_t count, const std::string& suffix) {
    const std::vector<int32_t> tokens = Tokens(count);
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          MakeEngine(count, 1));
    QEFF_RETURN_IF_ERROR(engine->Append(tokens).status());
    const OpTimes before = engine->times();
    std::vector<double> rates, fractions, peaks = {Peak()};
    for (int64_t round = 0; round < settings_.rounds; ++round) {
      engine->Reset();
      const double seconds =
          SecondsOf(*pool_, [&] { engine->Append(tokens).IgnoreError(); });
      rates.push_back(static_cast<double>(count) / seconds);
      peaks.push_back(Peak());
      fractions.push_back(work_.layer_ops * rates.back() / MeanOfLast2(peaks));
    }
    const std::string key = absl::StrCat("prefill", suffix);
    json_[absl::StrCat(key, "_tokens_per_second")] = Median(rates);
    json_[absl::StrCat(key, "_fraction_of_peak")] = Median(fractions);
    json_[bf16() ? "bf16_peak_gops" : "int8_peak_gops"] = Median(peaks) / 1e9;
    std::printf(
        "prefill %4lld tokens  %8.1f tokens/s  %5.1f %% of %.0f GOP/s\n",
        static_cast<long long>(count), Median(rates), 100 * Median(fractions),
        Median(peaks) / 1e9);
    PrintSplit(before, engine->times(), absl::StrCat(key, "_time_split"));
    return absl::OkStatus();
  }

  // What bounds decoding: reading, or with many sequences dot products.
  absl::Status Decode(int64_t batch, const std::string& suffix) {
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          MakeEngine(16 + settings_.decode, batch));
    const double sequences = static_cast<double>(batch);
    const double step_ops = (work_.layer_ops + work_.head_ops) * sequences;
    const OpTimes before = engine->times();
    std::vector<double> rates, of_bandwidth, of_bound, bandwidths, peaks;
    const auto measure_limits = [&] {
      bandwidths.push_back(ReadBandwidth(*pool_, memory_.span()));
      peaks.push_back(Peak());
    };
    measure_limits();
    for (int64_t round = 0; round < settings_.rounds; ++round) {
      QEFF_ASSIGN_OR_RETURN(const double seconds, DecodeOnce(batch, *engine));
      measure_limits();
      const double steps = static_cast<double>(settings_.decode) / seconds;
      const double bandwidth_bound = MeanOfLast2(bandwidths) / StepBytes(batch);
      const double peak_bound = MeanOfLast2(peaks) / step_ops;
      rates.push_back(steps * sequences);
      of_bandwidth.push_back(steps / bandwidth_bound);
      of_bound.push_back(steps / std::min(bandwidth_bound, peak_bound));
    }
    const std::string key = absl::StrCat("decode", suffix);
    json_[absl::StrCat(key, "_tokens_per_second")] = Median(rates);
    json_[absl::StrCat(key, "_fraction_of_bandwidth")] = Median(of_bandwidth);
    json_[absl::StrCat(key, "_fraction_of_bound")] = Median(of_bound);
    json_["read_bandwidth_gbps"] = Median(bandwidths) / 1e9;
    std::printf(
        "decode batch %lld        %8.1f tokens/s  %5.1f %% of %.1f GB/s, "
        "%5.1f %% of what also dot products allow\n",
        static_cast<long long>(batch), Median(rates),
        100 * Median(of_bandwidth), Median(bandwidths) / 1e9,
        100 * Median(of_bound));
    PrintSplit(before, engine->times(), absl::StrCat(key, "_time_split"));
    return absl::OkStatus();
  }

  // A pass over a token and proposals, all with logits, beside a step of one
  // token, by turns: other work on the machine slows both.
  absl::Status Verify(int64_t proposals) {
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          MakeEngine(16 + 1 + proposals, 1));
    QEFF_RETURN_IF_ERROR(engine->Append(Tokens(16)).status());
    const std::vector<int32_t> step = Tokens(1), pass = Tokens(1 + proposals);
    const auto seconds_of = [&](const std::vector<int32_t>& tokens) {
      const double seconds = SecondsOf(*pool_, [&] {
        engine->Score({0, tokens}, [](int64_t, MatrixView<const float>) {})
            .IgnoreError();
      });
      engine->Truncate(0, 16);
      return seconds;
    };
    std::vector<double> passes, ratios;
    for (int64_t i = 0; i < settings_.rounds * settings_.decode; ++i) {
      const double of_step = seconds_of(step);
      passes.push_back(seconds_of(pass));
      ratios.push_back(passes.back() / of_step);
    }
    const std::string key = absl::StrCat("verify_", proposals);
    json_[absl::StrCat(key, "_seconds")] = Median(passes);
    json_[absl::StrCat(key, "_steps")] = Median(ratios);
    std::printf("verify %lld proposals    %8.2f ms, %5.2f of a step\n",
                static_cast<long long>(proposals), 1e3 * Median(passes),
                Median(ratios));
    return absl::OkStatus();
  }

  // Seconds that the steps after a short prompt take.
  absl::StatusOr<double> DecodeOnce(int64_t batch, Engine& engine) {
    const std::vector<int32_t> prompt = Tokens(16), next = {1};
    std::vector<SlotTokens> prompts, steps;
    for (int64_t slot = 0; slot < batch; ++slot) {
      prompts.push_back({slot, prompt});
      steps.push_back({slot, next});
    }
    engine.Reset();
    QEFF_RETURN_IF_ERROR(engine.Run(prompts).status());
    return SecondsOf(*pool_, [&] {
      for (int64_t i = 0; i < settings_.decode; ++i) {
        engine.Run(steps).IgnoreError();
      }
    });
  }

  // Weights once, and keys and values of half of the tokens on average.
  double StepBytes(int64_t batch) const {
    const double elem_bytes = settings_.kv_cache == "f16"    ? 2
                              : settings_.kv_cache == "int8" ? 1
                                                             : 4;
    const TransformerSpec& spec = model_->spec;
    const double positions = 16 + static_cast<double>(settings_.decode) / 2;
    return work_.weight_bytes +
           static_cast<double>(batch * spec.num_layers * spec.kv_size() * 2) *
               positions * elem_bytes;
  }

  void PrintSplit(const OpTimes& before, const OpTimes& after,
                  const std::string& key) {
    double total = 0;
    std::vector<double> seconds;
    for (size_t i = 0; i < kNumOps; ++i) {
      const Op op = static_cast<Op>(i);
      seconds.push_back(after.seconds(op) - before.seconds(op));
      total += seconds.back();
    }
    std::string line = "  ";
    for (size_t i = 0; i < kNumOps; ++i) {
      const absl::string_view name = OpName(static_cast<Op>(i));
      json_[key][std::string(name)] = seconds[i] / total;
      char text[40];
      std::snprintf(text, sizeof(text), " %s %.1f %%", name.data(),
                    100 * seconds[i] / total);
      absl::StrAppend(&line, text);
    }
    std::printf("%s\n", line.c_str());
  }

  const Settings settings_;
  ThreadPool* const pool_;
  const std::shared_ptr<const DeviceModel> model_;
  const AlignedArray<uint8_t> memory_;  // to read
  const Work work_;
  Json json_ = Json::object();
};

absl::Status Main(const std::vector<std::string>& arguments) {
  Settings settings;
  FlagTable flags;
  settings.Declare(&flags);
  QEFF_RETURN_IF_ERROR(flags.Parse(arguments));
  const int threads = settings.threads == 0
                          ? NumAvailableProcessors()
                          : static_cast<int>(settings.threads);
  QEFF_ASSIGN_OR_RETURN(Json config, KnownShapeConfig(settings.shape));
  if (settings.layers > 0) config[NumLayersKey(config)] = settings.layers;
  QEFF_ASSIGN_OR_RETURN(const ModelMap map,
                        MapConfig(config, settings.shape,
                                  [](absl::string_view) { return false; }));
  const char* folder = std::getenv("TMPDIR");
  const std::string path =
      absl::StrCat(folder == nullptr ? "/tmp" : folder, "/engine_benchmark.",
                   static_cast<int64_t>(getpid()), ".qeff");
  QEFF_RETURN_IF_ERROR(WriteSyntheticPackage(map.spec, settings.scheme,
                                             settings.lm_head,
                                             settings.sparsity, threads, path));
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadPool> pool,
                        CreateThreadPool(threads));
  double load_ms = 0;
  absl::StatusOr<std::shared_ptr<const DeviceModel>> model =
      Load(path, *pool, &load_ms);
  std::remove(path.c_str());
  QEFF_RETURN_IF_ERROR(model.status());
  const WeightLayout& layout = (*model)->blocks[0].down.weight.layout;
  std::printf("%s %s, lm_head %s, %d threads, package opened in %.2f ms\n",
              settings.shape.c_str(), WeightLayoutName(layout).c_str(),
              settings.lm_head.c_str(), threads, load_ms);
  Bench bench(settings, pool.get(), *std::move(model));
  QEFF_ASSIGN_OR_RETURN(Json json, bench.Run());
  json["load_ms"] = load_ms;
  if (settings.json.empty()) return absl::OkStatus();
  return WriteFileAtomically(settings.json, WriteJson(json));
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  const absl::Status status =
      qeff::Main(std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::fprintf(stderr, "engine_benchmark: %s\n",
               std::string(status.message()).c_str());
  return 1;
}
