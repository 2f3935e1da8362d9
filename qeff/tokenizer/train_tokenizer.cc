// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/train_tokenizer.h"

#include <sys/stat.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/tokenizer/sentencepiece_model.pb.h"
#include "qeff/tokenizer/train_bpe.h"
#include "qeff/util/atomic_folder.h"
#include "qeff/util/json.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"
#include "qeff/util/text_file.h"

namespace qeff {
namespace {

constexpr int64_t kFirstTokens = 3 + 256;
// Of SentencePiece's pieces.
enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
constexpr int kBpe = 2;

std::string ModelBytes(const BpePieces& pieces, int64_t vocab_size) {
  sentencepiece_wire::Model model;
  const auto add = [&](const std::string& text, float score, PieceType type) {
    sentencepiece_wire::Piece* piece = model.add_pieces();
    piece->set_piece(text);
    piece->set_score(score);
    if (type != kNormal) piece->set_type(type);
  };
  add("<unk>", 0, kUnknown);
  add("<s>", 0, kControl);
  add("</s>", 0, kControl);
  for (int byte = 0; byte < 256; ++byte) {
    add(absl::StrFormat("<0x%02X>", byte), 0, kByte);
  }
  // The larger score is merged first.
  float score = 0;
  for (const auto* list : {&pieces.merges, &pieces.characters}) {
    for (const std::string& piece : *list) {
      add(piece, score, kNormal);
      score -= 1;
    }
  }
  sentencepiece_wire::TrainerSpec* trainer = model.mutable_trainer_spec();
  trainer->set_model_type(kBpe);
  trainer->set_vocab_size(static_cast<int32_t>(vocab_size));
  trainer->set_byte_fallback(true);
  sentencepiece_wire::NormalizerSpec* normalizer =
      model.mutable_normalizer_spec();
  normalizer->set_name("identity");
  normalizer->set_add_dummy_prefix(true);
  normalizer->set_remove_extra_whitespaces(false);
  normalizer->set_escape_whitespaces(true);
  return model.SerializeAsString();
}

std::string ConfigText() {
  return Json{{"tokenizer_class", "LlamaTokenizer"},
              {"add_bos_token", true},
              {"add_eos_token", false},
              {"bos_token", "<s>"},
              {"eos_token", "</s>"},
              {"unk_token", "<unk>"},
              {"legacy", false},
              {"clean_up_tokenization_spaces", false}}
             .dump(2) +
         "\n";
}

absl::Status WriteFile(AtomicFolder* folder, const std::string& name,
                       const std::string& content) {
  QEFF_ASSIGN_OR_RETURN(OutputFile* const file, folder->AddFile(name));
  return file->Write(0, AsBytes(content));
}

}  // namespace

absl::Status TrainTokenizer(const std::vector<std::string>& files,
                            int64_t vocab_size, const std::string& output) {
  if (vocab_size <= kFirstTokens || vocab_size > (int64_t{1} << 24)) {
    return InvalidInputError("--vocab_size: expected more than ", kFirstTokens,
                             ", the special tokens and bytes, and at most ",
                             int64_t{1} << 24, ", found ", vocab_size);
  }
  struct stat info;
  if (lstat(output.c_str(), &info) == 0) {
    return absl::AlreadyExistsError(
        absl::StrCat(output, ": exists already; give a new path"));
  }
  WordCounts words;
  for (const std::string& path : files) {
    QEFF_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
    AddWords(text, &words);
  }
  QEFF_ASSIGN_OR_RETURN(const BpePieces pieces,
                        TrainBpe(words, vocab_size - kFirstTokens),
                        absl::StrCat("--vocab_size=", vocab_size));
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<AtomicFolder> folder,
                        AtomicFolder::Create(output));
  QEFF_RETURN_IF_ERROR(WriteFile(folder.get(), "tokenizer.model",
                                 ModelBytes(pieces, vocab_size)));
  QEFF_RETURN_IF_ERROR(
      WriteFile(folder.get(), "tokenizer_config.json", ConfigText()));
  return folder->Commit();
}

}  // namespace qeff
