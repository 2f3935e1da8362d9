// SPDX-License-Identifier: Apache-2.0

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/status.h"
#include "tools/commands/export_format.h"

namespace qeff {
namespace {

constexpr GgmlType kTypes[] = {
    GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ8_0,
    GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
    GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kMXFP4};

std::vector<std::string> TypeNames() {
  std::vector<std::string> names;
  for (const GgmlType type : kTypes) {
    names.push_back(absl::AsciiStrToLower(FindGgmlType(type)->name));
  }
  return names;
}

GgmlType TypeOf(const std::string& name) {
  for (const GgmlType type : kTypes) {
    if (absl::AsciiStrToLower(FindGgmlType(type)->name) == name) return type;
  }
  return GgmlType::kF32;  // not reached: AddChoice has checked the name
}

class GgufFormat : public ExportFormat {
 public:
  std::vector<std::string> names() const override { return {"gguf"}; }
  std::string description() const override {
    return "gguf: one file for llama.cpp. Models of llama, mistral, qwen2, "
           "qwen3, gpt2 and mpt with their tokenizer. Layers that quantize has "
           "made codes or ggml's blocks keep their values exactly: symmetric "
           "integers in groups of a multiple of 32, or one group a row, become "
           "q4_0, q5_0 or q8_0, mxint8 q8_0, mxfp4 mxfp4. Other codes are "
           "refused unless --requantize is given. Layers kept beside quantized "
           "ones become f16, and all others are rounded to the types asked "
           "for. What is written is read back and compared.";
  }
  std::vector<std::string> flag_names() const override {
    return {"scheme", "lm_head", "requantize"};
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->BeginSection("GGUF");
    flags->AddChoice("scheme", &scheme_, TypeNames(),
                     "gguf: type of the layers that are not quantized yet.");
    flags->AddChoice("lm_head", &lm_head_, TypeNames(),
                     "gguf: type of lm_head and of the embedding.");
    flags->Add("requantize", &types_.requantize, "",
               "gguf: round quantized layers again, to --scheme.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const Transformer& model,
                           const std::string&,
                           const std::string& output) override {
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          LoadTokenizer(model));
    types_.linear = TypeOf(scheme_);
    types_.lm_head = types_.embedding = TypeOf(lm_head_);
    QEFF_ASSIGN_OR_RETURN(
        const GgufModelReport report,
        WriteGgufModel(model, tokenizer->tables(), types_, output, env.pool));
    for (const std::string& tensor : report.kept_f16) {
      std::fprintf(env.out, "%s is f16\n", tensor.c_str());
    }
    std::fprintf(env.out, "%s: %.1f MB\n", output.c_str(),
                 static_cast<double>(report.file_bytes) / 1e6);
    return Json{{"file_bytes", report.file_bytes},
                {"kept_f16", report.kept_f16}};
  }

 private:
  GgufModelTypes types_;
  std::string scheme_ = "q4_0";
  std::string lm_head_ = "q8_0";
};

}  // namespace

std::unique_ptr<ExportFormat> MakeGgufFormat() {
  return std::make_unique<GgufFormat>();
}

}  // namespace qeff
