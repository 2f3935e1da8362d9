// SPDX-License-Identifier: Apache-2.0
//
// Tokens a second of the device engine on a package of a well-known shape with
// random weights, beside what bounds them on this machine in the same run:
// prefill beside the peak of dot products, decoding beside the bandwidth of
// reading. See README.md.

#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/compile/pack_matrix.h"
#include "qeff/compile/package_writer.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/device_package.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16_peak.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/aligned.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/json.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"
#include "tools/flags.h"

namespace qeff {
namespace {

// A random matrix of a layout, once for each shape: layers get copies of the
// bytes, since the machine must read each of them.
class MatrixMaker {
 public:
  MatrixMaker(std::string scheme, ThreadPool* pool)
      : scheme_(std::move(scheme)), pool_(pool) {}

  absl::StatusOr<DeviceMatrix> Make(int64_t rows, int64_t cols) {
    return Make(rows, cols, scheme_);
  }

  // As another scheme: "f32", "bf16" or what ParseQuantScheme takes.
  absl::StatusOr<DeviceMatrix> Make(int64_t rows, int64_t cols,
                                    const std::string& scheme) {
    DeviceMatrix& model = made_[absl::StrCat(scheme, " ", rows, " ", cols)];
    if (model.empty()) {
      QEFF_ASSIGN_OR_RETURN(model, MakeFirst(rows, cols, scheme));
    }
    auto copy = std::make_shared<AlignedArray<uint8_t>>(model.bytes.size());
    std::memcpy(copy->data(), model.bytes.data(), copy->size());
    DeviceMatrix matrix = model;
    matrix.bytes = copy->span();
    matrix.owner = std::move(copy);
    return matrix;
  }

  // The originals are no longer needed.
  void Clear() { made_.clear(); }

 private:
  absl::StatusOr<DeviceMatrix> MakeFirst(int64_t rows, int64_t cols,
                                         const std::string& scheme) {
    Matrix<float> values(rows, cols);
    const Random random(static_cast<uint64_t>(rows * 31 + cols));
    const float scale = 1.0f / std::sqrt(static_cast<float>(cols));
    pool_->ParallelFor(rows, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin * cols; i < end * cols; ++i) {
        values.data()[i] = scale * random.NormalAt(static_cast<uint64_t>(i));
      }
    });
    if (scheme == "f32") return OwnedMatrix(std::move(values));
    if (scheme == "bf16") {
      std::vector<uint8_t> halves(static_cast<size_t>(rows * cols * 2));
      for (int64_t i = 0; i < rows * cols; ++i) {
        const uint16_t half = FloatToBF16(values.data()[i]);
        std::memcpy(halves.data() + 2 * i, &half, 2);
      }
      return PackBF16({DType::kBF16, Shape({rows, cols}), halves}, pool_);
    }
    QEFF_ASSIGN_OR_RETURN(const QuantScheme parsed, ParseQuantScheme(scheme));
    const TensorView view{
        DType::kF32, Shape({rows, cols}),
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values.data()),
                            values.span().size() * sizeof(float))};
    QEFF_ASSIGN_OR_RETURN(const QuantizedCopy copy,
                          QuantizedCopy::Make(parsed, view, pool_));
    if (!CanPack(copy.view(), rows)) {
      return InvalidInputError("--scheme: the engine cannot pack ", scheme);
    }
    return PackQuantized(copy.view(), rows, pool_);
  }

  const std::string scheme_;
  ThreadPool* const pool_;
  std::map<std::string, DeviceMatrix> made_;
};

absl::StatusOr<std::shared_ptr<const DeviceModel>> MakeModel(
    const TransformerSpec& spec, const std::string& scheme,
    const std::string& lm_head, ThreadPool* pool) {
  if (spec.qkv_bias || spec.attention_output_bias || spec.ffn_bias ||
      spec.norm_bias || spec.position == PositionKind::kLearned) {
    return InvalidInputError("--shape: models with biases are not made here");
  }
  MatrixMaker maker(scheme, pool);
  auto model = std::make_shared<DeviceModel>();
  model->spec = spec;
  const auto ones = [](int64_t size) {
    return std::vector<float>(static_cast<size_t>(size), 1.0f);
  };
  const int64_t hidden = spec.hidden_size;
  QEFF_ASSIGN_OR_RETURN(model->token_embedding,
                        maker.Make(spec.vocab_size, hidden, "f32"));
  QEFF_ASSIGN_OR_RETURN(model->lm_head.weight,
                        maker.Make(spec.vocab_size, hidden, lm_head));
  model->final_norm.weight = ones(hidden);
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    DeviceBlock block;
    block.attention_norm.weight = block.ffn_norm.weight = ones(hidden);
    if (spec.qk_norm) block.q_norm = block.k_norm = ones(spec.head_dim);
    struct Part {
      DeviceLinear* linear;
      int64_t rows, cols;
    };
    std::vector<Part> parts = {{&block.q, spec.q_size(), hidden},
                               {&block.k, spec.kv_size(), hidden},
                               {&block.v, spec.kv_size(), hidden},
                               {&block.o, hidden, spec.q_size()},
                               {&block.up, spec.ffn_size, hidden},
                               {&block.down, hidden, spec.ffn_size}};
    if (spec.gated_ffn) parts.push_back({&block.gate, spec.ffn_size, hidden});
    for (const Part& part : parts) {
      QEFF_ASSIGN_OR_RETURN(part.linear->weight,
                            maker.Make(part.rows, part.cols));
    }
    model->blocks.push_back(std::move(block));
  }
  return model;
}

// Bytes of weights that a step reads, and multiplications and additions of a
// token in the layers.
struct Work {
  double weight_bytes = 0;
  double layer_ops = 0;
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
  work.weight_bytes += static_cast<double>(model.lm_head.weight.bytes.size());
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
               "Also prompts of 32 and 512 tokens, and 4 and 8 sequences.");
    flags->Add("json", &json, "FILE", "Writes the figures there, too.");
  }
};

class Bench {
 public:
  Bench(const Settings& settings, ThreadPool* pool,
        std::shared_ptr<const DeviceModel> model)
      : settings_(settings),
        pool_(pool),
        model_(std::move(model)),
        memory_(size_t{256} << 20),
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
    }
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_["peak_rss_bytes"] = int64_t{1024} * usage.ru_maxrss;
    json_["weight_bytes"] = work_.weight_bytes;
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

  // The limit is measured before each run, and the fraction is of that.
  absl::Status Prefill(int64_t count, const std::string& suffix) {
    const std::vector<int32_t> tokens = Tokens(count);
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          MakeEngine(count, 1));
    QEFF_RETURN_IF_ERROR(engine->Append(tokens).status());
    const OpTimes before = engine->times();
    const bool bf16 = settings_.scheme == "bf16";
    std::vector<double> rates, peaks, fractions;
    for (int64_t round = 0; round < settings_.rounds; ++round) {
      peaks.push_back(
          bf16 ? PeakRate(*pool_, RunBF16DotProducts,
                          OperationsOfBF16DotProducts())
               : PeakRate(*pool_, RunDotProducts, OperationsOfDotProducts()));
      engine->Reset();
      const double seconds =
          SecondsOf(*pool_, [&] { engine->Append(tokens).IgnoreError(); });
      rates.push_back(static_cast<double>(count) / seconds);
      fractions.push_back(work_.layer_ops * rates.back() / peaks.back());
    }
    json_[absl::StrCat("prefill", suffix, "_tokens_per_second")] =
        Median(rates);
    json_[absl::StrCat("prefill", suffix, "_fraction_of_peak")] =
        Median(fractions);
    json_[bf16 ? "bf16_peak_gops" : "int8_peak_gops"] = Median(peaks) / 1e9;
    std::printf(
        "prefill %4lld tokens  %8.1f tokens/s  %5.1f %% of %.0f GOP/s\n",
        static_cast<long long>(count), Median(rates), 100 * Median(fractions),
        Median(peaks) / 1e9);
    PrintSplit(before, engine->times(),
               absl::StrCat("prefill", suffix, "_time_split"));
    return absl::OkStatus();
  }

  absl::Status Decode(int64_t batch, const std::string& suffix) {
    const std::vector<int32_t> prompt = Tokens(16);
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          MakeEngine(16 + settings_.decode, batch));
    const std::vector<int32_t> next = {1};
    std::vector<SlotTokens> prompts, steps;
    for (int64_t slot = 0; slot < batch; ++slot) {
      prompts.push_back({slot, prompt});
      steps.push_back({slot, next});
    }
    const OpTimes before = engine->times();
    std::vector<double> rates, bandwidths, fractions;
    for (int64_t round = 0; round < settings_.rounds; ++round) {
      engine->Reset();
      QEFF_RETURN_IF_ERROR(engine->Run(prompts).status());
      bandwidths.push_back(ReadBandwidth(*pool_, memory_.span()));
      const double seconds = SecondsOf(*pool_, [&] {
        for (int64_t i = 0; i < settings_.decode; ++i) {
          engine->Run(steps).IgnoreError();
        }
      });
      const double steps_per_second =
          static_cast<double>(settings_.decode) / seconds;
      rates.push_back(steps_per_second * static_cast<double>(batch));
      fractions.push_back(steps_per_second * StepBytes(batch) /
                          bandwidths.back());
    }
    json_[absl::StrCat("decode", suffix, "_tokens_per_second")] = Median(rates);
    json_[absl::StrCat("decode", suffix, "_fraction_of_bandwidth")] =
        Median(fractions);
    json_["read_bandwidth_gbps"] = Median(bandwidths) / 1e9;
    std::printf(
        "decode batch %lld        %8.1f tokens/s  %5.1f %% of %.1f GB/s\n",
        static_cast<long long>(batch), Median(rates), 100 * Median(fractions),
        Median(bandwidths) / 1e9);
    PrintSplit(before, engine->times(),
               absl::StrCat("decode", suffix, "_time_split"));
    return absl::OkStatus();
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

// Writes the package in a process of its own: making the weights takes more
// memory than running them, and the peak is to be that of running.
absl::Status WriteInChild(const Settings& settings, const TransformerSpec& spec,
                          int threads, const std::string& path) {
  const pid_t child = fork();
  if (child < 0) return absl::ResourceExhaustedError("cannot fork");
  if (child == 0) {
    const auto write = [&]() -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadPool> pool,
                            CreateThreadPool(threads));
      QEFF_ASSIGN_OR_RETURN(
          const std::shared_ptr<const DeviceModel> model,
          MakeModel(spec, settings.scheme, settings.lm_head, pool.get()));
      return WritePackage(*model, nullptr, {}, path);
    };
    const absl::Status status = write();
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    }
    std::_Exit(status.ok() ? 0 : 1);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) {
    std::remove(path.c_str());
    return absl::UnknownError("the package could not be made");
  }
  return absl::OkStatus();
}

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
  QEFF_RETURN_IF_ERROR(WriteInChild(settings, map.spec, threads, path));
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadPool> pool,
                        CreateThreadPool(threads));
  double load_ms = 0;
  absl::StatusOr<std::shared_ptr<const DeviceModel>> model =
      Load(path, *pool, &load_ms);
  std::remove(path.c_str());
  QEFF_RETURN_IF_ERROR(model.status());
  std::printf("%s %s, lm_head %s, %d threads, package opened in %.2f ms\n",
              settings.shape.c_str(), settings.scheme.c_str(),
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
