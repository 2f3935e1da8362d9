// SPDX-License-Identifier: Apache-2.0

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/distill/distill_objective.h"
#include "qeff/distill/loss_spec.h"
#include "qeff/distill/teacher.h"
#include "qeff/distill/teacher_cache.h"
#include "qeff/distill/training.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/prune/structured/prune_structured.h"
#include "qeff/tokenizer/same_tokens.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/train/agreement.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/text_tokens.h"
#include "tools/commands/training_flags.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

// Packed weights of the teacher that are kept.
constexpr uint64_t kTeacherBytes = uint64_t{4} << 30;

// "prune:layers=4,ffn_size=512".
absl::StatusOr<StructuredOptions> ParsePruning(const std::string& text) {
  constexpr char kPrefix[] = "prune:";
  if (text.compare(0, sizeof(kPrefix) - 1, kPrefix) != 0) {
    return UsageError(absl::StrCat(
        "--student_init: expected prune:NAME=N,..., found ", text));
  }
  StructuredOptions options;
  for (const absl::string_view part :
       absl::StrSplit(text.substr(sizeof(kPrefix) - 1), ',')) {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (pair.first == "parameters") {
      if (absl::SimpleAtod(pair.second, &options.parameters)) continue;
    }
    int64_t* const size = pair.first == "layers"     ? &options.sizes.layers
                          : pair.first == "heads"    ? &options.sizes.heads
                          : pair.first == "ffn_size" ? &options.sizes.ffn_size
                          : pair.first == "hidden_size"
                              ? &options.sizes.hidden_size
                              : nullptr;
    if (size == nullptr || !absl::SimpleAtoi(pair.second, size)) {
      return UsageError(absl::StrCat(
          "--student_init: expected layers=N, heads=N, ffn_size=N, "
          "hidden_size=N or parameters=SHARE, found ",
          std::string(part)));
    }
  }
  return options;
}

// "0:1,2:5": layers of the student, and of the teacher.
absl::StatusOr<std::vector<LayerPair>> ParseLayers(const std::string& text) {
  std::vector<LayerPair> pairs;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(part, absl::MaxSplits(':', 1));
    LayerPair layers;
    if (!absl::SimpleAtoi(pair.first, &layers.student) ||
        !absl::SimpleAtoi(pair.second, &layers.teacher)) {
      return UsageError(absl::StrCat(
          "--layers: expected STUDENT:TEACHER,..., found ", std::string(part)));
    }
    pairs.push_back(layers);
  }
  return pairs;
}

class DistillCommand : public Command {
 public:
  absl::string_view name() const override { return "distill"; }
  absl::string_view summary() const override {
    return "Trains a small model towards a large one.";
  }
  absl::string_view description() const override {
    return "The student learns from text what the teacher says of it: its "
           "distribution of the next token (kl, reverse_kl, js), its hidden "
           "states (hidden, hidden_mse), its attention (attention), beside "
           "the text itself (ce). --loss weighs them: \"kl:1,ce:0.1\".\n\n"
           "A student is a model folder, a new one in a shape, or what "
           "structured pruning leaves of the teacher "
           "(--student_init=prune:layers=4,ffn_size=512). Zeros of a pruned "
           "student stay where they are a mask. With --scheme it is trained "
           "as it will be quantized.\n\n"
           "Both need the same tokens. Runs are resumed as those of train.";
  }
  absl::string_view examples() const override {
    return "distill --teacher=llama --student_init=prune:layers=4 "
           "--data=book.txt --loss=kl:1,ce:0.1 --output=student\n"
           "distill --teacher=llama --student=sparse --data=book.txt "
           "--scheme=int4_g32 --output=small\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("teacher", &teacher_, "DIR", "The teacher's folder.");
    flags->Add("teacher_cache", &cache_, "DIR",
               "What teacher_cache wrote of this teacher and --data: the "
               "teacher does not run.");
    flags->Add("student", &student_, "DIR",
               "The student: a model's folder, or the shape of a new one: a "
               "config.json or a shape of synth.");
    flags->Add("student_init", &student_init_, "prune:SIZES",
               "Instead: the teacher with fewer layers, heads, ffn_size, "
               "hidden_size, or parameters=SHARE.");
    flags->Add("loss", &loss_, "LOSSES",
               "NAME:WEIGHT,... of kl, reverse_kl, js, ce, hidden, "
               "hidden_mse, attention.");
    flags->Add("temperature", &temperature_, "T", "Of kl, reverse_kl and js.");
    flags->Add("layers", &layers_, "PAIRS",
               "STUDENT:TEACHER,... for losses of hidden states and "
               "attention; by default each layer of the student, with those "
               "at the same share of the teacher's depth.");
    flags->Add("on_policy", &on_policy_, "SHARE",
               "Share of the steps, in [0, 1], whose text the student writes: "
               "it continues beginnings of the data, and the teacher says what "
               "it thinks of that.");
    training_.Declare(flags);
  }
  absl::Status Check(const FlagTable& flags) override {
    if (flags.WasGiven("student") == flags.WasGiven("student_init")) {
      return UsageError(
          "expected either --student=DIR or --student_init=prune:SIZES");
    }
    if (!student_init_.empty()) {
      QEFF_RETURN_IF_ERROR(ParsePruning(student_init_).status());
    }
    QEFF_ASSIGN_OR_RETURN(const TrainingOptions options, Options());
    const LossSpec& loss = options.distill.loss;
    if (!layers_.empty()) {
      QEFF_RETURN_IF_ERROR(ParseLayers(layers_).status());
      if (!TapsLayers(loss)) {
        return UsageError(
            "--layers belongs to hidden, hidden_mse and attention");
      }
    }
    return CheckCache(loss);
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(TrainingOptions options, Options());
    const LossSpec& loss = options.distill.loss;
    QEFF_ASSIGN_OR_RETURN(const auto model, LoadTransformer(teacher_));
    QEFF_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(*model));
    // Of students much is asked, but not that they know anything yet.
    QEFF_RETURN_IF_ERROR(training_.CheckModel(model, *tokenizer, env));
    const InterruptScope interrupt;
    const auto check = [&]() -> absl::Status {
      if (env.reducer != nullptr && env.reducer->ToldStop()) {
        return absl::CancelledError("another process is to stop");
      }
      return interrupt.Check();
    };
    QEFF_ASSIGN_OR_RETURN(Student student,
                          MakeStudent(model, *tokenizer, check, env));
    if (TapsLayers(loss)) {
      if (layers_.empty()) {
        options.distill.layers = EvenLayerPairs(student.map.spec.num_layers,
                                                model->spec().num_layers);
      } else {
        QEFF_ASSIGN_OR_RETURN(options.distill.layers, ParseLayers(layers_));
      }
    }
    TeacherModel teacher;
    std::unique_ptr<Teacher> live;
    if (loss.teacher()) {
      QEFF_ASSIGN_OR_RETURN(teacher.fingerprint,
                            ModelFingerprint(model->checkpoint()));
      QEFF_ASSIGN_OR_RETURN(
          live, cache_.empty() ? MakeLiveTeacher(model, TapsOf(options.distill),
                                                 kTeacherBytes, env.pool, check)
                               : OpenTeacherCache(cache_, teacher.fingerprint));
      teacher.teacher = live.get();
      teacher.spec = &model->spec();
    }
    return training_.Run(std::move(student), teacher, *tokenizer,
                         std::move(options), interrupt, env);
  }

 private:
  // But for the pairs of layers.
  absl::StatusOr<TrainingOptions> Options() const {
    QEFF_ASSIGN_OR_RETURN(TrainingOptions options, training_.Options());
    const auto loss = ParseLossSpec(loss_);
    if (!loss.ok()) {
      return UsageError(absl::StrCat("--loss: ", loss.status().message()));
    }
    options.distill.loss = *loss;
    options.distill.temperature = temperature_;
    if (!(on_policy_ >= 0 && on_policy_ <= 1)) {
      return UsageError(absl::StrCat(
          "--on_policy: expected a share in [0, 1], found ", on_policy_));
    }
    if (on_policy_ > 0 && !loss->teacher()) {
      return UsageError("--on_policy needs a loss against the teacher");
    }
    options.on_policy = on_policy_;
    return options;
  }

  static bool TapsLayers(const LossSpec& loss) {
    return loss.hidden_cosine > 0 || loss.hidden_mse > 0 || loss.attention > 0;
  }

  // What a cache cannot say.
  absl::Status CheckCache(const LossSpec& loss) const {
    if (cache_.empty()) return absl::OkStatus();
    if (!loss.teacher() || TapsLayers(loss)) {
      return UsageError(
          "--teacher_cache belongs to kl, reverse_kl and js, and has no hidden "
          "states and no attention");
    }
    if (temperature_ != 1) {
      return UsageError("--teacher_cache needs --temperature=1");
    }
    if (on_policy_ > 0) {
      return UsageError(
          "--teacher_cache says nothing about text that the student writes: "
          "not with --on_policy");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Student> MakeStudent(
      const std::shared_ptr<const Transformer>& teacher,
      const Tokenizer& tokenizer, const std::function<absl::Status()>& check,
      const CommandEnv& env) const {
    if (!student_init_.empty()) {
      return PrunedStudent(teacher, tokenizer, check, env);
    }
    struct stat info;
    const bool folder =
        stat(student_.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    if (folder) {
      QEFF_ASSIGN_OR_RETURN(const auto model, LoadTransformer(student_));
      QEFF_ASSIGN_OR_RETURN(const auto own, LoadTokenizer(*model));
      QEFF_RETURN_IF_ERROR(CheckSameTokens(tokenizer, *own), "student");
      return StudentOf(*model);
    }
    QEFF_ASSIGN_OR_RETURN(const Json shape, ReadShape(student_));
    return NewStudentWithTokenizer(shape, student_, teacher_, tokenizer,
                                   training_.seed());
  }

  // What pruning leaves of the teacher, by the beginning of the text. It lies
  // in a folder beside the output for a moment, one for each process.
  absl::StatusOr<Student> PrunedStudent(
      const std::shared_ptr<const Transformer>& teacher,
      const Tokenizer& tokenizer, const std::function<absl::Status()>& check,
      const CommandEnv& env) const {
    QEFF_ASSIGN_OR_RETURN(StructuredOptions options,
                          ParsePruning(student_init_));
    options.check = check;
    SampleOptions sample_options;
    sample_options.sequence_length =
        std::min<int64_t>(teacher->spec().max_positions, 512);
    sample_options.seed = training_.seed();
    QEFF_ASSIGN_OR_RETURN(
        const TokenSample sample,
        SampleTextTokens(training_.data().front(), tokenizer, sample_options));
    std::string folder = training_.output() + ".student";
    if (!IsFirst(env.reducer)) absl::StrAppend(&folder, env.reducer->rank());
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    absl::StatusOr<Student> student =
        PruneInto(folder, teacher, sample, options, env.pool);
    std::filesystem::remove_all(folder, ignored);
    return student;
  }

  static absl::StatusOr<Student> PruneInto(
      const std::string& folder,
      const std::shared_ptr<const Transformer>& teacher,
      const TokenSample& sample, const StructuredOptions& options,
      ThreadPool* pool) {
    QEFF_RETURN_IF_ERROR(
        PruneStructured(teacher, sample, folder, options, *pool).status(),
        "--student_init");
    QEFF_ASSIGN_OR_RETURN(const auto model, LoadTransformer(folder));
    return StudentOf(*model);
  }

  std::string teacher_;
  std::string cache_;
  std::string student_;
  std::string student_init_;
  std::string loss_ = "kl:1";
  double temperature_ = 1;
  std::string layers_;
  double on_policy_ = 0;
  TrainingFlags training_;
};

}  // namespace

std::unique_ptr<Command> MakeDistillCommand() {
  return std::make_unique<DistillCommand>();
}

}  // namespace qeff
