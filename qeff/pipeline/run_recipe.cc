// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/run_recipe.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/util/peak_memory.h"
#include "qeff/transformer/count_parameters.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/checksum.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/sha256.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

namespace fs = std::filesystem;

constexpr char kResultFile[] = "result.json";
constexpr uint64_t kMaxResultBytes = uint64_t{256} << 20;

absl::Status FileError(const std::error_code& error, const std::string& path,
                       absl::string_view operation) {
  return OutputError(path, operation, error.value());
}

absl::StatusOr<std::string> FileFingerprint(const std::string& path) {
  if (path.empty()) return std::string("-");
  QEFF_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  return absl::StrCat(absl::Hex(Checksum64(file->bytes()), absl::kZeroPad16));
}

// What a step writes, within its folder; "" for nothing.
std::string OutputName(const RecipeStep& step) {
  switch (step.kind) {
    case StepKind::kPrune:
    case StepKind::kDistill:
    case StepKind::kQuantize:
      return "model";
    case StepKind::kEvaluate:
      return "";
    case StepKind::kExport: {
      const std::string format = step.Flag("format");
      if (format == "gguf") return "model.gguf";
      return format == "onnx" ? "onnx/model.onnx" : format;
    }
    case StepKind::kCompile:
      return absl::StartsWith(step.Flag("target"), "aic") ? "cloud_ai"
                                                          : "model.qpk";
  }
  return "";
}

uint64_t BytesOf(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    const auto size = fs::file_size(path, ignored);
    return ignored ? 0 : size;
  }
  uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path, ignored)) {
    if (entry.is_regular_file(ignored)) bytes += entry.file_size(ignored);
  }
  return bytes;
}

// Hashes of the inputs, and of steps from those before.
class Hasher {
 public:
  static absl::StatusOr<Hasher> Create(const RecipeInputs& inputs,
                                       const std::string& version) {
    Hasher hasher;
    hasher.version_ = version;
    QEFF_ASSIGN_OR_RETURN(const auto checkpoint,
                          Checkpoint::Open(inputs.model));
    QEFF_ASSIGN_OR_RETURN(hasher.input_, ModelContentFingerprint(*checkpoint));
    hasher.model_ = hasher.input_;
    QEFF_ASSIGN_OR_RETURN(hasher.calibration_,
                          FileFingerprint(inputs.calibration));
    QEFF_ASSIGN_OR_RETURN(hasher.text_, FileFingerprint(inputs.text));
    for (const std::string& path : inputs.data) {
      QEFF_ASSIGN_OR_RETURN(const std::string file, FileFingerprint(path));
      absl::StrAppend(&hasher.data_, file, " ");
    }
    return hasher;
  }

  // Of the next step, by what it reads.
  std::string Next(const RecipeStep& step) {
    std::string content =
        absl::StrCat("qeff ", version_, "\n", step.command, "\n",
                     absl::StrJoin(step.flags, "\n"), "\nmodel ", model_, "\n");
    switch (step.kind) {
      case StepKind::kPrune:
      case StepKind::kQuantize:
      case StepKind::kCompile:
        if (step.TakesCalibration()) {
          absl::StrAppend(&content, "calibration ", calibration_);
        }
        break;
      case StepKind::kDistill:
        absl::StrAppend(&content, "teacher ", input_, " data ", data_, " text ",
                        text_);
        break;
      case StepKind::kEvaluate:
        absl::StrAppend(&content, "reference ", input_, " text ", text_);
        break;
      case StepKind::kExport:
        break;
    }
    const std::string hash = Sha256Hex(content).substr(0, 16);
    if (step.changes_model()) model_ = hash;
    return hash;
  }

 private:
  std::string version_, input_, model_, calibration_, data_, text_;
};

// The arguments of a step besides the recipe's.
std::vector<std::string> PathFlags(const RecipeStep& step,
                                   const RecipeInputs& inputs,
                                   const std::string& model,
                                   const std::string& output) {
  std::vector<std::string> flags;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) flags.push_back(absl::StrCat("--", name, "=", value));
  };
  switch (step.kind) {
    case StepKind::kPrune:
    case StepKind::kQuantize:
    case StepKind::kCompile:
      add("model", model);
      if (step.TakesCalibration()) add("calibration", inputs.calibration);
      break;
    case StepKind::kDistill:
      add("teacher", inputs.model);
      if (step.Flag("student_init").empty()) add("student", model);
      for (const std::string& path : inputs.data) add("data", path);
      add("text", inputs.text);
      break;
    case StepKind::kEvaluate:
      add("model", model);
      add("reference", inputs.model);
      add("text", inputs.text);
      break;
    case StepKind::kExport:
      add("model", model);
      break;
  }
  add("output", output);
  return flags;
}

absl::Status Measure(StepReport* report, bool is_model) {
  if (report->output.empty()) return absl::OkStatus();
  if (!is_model) {
    report->bytes = BytesOf(report->output);
    return absl::OkStatus();
  }
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint,
                        Checkpoint::Open(report->output));
  QEFF_ASSIGN_OR_RETURN(const ModelMap map, MapModel(*checkpoint));
  report->bytes = checkpoint->weight_bytes();
  report->parameters = CountParameters(map);
  return absl::OkStatus();
}

// What says that a step is complete, and what it made: with a checksum, so that
// damage is noticed before anything in it is used.
Json RecordOf(const StepReport& report, uint64_t output_bytes) {
  Json record{{"result", report.result},
              {"seconds", report.seconds},
              {"peak_bytes", report.peak_bytes},
              {"output_bytes", output_bytes}};
  record["checksum"] = Sha256Hex(record.dump());
  return record;
}

// Whether `record`, read from a file, is what RecordOf made of an output of
// `output_bytes`.
bool IsRecordOf(Json record, uint64_t output_bytes) {
  if (!record.is_object()) return false;
  const auto checksum = record.find("checksum");
  if (checksum == record.end() || !checksum->is_string()) return false;
  const std::string stored = *checksum;
  record.erase("checksum");
  return stored == Sha256Hex(record.dump()) &&
         record["output_bytes"] == output_bytes;
}

// One process at a time.
absl::StatusOr<FileDescriptor> LockFolder(const std::string& folder) {
  FileDescriptor fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return OutputError(folder, "open", errno);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::UnavailableError(
        absl::StrCat(folder, ": another process works in it"));
  }
  return fd;
}

// A step in its folder.
class StepRun {
 public:
  StepRun(const RecipeStep& step, const RecipeInputs& inputs,
          const RecipeRunOptions& options, std::string folder)
      : step_(step),
        inputs_(inputs),
        options_(options),
        folder_(std::move(folder)) {}

  std::string output() const {
    const std::string name = OutputName(step_);
    return name.empty() ? "" : absl::StrCat(folder_, "/", name);
  }

  std::string metrics() const {
    return step_.kind == StepKind::kDistill
               ? absl::StrCat(folder_, "/metrics.jsonl")
               : "";
  }

  // The record of an earlier run whose output is all there; nullopt for one
  // that is unfinished or damaged.
  absl::optional<Json> Find() const {
    auto record =
        ReadJsonFile(absl::StrCat(folder_, "/", kResultFile), kMaxResultBytes);
    if (!record.ok() || !IsRecordOf(*record, OutputBytes())) {
      return absl::nullopt;
    }
    return *std::move(record);
  }

  // But for --resume.
  std::vector<std::string> Arguments(const std::string& model) const {
    std::vector<std::string> arguments = {step_.command};
    for (std::string& flag : PathFlags(step_, inputs_, model, output())) {
      arguments.push_back(std::move(flag));
    }
    const auto append = [&](const std::vector<std::string>& flags) {
      arguments.insert(arguments.end(), flags.begin(), flags.end());
    };
    append(step_.flags);
    append(options_.common_flags);
    if (!metrics().empty()) {
      arguments.push_back(absl::StrCat("--metrics=", metrics()));
    }
    return arguments;
  }

  absl::Status Run(const std::string& model, StepReport* report) {
    QEFF_RETURN_IF_ERROR(Prepare());
    std::vector<std::string> arguments = Arguments(model);
    if (resumes_) arguments.push_back("--resume");
    QEFF_RETURN_IF_ERROR(
        WriteFileAtomically(absl::StrCat(folder_, "/arguments.txt"),
                            absl::StrJoin(arguments, "\n") + "\n"));
    ResetPeakMemory();
    const absl::Time begin = absl::Now();
    QEFF_ASSIGN_OR_RETURN(report->result, options_.run(arguments));
    report->seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    report->peak_bytes = PeakMemoryBytes();
    return WriteFileAtomically(absl::StrCat(folder_, "/", kResultFile),
                               WriteJson(RecordOf(*report, OutputBytes())));
  }

 private:
  uint64_t OutputBytes() const {
    return output().empty() ? 0 : BytesOf(output());
  }

  // Makes the folder, or what is in it ready.
  absl::Status Prepare() {
    std::error_code error;
    const std::string partial = output() + ".partial";
    const bool unfinished = fs::exists(folder_, error);
    const bool has_partial = !output().empty() && fs::exists(partial, error);
    if (unfinished && options_.unfinished == PartialWork::kRefuse) {
      return absl::AlreadyExistsError(
          absl::StrCat(folder_,
                       ": an earlier run has left this step "
                       "unfinished; --resume goes on with it, "
                       "--restart begins it anew"));
    }
    // A model that is complete without a result: the run ended in between.
    const bool resume = has_partial &&
                        options_.unfinished == PartialWork::kResume &&
                        !fs::exists(output(), error);
    if (unfinished && !resume) {
      // First, so that what is left of it by a process that is killed while it
      // removes is not gone on with.
      if (has_partial) fs::rename(partial, folder_ + "/removed", error);
      if (!error) fs::remove_all(folder_, error);
      if (error) return FileError(error, folder_, "remove");
    }
    resumes_ = resume;
    const fs::path parent =
        output().empty() ? fs::path(folder_) : fs::path(output()).parent_path();
    fs::create_directories(parent, error);
    if (error) return FileError(error, parent.string(), "mkdir");
    return absl::OkStatus();
  }

  const RecipeStep& step_;
  const RecipeInputs& inputs_;
  const RecipeRunOptions& options_;
  const std::string folder_;
  bool resumes_ = false;
};

StepReport ReportOf(const RecipeStep& step, size_t number, std::string hash) {
  StepReport report;
  report.name =
      absl::StrCat(step.kind == StepKind::kEvaluate ? "evaluate" : step.command,
                   "_", number + 1);
  report.command = step.command;
  report.flags = step.flags;
  report.hash = std::move(hash);
  return report;
}

absl::Status Sync(const fs::path& path) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) {
    return OutputError(path.string(), "sync", errno);
  }
  return absl::OkStatus();
}

// Of a symbolic link what it points to is meant: a link to a link that is
// relative would lead elsewhere.
absl::Status LinkOrCopy(const fs::path& from, const fs::path& to) {
  if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW) ==
      0) {
    return absl::OkStatus();
  }
  std::error_code error;
  fs::copy_file(from, to, error);
  return error ? FileError(error, to.string(), "copy") : Sync(to);
}

absl::Status LinkTree(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (!fs::is_directory(from, error)) return LinkOrCopy(from, to);
  fs::create_directories(to, error);
  if (error) return FileError(error, to.string(), "mkdir");
  for (fs::directory_iterator it(from, error), end; !error && it != end;
       it.increment(error)) {
    QEFF_RETURN_IF_ERROR(LinkTree(it->path(), to / it->path().filename()));
  }
  return error ? FileError(error, from.string(), "read") : Sync(to);
}

}  // namespace

absl::StatusOr<std::vector<StepReport>> PlanRecipe(
    absl::Span<const RecipeStep> steps, const RecipeInputs& inputs,
    const RecipeRunOptions& options) {
  QEFF_ASSIGN_OR_RETURN(Hasher hasher, Hasher::Create(inputs, options.version));
  std::vector<StepReport> plan;
  for (const RecipeStep& step : steps) {
    plan.push_back(ReportOf(step, plan.size(), hasher.Next(step)));
    const StepRun run(step, inputs, options,
                      absl::StrCat(options.work, "/", plan.back().hash));
    plan.back().from_cache = run.Find().has_value();
    if (options.check) {
      const std::string where =
          step.line == 0 ? plan.back().name
                         : absl::StrCat(plan.back().name, " (line ", step.line,
                                        " of the recipe)");
      QEFF_RETURN_IF_ERROR(options.check(run.Arguments(inputs.model)), where);
    }
  }
  return plan;
}

absl::StatusOr<RecipeResult> RunRecipe(absl::Span<const RecipeStep> steps,
                                       const RecipeInputs& inputs,
                                       const RecipeRunOptions& options) {
  QEFF_ASSIGN_OR_RETURN(const std::vector<StepReport> plan,
                        PlanRecipe(steps, inputs, options));
  std::error_code error;
  fs::create_directories(options.work, error);
  if (error) return FileError(error, options.work, "mkdir");
  QEFF_ASSIGN_OR_RETURN(const FileDescriptor lock, LockFolder(options.work));

  RecipeResult result;
  result.model = inputs.model;
  for (size_t i = 0; i < steps.size(); ++i) {
    StepReport report = plan[i];
    StepRun run(steps[i], inputs, options,
                absl::StrCat(options.work, "/", report.hash));
    if (absl::optional<Json> found = run.Find()) {
      report.from_cache = true;
      report.result = (*found)["result"];
      report.seconds = (*found)["seconds"];
      report.peak_bytes = (*found)["peak_bytes"];
    } else {
      report.from_cache = false;
      if (options.on_begin) options.on_begin(report);
      QEFF_RETURN_IF_ERROR(run.Run(result.model, &report), report.name);
    }
    report.output = run.output();
    report.metrics = run.metrics();
    QEFF_RETURN_IF_ERROR(Measure(&report, steps[i].changes_model()),
                         report.name);
    if (steps[i].changes_model()) result.model = report.output;
    if (options.on_end) options.on_end(report);
    result.steps.push_back(std::move(report));
  }
  return result;
}

absl::Status CollectResult(const RecipeResult& result,
                           const std::map<std::string, std::string>& texts,
                           const std::string& output) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(output, error))) {
    return absl::AlreadyExistsError(absl::StrCat(output, ": exists"));
  }
  const std::string temporary = output + ".partial";
  fs::remove_all(temporary, error);
  if (error) return FileError(error, temporary, "remove");
  const auto fill = [&]() -> absl::Status {
    QEFF_RETURN_IF_ERROR(LinkTree(result.model, temporary + "/model"));
    for (const StepReport& step : result.steps) {
      if (step.output.empty() || step.parameters != 0) continue;
      const fs::path to = fs::path(temporary) / step.name;
      fs::create_directories(to, error);
      if (error) return FileError(error, to.string(), "mkdir");
      const fs::path from = step.output;
      // With what lies beside it: an ONNX file's data.
      const bool alone = fs::is_directory(from, error) ||
                         step.command != "export" ||
                         from.extension() != ".onnx";
      QEFF_RETURN_IF_ERROR(alone ? LinkTree(from, to / from.filename())
                                 : LinkTree(from.parent_path(), to));
    }
    for (const auto& [name, text] : texts) {
      QEFF_RETURN_IF_ERROR(
          WriteFileAtomically(absl::StrCat(temporary, "/", name), text));
    }
    QEFF_RETURN_IF_ERROR(Sync(temporary));
    fs::rename(temporary, output, error);
    if (error) return FileError(error, output, "rename");
    return Sync(fs::absolute(output).parent_path());
  };
  const absl::Status status = fill();
  if (!status.ok()) fs::remove_all(temporary, error);
  return status;
}

}  // namespace qeff
