// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/device_commands.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "qeff/device/engine.h"
#include "qeff/device/generate.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/performance.h"
#include "qeff/device/sampler.h"
#include "qeff/device/text_generate.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kUsage[] =
    "usage: qeff_device run|bench|info|verify FILE [--FLAG=VALUE...]\n"
    "  run     --prompt=TEXT or --tokens=ID,ID,...  --max_new_tokens=128\n"
    "          --temperature=0 --top_k=0 --top_p=1 --min_p=0\n"
    "          --repetition_penalty=1 --seed=0\n"
    "          several --prompt: --batch_size=N of them side by side\n"
    "  bench   --prompt_tokens=256 --max_new_tokens=64\n"
    "  both    --threads=N --context_length=N --prefill_chunk=N "
    "--batch_size=N\n"
    "          (default: all processors, and what the package says)\n";

// Values of flags; what a command has not asked for is unknown to it.
class Flags {
 public:
  absl::Status Parse(absl::Span<const std::string> arguments) {
    for (absl::string_view argument : arguments) {
      const std::pair<absl::string_view, absl::string_view> parts =
          absl::StrSplit(argument, absl::MaxSplits('=', 1));
      absl::string_view name = parts.first;
      if (!absl::ConsumePrefix(&name, "--") ||
          name.size() + 2 == argument.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat(argument, ": expected --FLAG=VALUE"));
      }
      values_[std::string(name)].push_back(std::string(parts.second));
    }
    return absl::OkStatus();
  }

  // All values of a flag that may be repeated.
  std::vector<std::string> TakeAll(const std::string& name) {
    const auto it = values_.find(name);
    if (it == values_.end()) return {};
    std::vector<std::string> all = std::move(it->second);
    values_.erase(it);
    return all;
  }
  bool Take(const std::string& name, std::string* value) {
    std::vector<std::string> all = TakeAll(name);
    if (all.empty()) return false;
    if (all.size() > 1) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("--", name, " is given twice"));
    }
    *value = std::move(all[0]);
    return true;
  }
  void Take(const std::string& name, int64_t* value) {
    std::string text;
    if (Take(name, &text) && !absl::SimpleAtoi(text, value)) Fail(name, text);
  }
  void Take(const std::string& name, double* value) {
    std::string text;
    if (Take(name, &text) && !absl::SimpleAtod(text, value)) Fail(name, text);
  }

  // After all have been taken.
  absl::Status Check() {
    if (status_.ok() && !values_.empty()) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("--", values_.begin()->first, ": unknown flag"));
    }
    misused_ = !status_.ok();
    return status_;
  }

  // Whether Check found something.
  bool misused() const { return misused_; }

 private:
  void Fail(absl::string_view name, absl::string_view text) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat("--", name, ": expected a number, found \"", text, "\""));
  }

  std::map<std::string, std::vector<std::string>> values_;
  absl::Status status_;
  bool misused_ = false;
};

double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// What running takes: members are destroyed in reverse order.
struct Runtime {
  DevicePackage package;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Engine> engine;
};

// Takes the flags of an engine.
absl::StatusOr<Runtime> OpenRuntime(const std::string& path, Flags* flags) {
  int64_t threads = NumAvailableProcessors();
  flags->Take("threads", &threads);
  QEFF_ASSIGN_OR_RETURN(DevicePackage package, DevicePackage::Open(path));
  EngineOptions options = package.header().options;
  flags->Take("context_length", &options.context_length);
  flags->Take("batch_size", &options.batch_size);
  flags->Take("prefill_chunk", &options.prefill_chunk);
  QEFF_RETURN_IF_ERROR(flags->Check());
  if (threads < 1 || threads > 1024) {
    return InvalidInputError("--threads: expected 1 to 1024, found ", threads);
  }
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<ThreadPool> pool,
                        CreateThreadPool(static_cast<int>(threads)));
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                        Engine::Create(package.model(), pool.get(), options));
  return Runtime{std::move(package), std::move(pool), std::move(engine)};
}

absl::StatusOr<std::vector<int32_t>> ParseTokens(absl::string_view text) {
  std::vector<int32_t> tokens;
  for (const absl::string_view piece : absl::StrSplit(text, ',')) {
    int32_t token;
    if (!absl::SimpleAtoi(piece, &token)) {
      return InvalidInputError("--tokens: expected ids like 1,2,3, found \"",
                               piece, "\"");
    }
    tokens.push_back(token);
  }
  return tokens;
}

absl::Status PrintTokens(const GenerateResult& result, FILE* out) {
  std::fprintf(out, "%s\n", absl::StrJoin(result.tokens, ",").c_str());
  return absl::OkStatus();
}

// Prints what follows a prompt, as it is made.
TextCallbacks PrintText(FILE* out) {
  TextCallbacks callbacks;
  callbacks.on_text = [out](size_t, absl::string_view text) {
    std::fwrite(text.data(), 1, text.size(), out);
    std::fflush(out);
    return absl::OkStatus();
  };
  return callbacks;
}

// Continues texts, with the package's tokenizer.
absl::Status RunTexts(const std::vector<std::string>& prompts,
                      const TextGenerateOptions& options, Runtime* runtime,
                      FILE* out) {
  QEFF_ASSIGN_OR_RETURN(TokenizerTables tables,
                        runtime->package.ReadTokenizer());
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<PortableTokenizer> tokenizer,
                        PortableTokenizer::Create(std::move(tables)));
  std::vector<std::vector<int32_t>> tokens(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    QEFF_ASSIGN_OR_RETURN(
        tokens[i], tokenizer->Encode(prompts[i], /*add_special_tokens=*/true));
  }
  const bool one = prompts.size() == 1;
  if (one) std::fwrite(prompts[0].data(), 1, prompts[0].size(), out);
  const std::vector<absl::StatusOr<GenerateResult>> results = GenerateTexts(
      tokens, options, *tokenizer, one ? PrintText(out) : TextCallbacks(),
      runtime->engine.get());
  absl::Status first_error;
  std::vector<GenerateTiming> timings;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].ok()) {
      if (one) return results[i].status();
      first_error.Update(
          Annotate(results[i].status(), absl::StrCat("prompt ", i + 1)));
      continue;
    }
    timings.push_back(results[i]->timing);
    std::fprintf(out, "%s%s\n", one ? "" : prompts[i].c_str(),
                 one ? "" : results[i]->text.c_str());
  }
  std::fprintf(out, "\n%s", FormatPerformance(Summarize(timings)).c_str());
  return first_error;
}

absl::Status Run(const std::string& path, Flags* flags, FILE* out) {
  std::string ids;
  const std::vector<std::string> prompts = flags->TakeAll("prompt");
  if (flags->Take("tokens", &ids) != prompts.empty()) {
    return InvalidInputError("run: expected either --prompt or --tokens");
  }
  TextGenerateOptions options;
  options.generate.max_new_tokens = 128;
  flags->Take("max_new_tokens", &options.generate.max_new_tokens);
  SamplerOptions& sampling = options.sampling;
  flags->Take("temperature", &sampling.temperature);
  flags->Take("top_k", &sampling.top_k);
  flags->Take("top_p", &sampling.top_p);
  flags->Take("min_p", &sampling.min_p);
  flags->Take("repetition_penalty", &sampling.repetition_penalty);
  int64_t seed = 0;
  flags->Take("seed", &seed);
  sampling.seed = static_cast<uint64_t>(seed);
  QEFF_ASSIGN_OR_RETURN(Runtime runtime, OpenRuntime(path, flags));
  const TransformerSpec& spec = runtime.engine->model().spec;
  options.generate.eos_token_ids = spec.eos_token_ids;
  if (!prompts.empty()) return RunTexts(prompts, options, &runtime, out);
  QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, ParseTokens(ids));
  QEFF_ASSIGN_OR_RETURN(Sampler sampler,
                        Sampler::Create(sampling, spec.vocab_size));
  QEFF_ASSIGN_OR_RETURN(
      const GenerateResult result,
      Generate(tokens, options.generate, {}, runtime.engine.get(), &sampler));
  return PrintTokens(result, out);
}

absl::Status Bench(const std::string& path, Flags* flags, FILE* out) {
  int64_t prompt_tokens = 256, new_tokens = 64;
  flags->Take("prompt_tokens", &prompt_tokens);
  flags->Take("max_new_tokens", &new_tokens);
  const double start = Seconds();
  QEFF_ASSIGN_OR_RETURN(Runtime runtime, OpenRuntime(path, flags));
  const double loaded = Seconds();
  if (prompt_tokens < 1 || new_tokens < 1 ||
      prompt_tokens > runtime.engine->context_length() - new_tokens) {
    return InvalidInputError(
        "bench: --prompt_tokens and --max_new_tokens: expected 1 or more, and "
        "a sum of at most ",
        runtime.engine->context_length(), ", the context length");
  }
  const int64_t vocab_size = runtime.engine->model().spec.vocab_size;
  std::vector<int32_t> prompt(static_cast<size_t>(prompt_tokens));
  for (size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<int32_t>(i * 7919 % vocab_size);
  }
  QEFF_RETURN_IF_ERROR(runtime.engine->Append(prompt).status());
  const double prefilled = Seconds();
  for (int64_t i = 0; i < new_tokens; ++i) {
    const int32_t token = static_cast<int32_t>(i * 104729 % vocab_size);
    QEFF_RETURN_IF_ERROR(runtime.engine->Append({token}).status());
  }
  const double decoded = Seconds();
  std::fprintf(out,
               "load %.2f ms\nprefill %.2f tokens/s (%lld tokens)\n"
               "decode %.2f tokens/s (%lld tokens)\n",
               (loaded - start) * 1e3,
               static_cast<double>(prompt_tokens) / (prefilled - loaded),
               static_cast<long long>(prompt_tokens),
               static_cast<double>(new_tokens) / (decoded - prefilled),
               static_cast<long long>(new_tokens));
  return absl::OkStatus();
}

absl::StatusOr<DevicePackage> OpenToLook(const std::string& path,
                                         Flags* flags) {
  QEFF_RETURN_IF_ERROR(flags->Check());
  PackageOpenOptions options;
  options.verify_up_to_bytes = 0;
  options.any_target = true;
  return DevicePackage::Open(path, options);
}

absl::Status Info(const std::string& path, Flags* flags, FILE* out) {
  QEFF_ASSIGN_OR_RETURN(const DevicePackage package, OpenToLook(path, flags));
  const PackageHeader& header = package.header();
  const EngineOptions& run = header.options;
  const absl::string_view target = PackageTargetName(header.target);
  std::string text = absl::StrCat(
      "file: ", header.file_bytes, " bytes, written by ", header.producer,
      "\ntarget: ", target, "\nmodel: ", header.spec.family, ", ",
      header.spec.num_layers, " layers, hidden size ", header.spec.hidden_size,
      ", vocabulary ", header.spec.vocab_size,
      "\ncontext_length: ", run.context_length,
      "\nbatch_size: ", run.batch_size, "\nprefill_chunk: ", run.prefill_chunk,
      "\nkv_cache: ", DTypeName(run.kv_cache), "\ntokenizer: ",
      header.tokenizer.has_value() ? header.tokenizer->bytes : 0, " bytes\n");
  for (const PackageTensor& tensor : header.tensors) {
    absl::StrAppend(&text, TensorName(tensor.id), ": [", tensor.rows, ", ",
                    tensor.cols, "] ", WeightLayoutName(tensor.layout), ", ",
                    tensor.data.bytes, " bytes at ", tensor.data.offset, "\n");
  }
  std::fwrite(text.data(), 1, text.size(), out);
  return absl::OkStatus();
}

absl::Status Verify(const std::string& path, Flags* flags, FILE* out) {
  QEFF_ASSIGN_OR_RETURN(const DevicePackage package, OpenToLook(path, flags));
  QEFF_RETURN_IF_ERROR(package.VerifyChecksums());
  std::fprintf(out, "%s: %llu bytes, all checksums match\n", path.c_str(),
               static_cast<unsigned long long>(package.header().file_bytes));
  return absl::OkStatus();
}

}  // namespace

int RunDeviceCommand(absl::Span<const std::string> arguments, FILE* out,
                     FILE* err) {
  using Function = absl::Status (*)(const std::string&, Flags*, FILE*);
  static constexpr std::pair<absl::string_view, Function> kCommands[] = {
      {"run", Run}, {"bench", Bench}, {"info", Info}, {"verify", Verify}};
  const auto* command = std::find_if(
      std::begin(kCommands), std::end(kCommands), [&](const auto& c) {
        return !arguments.empty() && c.first == arguments[0];
      });
  Flags flags;
  if (command == std::end(kCommands) || arguments.size() < 2 ||
      !flags.Parse(arguments.subspan(2)).ok()) {
    std::fputs(kUsage, err);
    return kExitUsage;
  }
  absl::Status status =
      GuardMemory([&] { return command->second(arguments[1], &flags, out); });
  if (status.ok() && std::fflush(out) != 0) {
    status = absl::UnavailableError("standard output: write failed");
  }
  if (status.ok()) return kExitOk;
  std::fprintf(err, "qeff_device: %s\n", std::string(status.message()).c_str());
  return flags.misused() ? kExitUsage : ExitCodeFor(status);
}

}  // namespace qeff
