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
           "mpt with their tokenizer. Matrices may be F32, F16, BF16, Q8_0, "
           "Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K and MXFP4; the folder has "
           "the values that they decode to, exactly, as F32 unless they are "
           "F16 or BF16.";
  }
  absl::string_view examples() const override {
    return "import --model=llama.gguf --output=llama\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "FILE", "The GGUF file.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const ImportReport report,
                          ImportGguf(model_, output_));
    std::fprintf(env.out, "%s: %lld tensors, %.1f MB\n", output_.c_str(),
                 static_cast<long long>(report.tensors),
                 static_cast<double>(report.weight_bytes) / 1e6);
    return Json{{"tensors", report.tensors},
                {"weight_bytes", report.weight_bytes}};
  }

 private:
  std::string model_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> MakeImportCommand() {
  return std::make_unique<ImportCommand>();
}

}  // namespace qeff
