// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "absl/strings/ascii.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"

namespace qeff {
namespace {

constexpr GgmlType kTypes[] = {
    GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ8_0,
    GgmlType::kQ4_0, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K};

GgmlType TypeOf(const std::string& name) {
  for (const GgmlType type : kTypes) {
    if (absl::AsciiStrToLower(FindGgmlType(type)->name) == name) return type;
  }
  return GgmlType::kF32;  // not reached: AddChoice has checked the name
}

class ExportCommand : public Command {
 public:
  absl::string_view name() const override { return "export"; }
  absl::string_view summary() const override {
    return "Writes a model as a GGUF file for llama.cpp.";
  }
  absl::string_view description() const override {
    return "Models of llama, mistral, qwen2 and qwen3 with their tokenizer. "
           "Layers that quantize has made ggml's blocks (q4_0, q4_k, ...) go "
           "into the file as they are; layers kept beside them become f16. "
           "Everything else is rounded to the types asked for.";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR", "The model's folder.");
    flags->AddRequired("output", &output_, "FILE", "The GGUF file to write.");
    flags->AddChoice(
        "scheme", &scheme_,
        {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"},
        "Type of the layers that are no blocks yet.");
    flags->AddChoice(
        "lm_head", &lm_head_,
        {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"},
        "Type of lm_head and of the embedding.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                          LoadTransformer(model_));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          LoadTokenizer(*model));
    GgufModelTypes types;
    types.linear = TypeOf(scheme_);
    types.lm_head = types.embedding = TypeOf(lm_head_);
    QEFF_ASSIGN_OR_RETURN(
        const GgufModelReport report,
        WriteGgufModel(*model, tokenizer->tables(), types, output_, env.pool));
    for (const std::string& tensor : report.kept_f16) {
      std::fprintf(env.out, "%s is f16\n", tensor.c_str());
    }
    std::fprintf(env.out, "%s: %.1f MB\n", output_.c_str(),
                 static_cast<double>(report.file_bytes) / 1e6);
    return Json{{"file_bytes", report.file_bytes},
                {"kept_f16", report.kept_f16}};
  }

 private:
  std::string model_;
  std::string output_;
  std::string scheme_ = "q4_0";
  std::string lm_head_ = "q8_0";
};

}  // namespace

std::unique_ptr<Command> MakeExportCommand() {
  return std::make_unique<ExportCommand>();
}

}  // namespace qeff
