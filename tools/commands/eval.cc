// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_split.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/engine.h"
#include "qeff/eval/engine_model.h"
#include "qeff/eval/evaluate.h"
#include "qeff/eval/host_model.h"
#include "qeff/eval/windows.h"
#include "qeff/format/codebook.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/engine_flags.h"
#include "tools/commands/model_folder.h"
#include "tools/commands/package_source.h"
#include "tools/commands/quantize_write.h"
#include "tools/commands/text_tokens.h"

namespace qeff {
namespace {

constexpr int64_t kDefaultContextLength = 2048;

// Bytes of text that the scored tokens stand for.
absl::StatusOr<int64_t> ScoredBytes(const PortableTokenizer& tokenizer,
                                    absl::Span<const ScoredWindow> windows) {
  int64_t bytes = 0;
  for (const ScoredWindow& window : windows) {
    // Decoding drops the space before a text's first word: decode the scored
    // part as the difference of two texts.
    const absl::Span<const int32_t> all = window.tokens;
    QEFF_ASSIGN_OR_RETURN(const std::string whole, tokenizer.Decode(all, true));
    QEFF_ASSIGN_OR_RETURN(
        const std::string before,
        tokenizer.Decode(all.subspan(0, window.first_scored), true));
    bytes += static_cast<int64_t>(whole.size()) -
             static_cast<int64_t>(before.size());
  }
  return bytes;
}

class EvalCommand : public Command {
 public:
  absl::string_view name() const override { return "eval"; }
  absl::string_view summary() const override {
    return "Measures perplexity, and divergence from a reference model.";
  }
  absl::string_view description() const override {
    return "Scores a text. The protocol `window` scores every token once, in "
           "windows that begin with BOS where the model has one; `llama.cpp` "
           "cuts BOS and text into windows without overlap and scores the "
           "second half of each, as llama.cpp's perplexity tool does.\n\n"
           "perplexity is exp(nll), nll the mean negative log likelihood of a "
           "token in nats; bits_per_byte is comparable between tokenizers. "
           "With a reference: kl_mean and kl_p99 are the mean and 99th "
           "percentile of the KL divergence from the reference's prediction "
           "in nats, top1_agreement the share of tokens with the same most "
           "probable token, rms_dp the root mean square of the difference in "
           "probability of the true token.\n\n"
           "--simulate measures a float model as Cloud AI's compiler makes it: "
           "mxfp6 rounds the weights of all matrix products (OCP MX, blocks of "
           "32, to nearest), mxint8_kv the cached keys and values. All else is "
           "float32, where the card has float16.";
  }
  absl::string_view examples() const override {
    return "eval --model=small --reference=llama --text=held_out.txt\n"
           "eval --package=llama.qeff --text=held_out.txt --kv_cache=int8\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    DeclareModelOrPackage(&model_, &package_, flags);
    flags->AddRequired("text", &text_, "FILE", "UTF-8 text to score.");
    flags->Add("reference", &reference_, "DIR",
               "A model with the same vocabulary to compare with.");
    flags->Add("context_length", &options_.context_length, "N",
               "Tokens of a window, BOS included; 0 is the longest of the "
               "model or package, at most 2048.");
    flags->Add("stride", &options_.stride, "N",
               "Text tokens that a window advances by; 0 is no overlap. "
               "Protocol window only.");
    flags->Add("max_tokens", &options_.max_tokens, "N",
               "Scores the beginning of the text only; 0 is all.");
    flags->AddChoice("protocol", &protocol_, {"window", "llama.cpp"},
                     "How the text is cut and what is scored.");
    flags->AddChoice("executor", &executor_, {"engine", "host"},
                     "Runs the model on the device engine, as it is deployed, "
                     "or as the host's float32 forward. A reference always "
                     "runs on the host.");
    flags->Add("simulate", &simulate_, "LIST",
               "mxfp6, mxint8_kv or both, with a comma: what Cloud AI's "
               "compiler rounds. On the host's forward.");
    engine_flags_.Declare(flags);
  }
  absl::Status Check(const FlagTable& flags) override {
    QEFF_RETURN_IF_ERROR(CheckFlags(flags));
    return flags.WasGiven("package") ? absl::OkStatus()
                                     : engine_flags_.Compile().status();
  }
  absl::StatusOr<Json> Run(const CommandEnv& env,
                           const FlagTable& flags) override {
    if (protocol_ == "llama.cpp") options_.protocol = EvalProtocol::kLlamaCpp;
    return flags.WasGiven("package") ? RunPackage(env, flags) : RunModel(env);
  }

 private:
  // Tokens that a chunk of the engine takes: as many as are scored at a time.
  static constexpr int64_t kChunkTokens = 64;

  absl::Status CheckFlags(const FlagTable& flags) const {
    QEFF_RETURN_IF_ERROR(CheckModelOrPackage(flags));
    if (options_.context_length < 0 || options_.stride < 0 ||
        options_.max_tokens < 0) {
      return UsageError(
          "--context_length, --stride and --max_tokens must not be negative");
    }
    if (protocol_ == "llama.cpp" && flags.WasGiven("stride")) {
      return UsageError("--stride has no meaning with --protocol=llama.cpp");
    }
    if (!simulate_.empty()) {
      for (const absl::string_view part : absl::StrSplit(simulate_, ',')) {
        if (part == "mxfp6" || part == "mxint8_kv") continue;
        return UsageError(
            absl::StrCat("--simulate: expected mxfp6, mxint8_kv or both with a "
                         "comma, found '",
                         part, "'"));
      }
      if (flags.WasGiven("package")) {
        return UsageError("--simulate has no meaning with --package");
      }
      if (flags.WasGiven("executor") && executor_ != "host") {
        return UsageError("--simulate runs on the host: --executor=host");
      }
    }
    if (RunsOnEngine()) return absl::OkStatus();
    if (flags.WasGiven("package")) {
      return UsageError("--executor=host has no meaning with --package");
    }
    if (flags.WasGiven("activations") || flags.WasGiven("lm_head") ||
        flags.WasGiven("kv_cache")) {
      return UsageError(
          "--activations, --lm_head and --kv_cache have no meaning with "
          "--executor=host");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Json> RunModel(const CommandEnv& env) {
    // What is rounded to MXFP6 is what a file's blocks decode to.
    QEFF_ASSIGN_OR_RETURN(
        const ModelFolder folder,
        ModelFolder::Open(model_, Simulates("mxfp6") ? GgufBlocks::kFloat
                                                     : GgufBlocks::kKeep));
    QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> transformer,
                          LoadTransformer(folder.path()));
    std::unique_ptr<ModelFolder> rounded;  // goes when all is measured
    if (Simulates("mxfp6")) {
      QEFF_ASSIGN_OR_RETURN(ModelFolder made, Rounded(*transformer, env.pool));
      rounded = std::make_unique<ModelFolder>(std::move(made));
      QEFF_ASSIGN_OR_RETURN(transformer, LoadTransformer(rounded->path()));
    }
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          LoadTokenizer(*transformer));
    QEFF_RETURN_IF_ERROR(
        CutText(*tokenizer, transformer->spec().max_positions));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<LogitsModel> model,
                          OnExecutor(transformer, *tokenizer, env.pool));
    QEFF_ASSIGN_OR_RETURN(const EvalResult result,
                          ScoreAll(model.get(), env.pool));
    QEFF_RETURN_IF_ERROR(transformer->checkpoint().VerifyUnchanged());
    return Report(result, env);
  }

  absl::StatusOr<Json> RunPackage(const CommandEnv& env,
                                  const FlagTable& flags) {
    QEFF_ASSIGN_OR_RETURN(const PackageWithTokenizer source,
                          OpenPackageWithTokenizer(package_));
    EngineOptions options = source.package.header().options;
    engine_flags_.ApplyGiven(flags, &options);
    QEFF_RETURN_IF_ERROR(CutText(*source.tokenizer, options.context_length));
    options.batch_size = 1;
    options.context_length = 0;
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<LogitsModel> model,
                          OnEngine(source.package.model(), options, env.pool));
    QEFF_ASSIGN_OR_RETURN(const EvalResult result,
                          ScoreAll(model.get(), env.pool));
    return Report(result, env);
  }

  // Against the reference, if one was given.
  absl::StatusOr<EvalResult> ScoreAll(LogitsModel* model,
                                      ThreadPool* pool) const {
    if (reference_.empty()) return Score(model, nullptr, pool);
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder,
                          ModelFolder::Open(reference_));
    QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> other,
                          LoadTransformer(folder.path()));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<LogitsModel> reference,
                          OnHost(std::move(other), pool));
    return Score(model, reference.get(), pool);
  }

  bool RunsOnEngine() const { return executor_ != "host" && simulate_.empty(); }
  bool Simulates(absl::string_view part) const {
    return absl::c_linear_search(
        std::vector<std::string>(absl::StrSplit(simulate_, ',')), part);
  }

  // The model with all of its matrices in MXFP6.
  static absl::StatusOr<ModelFolder> Rounded(const Transformer& model,
                                             ThreadPool* pool) {
    QuantizeOptions options;
    QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("mxfp6"));
    options.lm_head = options.scheme;
    QEFF_ASSIGN_OR_RETURN(
        const QuantizePlan plan,
        PlanQuantization(model.checkpoint(), model.map(), options));
    QEFF_ASSIGN_OR_RETURN(ModelFolder folder, ModelFolder::Scratch());
    QEFF_RETURN_IF_ERROR(
        WriteQuantized(model.checkpoint(), plan, folder.path(), *pool));
    return folder;
  }

  static absl::StatusOr<std::unique_ptr<LogitsModel>> OnHost(
      std::shared_ptr<const Transformer> model, ThreadPool* pool,
      HostForwardOptions options = {}) {
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<HostForward> forward,
                          HostForward::Create(std::move(model), pool, options));
    return std::make_unique<HostLogitsModel>(std::move(forward));
  }

  absl::StatusOr<std::unique_ptr<LogitsModel>> OnExecutor(
      std::shared_ptr<const Transformer> model, const Tokenizer& tokenizer,
      ThreadPool* pool) const {
    QEFF_ASSIGN_OR_RETURN(CompileOptions compile, engine_flags_.Compile());
    if (!RunsOnEngine()) {
      HostForwardOptions options;
      if (Simulates("mxint8_kv")) options.cache = Codebook::kMxint8;
      return OnHost(std::move(model), pool, options);
    }
    QEFF_RETURN_IF_ERROR(
        engine_flags_.CalibrateKeys(model, tokenizer, pool, &compile));
    QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const DeviceModel> device,
                          CompileInMemory(*model, compile, pool));
    EngineOptions options;
    engine_flags_.Apply(&options);
    return OnEngine(std::move(device), options, pool);
  }

  // `options` but for context and chunk.
  absl::StatusOr<std::unique_ptr<LogitsModel>> OnEngine(
      std::shared_ptr<const DeviceModel> device, EngineOptions options,
      ThreadPool* pool) const {
    options.prefill_chunk = kChunkTokens;
    for (const ScoredWindow& window : windows_) {
      options.context_length =
          std::max(options.context_length,
                   static_cast<int64_t>(window.tokens.size()) - 1);
    }
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                          Engine::Create(std::move(device), pool, options));
    return std::make_unique<EngineLogitsModel>(std::move(engine));
  }

  absl::StatusOr<EvalResult> Score(LogitsModel* model, LogitsModel* reference,
                                   ThreadPool* pool) const {
    Progress progress("eval", static_cast<int64_t>(windows_.size()));
    EvaluateOptions options;
    options.progress = [&](int64_t done) {
      progress.Advance(done - progress.done());
    };
    return Evaluate(model, reference, windows_, pool, options);
  }

  absl::Status CutText(const PortableTokenizer& tokenizer,
                       int64_t max_context_length) {
    QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                          ReadTextTokens(text_, tokenizer));
    QEFF_ASSIGN_OR_RETURN(const absl::optional<int32_t> bos,
                          LeadingToken(tokenizer));
    if (options_.context_length == 0) {
      options_.context_length =
          std::min(max_context_length, kDefaultContextLength);
    }
    QEFF_ASSIGN_OR_RETURN(windows_, CutWindows(tokens, bos, options_), text_);
    QEFF_ASSIGN_OR_RETURN(scored_bytes_, ScoredBytes(tokenizer, windows_));
    return absl::OkStatus();
  }

  Json Report(const EvalResult& result, const CommandEnv& env) const {
    const double bits_per_byte =
        scored_bytes_ == 0
            ? 0.0
            : result.nll / std::log(2.0) / static_cast<double>(scored_bytes_);
    const double nll = result.nll / static_cast<double>(result.tokens);
    std::fprintf(env.out,
                 "perplexity      %.4f\n"
                 "nll             %.6f nats per token\n"
                 "bits_per_byte   %.4f\n"
                 "tokens          %lld\n",
                 result.perplexity(), nll, bits_per_byte,
                 static_cast<long long>(result.tokens));
    Json json{{"perplexity", result.perplexity()},
              {"nll", nll},
              {"tokens", result.tokens},
              {"bits_per_byte", bits_per_byte},
              {"context_length", options_.context_length},
              {"protocol", protocol_}};
    if (!simulate_.empty()) json["simulate"] = simulate_;
    if (result.divergence.has_value()) {
      const Divergence& d = *result.divergence;
      std::fprintf(env.out,
                   "kl_mean         %.6f nats\n"
                   "kl_p99          %.6f nats\n"
                   "top1_agreement  %.4f\n"
                   "rms_dp          %.4f\n",
                   d.kl_mean, d.kl_p99, d.top1_agreement, d.rms_dp);
      json["kl_mean"] = d.kl_mean;
      json["kl_p99"] = d.kl_p99;
      json["top1_agreement"] = d.top1_agreement;
      json["rms_dp"] = d.rms_dp;
    }
    return json;
  }

  std::string model_;
  std::string package_;
  std::string text_;
  std::string reference_;
  std::string protocol_ = "window";
  std::string executor_ = "engine";
  std::string simulate_;
  EngineFlags engine_flags_;
  WindowOptions options_;
  std::vector<ScoredWindow> windows_;
  int64_t scored_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Command> MakeEvalCommand() {
  return std::make_unique<EvalCommand>();
}

}  // namespace qeff
