// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "qeff/base/qeff_auto_model.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/model_folder.h"

namespace qeff {
namespace {

class EmbedCommand : public Command {
 public:
  absl::string_view name() const override { return "embed"; }
  absl::string_view summary() const override {
    return "Turns a text into one vector of hidden states.";
  }
  absl::string_view description() const override {
    return "Runs the model over the text and pools the hidden states after "
           "the final norm into one vector, printed as numbers separated by "
           "commas.";
  }
  absl::string_view examples() const override {
    return "embed --model=llama --text=\"Call me Ishmael.\" --pooling=last "
           "--json=-\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR",
                       "The model's folder, or a GGUF file.");
    flags->AddRequired("text", &text_, "STRING", "The text.");
    flags->AddChoice("pooling", &pooling_, {"mean", "last", "cls"},
                     "The mean over all tokens, the last one's state, or the "
                     "first one's.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    const Pooling pooling = pooling_ == "mean"   ? Pooling::kMean
                            : pooling_ == "last" ? Pooling::kLast
                                                 : Pooling::kCls;
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder, ModelFolder::Open(model_));
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<QEFFAutoModel> model,
        QEFFAutoModel::FromPretrained(folder.path(), env.pool));
    QEFF_ASSIGN_OR_RETURN(const std::vector<float> vector,
                          model->Embed(text_, pooling));
    const auto format = [](std::string* out, float value) {
      absl::StrAppendFormat(out, "%.9g", value);
    };
    std::fprintf(env.out, "%s\n", absl::StrJoin(vector, ",", format).c_str());
    return Json{{"embedding", vector}, {"pooling", pooling_}};
  }

 private:
  std::string model_;
  std::string text_;
  std::string pooling_ = "mean";
};

}  // namespace

std::unique_ptr<Command> MakeEmbedCommand() {
  return std::make_unique<EmbedCommand>();
}

}  // namespace qeff
