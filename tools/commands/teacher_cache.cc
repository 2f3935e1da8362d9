// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/teacher_cache.h"

#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/distill/teacher.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/train/sequence_sampler.h"
#include "qeff/train/token_shard.h"
#include "qeff/train/tokenize_to_shard.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/sanity_flag.h"
#include "tools/commands/text_tokens.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

// Packed weights of the teacher that are kept.
constexpr uint64_t kTeacherBytes = uint64_t{4} << 30;

class TeacherCacheCommand : public Command {
 public:
  absl::string_view name() const override { return "teacher_cache"; }
  absl::string_view summary() const override {
    return "Keeps what a teacher says of a text, for distill.";
  }
  absl::string_view description() const override {
    return "Writes the teacher's --top_k most probable tokens at each place of "
           "the text, their probabilities and that of all others together. "
           "distill --teacher_cache=DIR with the same --data, --documents and "
           "--sequence_length learns from that: the teacher need not run "
           "again.\n\n"
           "A run that was ended goes on with --resume.";
  }
  absl::string_view examples() const override {
    return "teacher_cache --teacher=llama --data=book.txt --output=cache "
           "--top_k=64\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("teacher", &teacher_, "DIR", "The teacher's folder.");
    flags->AddRepeated("data", &data_, "FILE", "UTF-8 text. May be repeated.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->Add("top_k", &top_k_, "K", "Tokens to keep at each place.");
    flags->Add("sequence_length", &sequence_length_, "N",
               "Tokens of a sequence.");
    flags->AddChoice("documents", &documents_, {"files", "blank_lines"},
                     "What is a document: a file, or what stands between empty "
                     "lines.");
    sanity_.Declare(flags);
    flags->Add("resume", &resume_, "",
               "Goes on with what an interrupted run left in OUTPUT.partial.");
    flags->Add("restart", &restart_, "", "Discards it and begins anew.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    if (data_.empty()) return UsageError("--data=FILE is required");
    if (resume_ && restart_) {
      return UsageError("--resume and --restart exclude each other");
    }
    TeacherCacheOptions options;
    options.unfinished = resume_    ? PartialWork::kResume
                         : restart_ ? PartialWork::kRestart
                                    : PartialWork::kRefuse;
    QEFF_RETURN_IF_ERROR(PartialFolder::Check(output_, options.unfinished));
    QEFF_ASSIGN_OR_RETURN(const auto model, LoadTransformer(teacher_));
    QEFF_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(*model));
    QEFF_RETURN_IF_ERROR(
        sanity_.CheckBeginning(model, *tokenizer, data_.front(), env).status());
    const InterruptScope interrupt;
    TokenizeOptions tokenize;
    // AddChoice has checked the name.
    QEFF_ASSIGN_OR_RETURN(tokenize.documents, ParseDocumentKind(documents_));
    QEFF_ASSIGN_OR_RETURN(tokenize.bos, LeadingToken(*tokenizer));
    tokenize.eos = tokenizer->eos_id();
    tokenize.check = [&] { return interrupt.Check(); };
    QEFF_ASSIGN_OR_RETURN(
        const std::shared_ptr<const TokenShard> text,
        Tokenize(*tokenizer, tokenize, output_ + ".tokens", *env.pool));
    QEFF_ASSIGN_OR_RETURN(
        const auto sampler,
        SequenceSampler::Create(text, sequence_length_, /*seed=*/0,
                                /*shuffle=*/false, tokenize.bos));
    TeacherCacheInfo info;
    info.vocab_size = model->spec().vocab_size;
    info.top_k = top_k_;
    info.sequence_length = sequence_length_;
    info.sequences = sampler->num_sequences();
    info.text = absl::StrCat(absl::Hex(text->checksum()));
    info.bos = tokenize.bos.value_or(-1);
    QEFF_ASSIGN_OR_RETURN(info.teacher, ModelFingerprint(model->checkpoint()));
    QEFF_ASSIGN_OR_RETURN(const auto teacher,
                          MakeLiveTeacher(model, {}, kTeacherBytes, env.pool,
                                          [&] { return interrupt.Check(); }));
    absl::optional<Progress> progress;
    options.check = [&] { return interrupt.Check(); };
    options.progress = [&](int64_t done, int64_t total) {
      if (!progress.has_value()) progress.emplace("teacher_cache", total);
      progress->Advance(done - progress->done());
    };
    QEFF_RETURN_IF_ERROR(WriteTeacherCache(info, teacher.get(), sampler.get(),
                                           output_, options, env.pool));
    progress.reset();
    std::fprintf(env.out, "wrote %s: %lld sequences of %lld tokens\n",
                 output_.c_str(), static_cast<long long>(info.sequences),
                 static_cast<long long>(info.sequence_length));
    return Json{{"output", output_},
                {"sequences", info.sequences},
                {"sequence_length", info.sequence_length},
                {"top_k", info.top_k}};
  }

 private:
  // The data as a file that has no name any more when it is used, so that
  // nothing is left of it however the command ends.
  absl::StatusOr<std::shared_ptr<const TokenShard>> Tokenize(
      const Tokenizer& tokenizer, const TokenizeOptions& options,
      const std::string& path, ThreadPool& pool) const {
    QEFF_RETURN_IF_ERROR(
        TokenizeToShard(data_, tokenizer, options, path, pool));
    auto text = TokenShard::Open(path);
    unlink(path.c_str());
    return text;
  }

  std::string teacher_;
  std::vector<std::string> data_;
  std::string output_;
  std::string documents_ = "files";
  SanityFlag sanity_;
  int64_t top_k_ = 64;
  int64_t sequence_length_ = 256;
  bool resume_ = false;
  bool restart_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeTeacherCacheCommand() {
  return std::make_unique<TeacherCacheCommand>();
}

}  // namespace qeff
