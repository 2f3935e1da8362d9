// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "absl/strings/str_join.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/model_folder.h"
#include "tools/commands/token_list.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

class TokenizeCommand : public Command {
 public:
  absl::string_view name() const override { return "tokenize"; }
  absl::string_view summary() const override {
    return "Turns text into token ids, or ids into text.";
  }
  absl::string_view description() const override {
    return "Prints the token ids of a text, separated by commas. With "
           "--decode the text is a list of ids, and what they stand for is "
           "printed. A folder that holds only tokenizer files will do.";
  }
  absl::string_view examples() const override {
    return "tokenize --model=llama --text=\"Call me Ishmael.\"\n"
           "tokenize --model=llama --decode --text=1,306,29915\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR",
                       "Folder with tokenizer.json or tokenizer.model, or a "
                       "GGUF file.");
    flags->Add("text", &text_, "STRING", "The text.");
    flags->Add("file", &file_, "FILE", "A file with the text.");
    flags->Add("add_special_tokens", &add_special_tokens_, "",
               "Adds what the model expects around a text, such as BOS.");
    flags->Add("decode", &decode_, "", "The text is ids; prints their text.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env,
                           const FlagTable& flags) override {
    if (flags.WasGiven("text") == flags.WasGiven("file")) {
      return UsageError("give one of --text and --file");
    }
    std::string text = text_;
    if (flags.WasGiven("file")) {
      QEFF_ASSIGN_OR_RETURN(text, ReadFileToString(file_, kMaxTextBytes));
    }
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder, ModelFolder::Open(model_));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          Tokenizer::FromFolder(folder.path()));
    return decode_ ? Decode(*tokenizer, text, env)
                   : Encode(*tokenizer, text, env);
  }

 private:
  absl::StatusOr<Json> Encode(const Tokenizer& tokenizer,
                              const std::string& text, const CommandEnv& env) {
    QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          tokenizer.Encode(text, add_special_tokens_));
    std::fprintf(env.out, "%s\n", absl::StrJoin(ids, ",").c_str());
    return Json{{"ids", ids}, {"count", ids.size()}};
  }

  absl::StatusOr<Json> Decode(const Tokenizer& tokenizer,
                              const std::string& text, const CommandEnv& env) {
    QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseTokenList(text));
    QEFF_ASSIGN_OR_RETURN(const std::string decoded,
                          tokenizer.Decode(ids, /*skip_special_tokens=*/false));
    std::fwrite(decoded.data(), 1, decoded.size(), env.out);
    std::fputc('\n', env.out);
    return Json{{"text", decoded}};
  }

  std::string model_;
  std::string text_;
  std::string file_;
  bool add_special_tokens_ = true;
  bool decode_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeTokenizeCommand() {
  return std::make_unique<TokenizeCommand>();
}

}  // namespace qeff
