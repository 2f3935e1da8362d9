// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/compile_aic.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/export/aic/export_aic.h"
#include "qeff/util/status.h"
#include "tools/commands/cache_root.h"
#include "tools/commands/token_list.h"
#include "tools/interrupt.h"
#include "tools/version.h"

namespace qeff {
namespace {

// What a flag whose value is wrong is called in messages of libraries, which
// know fields: the same, but for the dashes.
absl::Status AsUsage(const absl::Status& status) {
  return status.ok() ? status
                     : UsageError(absl::StrCat("--", status.message()));
}

absl::Status ParseNumbers(absl::string_view flag, const std::string& text,
                          std::vector<int64_t>* numbers) {
  const absl::StatusOr<std::vector<int32_t>> list = ParseTokenList(text);
  if (!list.ok()) {
    return UsageError(absl::StrCat(
        "--", flag, ": expected numbers with commas between, found '", text,
        "'"));
  }
  numbers->assign(list->begin(), list->end());
  return absl::OkStatus();
}

// The compiler, to be started from another folder; "" when there is none.
absl::StatusOr<std::string> FindCompiler(const std::string& compiler,
                                         bool must_exist) {
  if (compiler.find('/') == std::string::npos) return compiler;
  std::error_code error;
  const std::string path = std::filesystem::absolute(compiler, error);
  if (!error && access(path.c_str(), X_OK) == 0) return path;
  if (must_exist) return IoError(compiler, "find the compiler", errno);
  return std::string();
}

}  // namespace

std::vector<std::string> AicTarget::flag_names() {
  return {"prefill_seq_len",
          "ctx_len",
          "full_batch_size",
          "num_speculative_tokens",
          "comp_ctx_lengths_prefill",
          "comp_ctx_lengths_decode",
          "num_cores",
          "num_devices",
          "mdp_num_partitions",
          "mxfp6_matmul",
          "mxint8_kv_cache",
          "compiler_option",
          "compiler",
          "compile_timeout",
          "sdk_version",
          "artifact_only"};
}

void AicTarget::Declare(FlagTable* flags) {
  AicShapes& shapes = settings_.shapes;
  flags->BeginSection("Qualcomm Cloud AI");
  flags->Add("prefill_seq_len", &shapes.prefill_seq_len, "N",
             "aic: tokens of a prompt that go through together.");
  flags->Add("ctx_len", &shapes.ctx_len, "N",
             "aic: tokens of a sequence, prompt included.");
  flags->Add(
      "full_batch_size", &shapes.full_batch_size, "N",
      "aic: sequences in the cache with continuous batching; 0 is none.");
  flags->Add("num_speculative_tokens", &num_speculative_tokens_, "N,...",
             "aic: as a target of speculative decoding, drafted tokens that a "
             "step checks; one program for each number.");
  flags->Add("comp_ctx_lengths_prefill", &comp_ctx_lengths_prefill_, "N,...",
             "aic: lengths of context to attend to, one program for each.");
  flags->Add("comp_ctx_lengths_decode", &comp_ctx_lengths_decode_, "N,...",
             "aic: the same when generating.");
  flags->Add("num_cores", &settings_.num_cores, "N", "aic: cores of a device.");
  flags->Add("num_devices", &settings_.num_devices, "N",
             "aic: devices; every layer is split over them.");
  flags->Add("mdp_num_partitions", &settings_.stages, "N",
             "aic: stages of a pipeline over the devices; 1 is none.");
  flags->Add("mxfp6_matmul", &settings_.mxfp6_matmul, "",
             "aic: weights of products in MXFP6.");
  flags->Add("mxint8_kv_cache", &mxint8_kv_cache_, "",
             "aic: keys and values in MXINT8, otherwise float16.");
  flags->AddRepeated("compiler_option", &compiler_options_, "NAME[=VALUE]",
                     "aic: another option of the compiler, e.g. mos=1.");
  flags->Add("compiler", &compiler_, "FILE",
             "aic: the SDK's compiler. If none is given and the SDK is not "
             "installed, its inputs and a script are all that is made.");
  flags->Add("compile_timeout", &compile_timeout_seconds_, "SECONDS",
             "aic: ends the compiler after that time; 0 is never.");
  flags->Add("sdk_version", &sdk_version_, "VERSION",
             "aic: of the compiler that will read the files, e.g. 1.20.2, if "
             "it is not the one installed here.");
  flags->Add(
      "artifact_only", &artifact_only_, "",
      "aic: makes the compiler's inputs and a script, and runs nothing.");
}

absl::StatusOr<AicCompileOptions> AicTarget::Options(const FlagTable& flags,
                                                     const std::string& target,
                                                     int64_t batch_size) const {
  AicCompileOptions options;
  options.settings = settings_;
  AicSettings& settings = options.settings;
  AicShapes& shapes = settings.shapes;
  shapes.batch_size = batch_size;
  settings.hardware = target == "aic200" ? "ai200" : "ai100";
  if (mxint8_kv_cache_) settings.kv_precision = KvPrecision::kMxint8;
  QEFF_RETURN_IF_ERROR(ParseNumbers("num_speculative_tokens",
                                    num_speculative_tokens_,
                                    &shapes.num_speculative_tokens));
  QEFF_RETURN_IF_ERROR(ParseNumbers("comp_ctx_lengths_prefill",
                                    comp_ctx_lengths_prefill_,
                                    &shapes.comp_ctx_lengths_prefill));
  QEFF_RETURN_IF_ERROR(ParseNumbers("comp_ctx_lengths_decode",
                                    comp_ctx_lengths_decode_,
                                    &shapes.comp_ctx_lengths_decode));
  QEFF_RETURN_IF_ERROR(AsUsage(MakeSpecializations(shapes).status()));
  auto parsed = ParseCompilerOptions(compiler_options_);
  if (!parsed.ok()) {
    return UsageError(
        absl::StrCat("--compiler_option: ", parsed.status().message()));
  }
  settings.options = *std::move(parsed);
  QEFF_ASSIGN_OR_RETURN(
      options.compiler,
      FindCompiler(compiler_, flags.WasGiven("compiler") && !artifact_only_));
  settings.sdk = SdkVersionsOf(options.compiler);
  if (!sdk_version_.empty()) {
    settings.sdk = SdkVersions{sdk_version_, ""};
    const absl::Status status = FormOfSdk(sdk_version_).status();
    if (!status.ok()) {
      return UsageError(absl::StrCat("--sdk_version: ", status.message()));
    }
  }
  settings.qeff_version = kQeffVersion;
  options.run_compiler = !artifact_only_ && !options.compiler.empty();
  if (!(compile_timeout_seconds_ >= 0)) {
    return UsageError("--compile_timeout: expected 0 or more");
  }
  if (compile_timeout_seconds_ > 0) {
    options.subprocess.timeout = absl::Seconds(compile_timeout_seconds_);
  }
  return options;
}

absl::StatusOr<Json> AicTarget::Run(
    const CommandEnv& env, const FlagTable& flags, const std::string& target,
    const std::string& folder, const std::string& output, int64_t batch_size) {
  QEFF_ASSIGN_OR_RETURN(AicCompileOptions options,
                        Options(flags, target, batch_size));
  options.subprocess.on_output = [&env](absl::string_view text) {
    std::fwrite(text.data(), 1, text.size(), env.out);
    std::fflush(env.out);
  };
  QEFF_ASSIGN_OR_RETURN(const std::string root, CacheRoot(output));
  QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                        LoadTransformer(folder));
  const InterruptScope interrupt;
  options.subprocess.check = [&interrupt] { return interrupt.Check(); };
  QEFF_ASSIGN_OR_RETURN(
      const AicExport exported,
      ExportAic(*model, options.settings.shapes, kQeffVersion, root));
  QEFF_RETURN_IF_ERROR(interrupt.Check());
  for (const std::string& layer : exported.dequantized) {
    std::fprintf(env.out, "%s is float32\n", layer.c_str());
  }
  std::fprintf(env.out, "%s%s\n", exported.graph.onnx_path.c_str(),
               exported.from_cache ? ", from the cache" : "");
  QEFF_ASSIGN_OR_RETURN(const AicCompileResult result,
                        CompileAic(exported.graph, options));
  std::fprintf(env.out, "%s%s\n", result.folder.c_str(),
               result.from_cache ? ", from the cache" : "");
  if (!result.compiled) {
    std::fprintf(env.out,
                 "not compiled%s: the folder above it is all that a machine "
                 "with the SDK needs to run qaic-compile.sh\n",
                 artifact_only_ ? "" : ", since the SDK is not installed here");
  }
  return Json{{"target", target},
              {"onnx", exported.graph.onnx_path},
              {"folder", result.folder},
              {"compiled", result.compiled},
              {"from_cache", result.from_cache}};
}

}  // namespace qeff
