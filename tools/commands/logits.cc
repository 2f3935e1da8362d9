// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/io/safetensors_writer.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/model_folder.h"
#include "tools/commands/token_list.h"

namespace qeff {
namespace {

class LogitsCommand : public Command {
 public:
  absl::string_view name() const override { return "logits"; }
  absl::string_view summary() const override {
    return "Writes the logits of a sequence of tokens.";
  }
  absl::string_view description() const override {
    return "Runs the model over the tokens and writes the float32 tensor "
           "`logits` of [tokens, vocab] to a safetensors file.";
  }
  absl::string_view examples() const override {
    return "logits --model=llama --tokens=1,306,29915 "
           "--output=logits.safetensors\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR",
                       "The model's folder, or a GGUF file.");
    flags->AddRequired("tokens", &tokens_, "IDS",
                       "Token ids, separated by commas.");
    flags->AddRequired("output", &output_, "FILE",
                       "The safetensors file to write; replaced if it "
                       "exists.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                          ParseTokenList(tokens_));
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder, ModelFolder::Open(model_));
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<QEFFAutoModelForCausalLM> model,
        QEFFAutoModelForCausalLM::FromPretrained(folder.path(), env.pool));
    QEFF_ASSIGN_OR_RETURN(const Matrix<float> logits, model->Logits(tokens));
    const absl::Span<const float> values = logits.span();
    const TensorView view{
        DType::kF32, Shape({logits.rows(), logits.cols()}),
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values.data()),
                            values.size() * sizeof(float))};
    QEFF_RETURN_IF_ERROR(WriteSafetensorsFile(output_, {{"logits", view}}));
    std::fprintf(env.out, "wrote logits %s to %s\n",
                 view.shape.ToString().c_str(), output_.c_str());
    return Json{{"output", output_}, {"shape", {logits.rows(), logits.cols()}}};
  }

 private:
  std::string model_;
  std::string tokens_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> MakeLogitsCommand() {
  return std::make_unique<LogitsCommand>();
}

}  // namespace qeff
