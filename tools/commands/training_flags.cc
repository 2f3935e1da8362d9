// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/training_flags.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "qeff/train/agreement.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/text_tokens.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxTokenizerBytes = uint64_t{256} << 20;

// What a tokenizer is made of, in a model's folder.
constexpr const char* kTokenizerFiles[] = {"tokenizer.json",
                                           "tokenizer.model",
                                           "tokenizer_config.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "added_tokens.json",
                                           "chat_template.jinja",
                                           "special_tokens_map.json"};

// A flag's value that is not what it should be.
absl::Status FlagError(absl::string_view flag, const absl::Status& status) {
  return UsageError(absl::StrCat("--", flag, ": ", status.message()));
}

// Prints a line for every measured held-out loss, beside a progress bar.
class Reporter {
 public:
  Reporter(int64_t steps, FILE* out) : steps_(steps), out_(out) {}

  void Step(const StepProgress& progress) {
    if (progress.held_out_loss >= 0 || !progress.report.bad.empty()) {
      if (bar_.has_value()) bar_->Clear();
      std::fprintf(out_, "%s\n", Line(progress).c_str());
      std::fflush(out_);
    }
    if (progress.step == 0) return;
    if (!bar_.has_value()) {
      bar_.emplace("train", steps_ - progress.step + 1);
      begun_ = progress.step - 1;
    }
    bar_->Advance(progress.step - begun_ - bar_->done());
  }

  void End() { bar_.reset(); }

 private:
  static std::string Line(const StepProgress& progress) {
    std::string line = absl::StrFormat("step %d", progress.step);
    if (!progress.report.bad.empty()) {
      absl::StrAppend(&line, ": skipped, ", progress.report.bad,
                      " is not finite");
      return line;
    }
    for (const LossTerm& term : progress.report.terms) {
      absl::StrAppendFormat(&line, "  %s %.4f", term.name, term.sum);
    }
    absl::StrAppendFormat(&line, "  held-out loss %.4f",
                          progress.held_out_loss);
    if (progress.step > 0) {
      absl::StrAppendFormat(&line, "  %.0f tokens/s (%.0f %% of peak)",
                            progress.tokens_per_second,
                            100 * progress.peak_fraction);
    }
    return line;
  }

  const int64_t steps_;
  FILE* const out_;
  int64_t begun_ = 0;
  absl::optional<Progress> bar_;
};

}  // namespace

void TrainingFlags::Declare(FlagTable* flags) {
  flags->AddRequired("output", &output_, "DIR",
                     "The folder to write; must not exist.");
  flags->BeginSection("Texts");
  flags->AddRepeated("data", &data_, "FILE",
                     "UTF-8 text to learn from. May be repeated.");
  flags->AddRepeated("text", &text_, "FILE",
                     "Text that is not learned from: its loss is measured. May "
                     "be repeated.");
  flags->AddChoice("documents", &documents_, {"files", "blank_lines"},
                   "What is a document, over whose ends attention does not "
                   "look: a file, or what stands between empty lines.");
  sanity_.Declare(flags);
  flags->BeginSection("Steps");
  flags->Add("steps", &run_.steps, "N", "Steps of the optimizer.");
  flags->Add("batch_size", &step_.batch_size, "N", "Sequences of a step.");
  flags->Add(
      "micro_batch_size", &step_.micro_batch_size, "N",
      "Of these, how many run at a time: memory grows with it. 0 is what "
      "makes 4096 tokens.");
  flags->Add("sequence_length", &step_.sequence_length, "N",
             "Tokens of a sequence.");
  flags->BeginSection("The optimizer");
  flags->Add("learning_rate", &step_.schedule.peak, "X",
             "The largest of the schedule.");
  flags->AddChoice("schedule", &schedule_,
                   {"constant", "cosine", "linear", "wsd"},
                   "How the learning rate falls after the warm-up.");
  flags->Add("warmup_steps", &step_.schedule.warmup_steps, "N",
             "Steps in which it grows from 0.");
  flags->AddChoice("optimizer", &optimizer_, {"adamw", "adafactor"},
                   "adafactor keeps no momentum and little else: 4 bytes a "
                   "weight less than half of adamw's.");
  flags->Add("weight_decay", &step_.optimizer.weight_decay, "X",
             "Of matrices, times the learning rate.");
  flags->Add("clip_norm", &step_.clip_norm, "X",
             "Largest norm of the gradient; 0 is any.");
  flags->BeginSection("Steps");
  flags->Add(
      "recompute", &step_.recompute, "",
      "Keeps the inputs of blocks only: less memory, a third more work.");
  flags->BeginSection("Weights");
  flags->Add("bf16_weights", &weights_.bf16_weights, "",
             "Runs with weights rounded to BF16, and changes float32 ones.");
  flags->Add("scheme", &scheme_, "SCHEME",
             "Trains the blocks' matrices as this scheme of quantize has them, "
             "and writes exactly these codes.");
  flags->Add("learn_scales", &weights_.learn_scales, "",
             "With a --scheme of integers: trains its scales, too.");
  flags->Add("lora_rank", &weights_.lora_rank, "R",
             "Trains adapters of this rank only, and adds them to the weights "
             "that are written; 0 trains all weights.");
  flags->Add("lora_alpha", &weights_.lora_alpha, "X",
             "Their factor is this divided by the rank.");
  flags->AddChoice("dtype", &dtype_, {"bf16", "f16", "f32"},
                   "Type of the weights that are written.");
  flags->BeginSection("Long runs");
  flags->Add("eval_every", &run_.eval_every, "N",
             "Steps between measurements of --text.");
  flags->Add("eval_tokens", &held_out_tokens_, "N",
             "Tokens of --text that are measured, at most.");
  flags->Add("save_every", &run_.save_every, "N",
             "Steps between states that --resume goes on from.");
  flags->Add("metrics", &run_.metrics, "FILE", "Writes a JSON object a step.");
  flags->Add("seed", &seed_, "N", "Of all that is random.");
  flags->Add("resume", &resume_, "",
             "Goes on with what an interrupted run left in OUTPUT.partial.");
  flags->Add("restart", &restart_, "", "Discards it and begins anew.");
}

absl::StatusOr<TrainingOptions> TrainingFlags::Options() const {
  if (data_.empty()) return UsageError("--data=FILE is required");
  if (resume_ && restart_) {
    return UsageError("--resume and --restart exclude each other");
  }
  for (const auto& flag : {std::make_pair("steps", run_.steps),
                           std::make_pair("save_every", run_.save_every),
                           std::make_pair("eval_every", run_.eval_every),
                           std::make_pair("eval_tokens", held_out_tokens_)}) {
    if (flag.second < 1) {
      return UsageError(absl::StrCat(
          "--", flag.first, ": expected at least 1, found ", flag.second));
    }
  }
  if (weights_.lora_rank < 0) {
    return UsageError("--lora_rank: expected at least 0");
  }
  TrainingOptions options;
  options.step = step_;
  options.run = run_;
  options.weights = weights_;
  options.weights.seed = seed_;
  options.seed = seed_;
  options.held_out_tokens = held_out_tokens_;
  options.distill.seed = seed_;
  // AddChoice has checked these names.
  QEFF_ASSIGN_OR_RETURN(options.step.schedule.kind,
                        ParseScheduleKind(schedule_));
  QEFF_ASSIGN_OR_RETURN(options.step.optimizer.kind,
                        ParseOptimizerKind(optimizer_));
  if (!scheme_.empty()) {
    const auto scheme = ParseQuantScheme(scheme_);
    if (!scheme.ok()) return FlagError("scheme", scheme.status());
    options.weights.scheme = *scheme;
  }
  options.dtype = dtype_ == "f32"   ? DType::kF32
                  : dtype_ == "f16" ? DType::kF16
                                    : DType::kBF16;
  options.unfinished = resume_    ? PartialWork::kResume
                       : restart_ ? PartialWork::kRestart
                                  : PartialWork::kRefuse;
  return options;
}

absl::StatusOr<Json> TrainingFlags::Run(Student student,
                                        const TeacherModel& teacher,
                                        const Tokenizer& tokenizer,
                                        TrainingOptions options,
                                        const InterruptScope& interrupt,
                                        const CommandEnv& env) const {
  TrainingText text;
  text.data = data_;
  text.held_out = text_;
  text.tokenizer = &tokenizer;
  // AddChoice has checked the name.
  QEFF_ASSIGN_OR_RETURN(text.tokenize.documents, ParseDocumentKind(documents_));
  QEFF_ASSIGN_OR_RETURN(text.tokenize.bos, LeadingToken(tokenizer));
  text.tokenize.eos = tokenizer.eos_id();
  text.tokenize.check = [&] { return interrupt.Check(); };
  options.run.check = [&] { return interrupt.Check(); };
  Reporter reporter(options.run.steps, env.out);
  if (IsFirst(env.reducer)) {
    options.run.progress = [&](const StepProgress& progress) {
      reporter.Step(progress);
    };
  }
  std::fprintf(env.out,
               "%lld parameters, %lld steps of %lld sequences of "
               "%lld tokens\n",
               static_cast<long long>(CountElems(student.weights)),
               static_cast<long long>(options.run.steps),
               static_cast<long long>(options.step.batch_size),
               static_cast<long long>(options.step.sequence_length));
  std::fflush(env.out);
  QEFF_ASSIGN_OR_RETURN(const TrainingResult result,
                        TrainModel(std::move(student), teacher, text, output_,
                                   options, env.reducer, env.pool));
  reporter.End();
  std::fprintf(env.out, "wrote %s\n", output_.c_str());
  if (result.was_complete) return Json{{"output", output_}};
  Json json = {{"output", output_},
               {"parameters", result.parameters},
               {"trained_parameters", result.trained},
               {"data_tokens", result.text_tokens},
               {"first_step", result.run.first_step},
               {"steps", options.run.steps},
               {"skipped_steps", result.run.skipped},
               {"loss", result.run.loss}};
  if (!text_.empty()) {
    json["held_out_loss_before"] = result.run.held_out_before;
    json["held_out_loss"] = result.run.held_out_after;
  }
  return json;
}

absl::StatusOr<Json> ReadShape(const std::string& name) {
  const absl::StatusOr<Json> known = KnownShapeConfig(name);
  if (known.ok()) return known;
  struct stat info;
  if (stat(name.c_str(), &info) != 0) {
    return UsageError(
        absl::StrCat(name, ": expected a folder, a config.json or one of ",
                     absl::StrJoin(KnownShapeNames(), ", ")));
  }
  const std::string path = S_ISDIR(info.st_mode) ? name + "/config.json" : name;
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(path, kMaxConfigBytes));
  return ParseJson(text, path);
}

absl::StatusOr<Student> NewStudentWithTokenizer(
    const Json& shape, const std::string& context,
    const std::string& tokenizer_folder, const Tokenizer& tokenizer,
    uint64_t seed) {
  if (!shape.is_object()) {
    return InvalidInputError(context, ": expected an object");
  }
  Json config = shape;
  for (const char* key :
       {"quantization_config", "compression_config", "sparsity"}) {
    config.erase(key);
  }
  config["vocab_size"] = tokenizer.vocab_size();
  const auto set = [&](const char* key, absl::optional<int32_t> id) {
    if (id.has_value()) {
      config[key] = *id;
    } else {
      config.erase(key);
    }
  };
  set("bos_token_id", tokenizer.bos_id());
  set("eos_token_id", tokenizer.eos_id());
  QEFF_ASSIGN_OR_RETURN(Student student, NewStudent(config, context, seed));
  for (const char* name : kTokenizerFiles) {
    const std::string path = absl::StrCat(tokenizer_folder, "/", name);
    struct stat info;
    if (stat(path.c_str(), &info) != 0) continue;
    QEFF_ASSIGN_OR_RETURN(std::string content,
                          ReadFileToString(path, kMaxTokenizerBytes));
    student.files.push_back({name, std::move(content)});
  }
  return student;
}

}  // namespace qeff
