// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "qeff/export/import_gguf.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"

namespace qeff {
namespace {

class ImportCommand : public Command {
 public:
  absl::string_view name() const override { return "import"; }
  absl::string_view summary() const override {
    return "Turns a GGUF file into a model folder.";
  }
  absl::string_view description() const override {
    return "Reads models of the architectures llama, qwen2, qwen3, gpt2 and "
           "mpt with their tokenizer. Linear layers that are Q8_0, Q4_0, Q4_K, "
           "Q5_K or Q6_K keep their blocks: the folder is a quantized model, "
           "which runs as such and can be exported to what holds the same "
           "codes. Q4_1, Q5_0, Q5_1, MXFP4 and blocks elsewhere become F32, "
           "with the values that they decode to, exactly; F32, F16 and BF16 "
           "stay.\n\n"
           "What changes weights (quantize, prune, train) wants floats: "
           "--dequantize.";
  }
  absl::string_view examples() const override {
    return "import --model=llama.gguf --output=llama\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "FILE", "The GGUF file.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->Add("dequantize", &dequantize_, "",
               "Writes floats for all blocks, 4 bytes a weight.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(
        const ImportReport report,
        ImportGguf(model_, output_,
                   dequantize_ ? GgufBlocks::kFloat : GgufBlocks::kKeep));
    std::fprintf(env.out,
                 "%s: %lld tensors, of which %lld stay blocks, %.1f MB\n",
                 output_.c_str(), static_cast<long long>(report.tensors),
                 static_cast<long long>(report.quantized_tensors),
                 static_cast<double>(report.weight_bytes) / 1e6);
    return Json{{"tensors", report.tensors},
                {"quantized_tensors", report.quantized_tensors},
                {"weight_bytes", report.weight_bytes}};
  }

 private:
  std::string model_;
  std::string output_;
  bool dequantize_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeImportCommand() {
  return std::make_unique<ImportCommand>();
}

}  // namespace qeff
