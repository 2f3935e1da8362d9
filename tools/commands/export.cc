// SPDX-License-Identifier: Apache-2.0

#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/export_format.h"
#include "tools/commands/model_folder.h"

namespace qeff {
namespace {

class ExportCommand : public Command {
 public:
  ExportCommand() {
    formats_.push_back(MakeGgufFormat());
    formats_.push_back(MakeOnnxFormat());
    formats_.push_back(MakeFolderFormat());
    formats_.push_back(MakeSparseFormat());
    description_ =
        "Reads any model folder that qeff reads, so that it also converts "
        "between formats.";
    for (const auto& format : formats_) {
      absl::StrAppend(&description_, "\n\n", format->description());
    }
  }

  absl::string_view name() const override { return "export"; }
  absl::string_view summary() const override {
    return "Writes a model in a format of another runtime.";
  }
  absl::string_view description() const override { return description_; }
  absl::string_view examples() const override {
    return "export --model=llama --format=gguf --scheme=q4_k "
           "--output=llama.gguf\n"
           "export --model=llama --format=onnx --output=llama_onnx\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR",
                       "The model's folder, or a GGUF file.");
    flags->AddRequired(
        "format", &format_, "FORMAT",
        absl::StrCat("One of ", absl::StrJoin(Names(), ", "), "."));
    flags->AddRequired("output", &output_, "FILE",
                       "The file or folder to write.");
    for (const auto& format : formats_) format->DeclareFlags(flags);
  }
  absl::Status Check(const FlagTable& flags) override {
    const ExportFormat* const chosen = Chosen();
    if (chosen == nullptr) {
      return UsageError(absl::StrCat("--format=", format_, ": must be one of ",
                                     absl::StrJoin(Names(), ", ")));
    }
    for (const auto& format : formats_) {
      for (const std::string& flag : format->flag_names()) {
        if (format.get() == chosen || !flags.WasGiven(flag)) continue;
        return UsageError(absl::StrCat("--", flag, " goes with --format=",
                                       absl::StrJoin(format->names(), " or "),
                                       ", not ", format_));
      }
    }
    return chosen->Check();
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder, ModelFolder::Open(model_));
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                          LoadTransformer(folder.path()));
    return Chosen()->Run(env, *model, format_, output_);
  }

 private:
  // Null where there is none of that name.
  ExportFormat* Chosen() const {
    for (const auto& format : formats_) {
      if (absl::c_linear_search(format->names(), format_)) return format.get();
    }
    return nullptr;
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& format : formats_) {
      for (const std::string& name : format->names()) names.push_back(name);
    }
    return names;
  }

  std::vector<std::unique_ptr<ExportFormat>> formats_;
  std::string description_;
  std::string model_;
  std::string format_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> MakeExportCommand() {
  return std::make_unique<ExportCommand>();
}

}  // namespace qeff
