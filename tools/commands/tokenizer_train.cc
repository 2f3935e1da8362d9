// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qeff/tokenizer/train_tokenizer.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"

namespace qeff {
namespace {

class TokenizerTrainCommand : public Command {
 public:
  absl::string_view name() const override { return "tokenizer_train"; }
  absl::string_view summary() const override {
    return "Makes a tokenizer for a text.";
  }
  absl::string_view description() const override {
    return "Byte-pair encoding with bytes for what is rare, in the format of "
           "SentencePiece, as Llama has it: <unk>, <s>, </s>, 256 bytes, then "
           "the pieces that are most frequent. The same text gives the same "
           "tokenizer.";
  }
  absl::string_view examples() const override {
    return "tokenizer_train --data=book.txt --vocab_size=4096 "
           "--output=tokenizer\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRepeated("data", &data_, "FILE", "UTF-8 text. May be repeated.");
    flags->Add("vocab_size", &vocab_size_, "N", "Number of tokens.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    if (data_.empty()) return UsageError("--data=FILE is required");
    QEFF_RETURN_IF_ERROR(TrainTokenizer(data_, vocab_size_, output_));
    std::fprintf(env.out, "wrote %s\n", output_.c_str());
    return Json{{"output", output_}, {"vocab_size", vocab_size_}};
  }

 private:
  std::vector<std::string> data_;
  int64_t vocab_size_ = 8192;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> MakeTokenizerTrainCommand() {
  return std::make_unique<TokenizerTrainCommand>();
}

}  // namespace qeff
