// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/recipe.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <set>
#include <utility>

#include "absl/flags/marshalling.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/pipeline/format_holds.h"
#include "qeff/quant/budget.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

namespace pb = google::protobuf;

using pipeline::Recipe;
using pipeline::Step;

struct Command {
  Step::WhatCase what;
  StepKind kind;
  const char* name;
};

constexpr Command kCommands[] = {
    {Step::kPrune, StepKind::kPrune, "prune"},
    {Step::kDistill, StepKind::kDistill, "distill"},
    {Step::kQuantize, StepKind::kQuantize, "quantize"},
    {Step::kEvaluate, StepKind::kEvaluate, "eval"},
    {Step::kExport, StepKind::kExport, "export"},
    {Step::kCompile, StepKind::kCompile, "compile"},
};

const Command* FindCommand(const Step& step) {
  for (const Command& command : kCommands) {
    if (command.what == step.what_case()) return &command;
  }
  return nullptr;
}

// The first error of the parser, with its place.
class FirstError : public pb::io::ErrorCollector {
 public:
  void AddError(int line, pb::io::ColumnNumber,
                const std::string& message) override {
    if (!message_.empty()) return;
    line_ = line + 1;
    message_ = message;
  }
  int line() const { return line_; }
  const std::string& message() const { return message_; }

 private:
  int line_ = 0;
  std::string message_;
};

std::string ValueText(const pb::Message& message,
                      const pb::FieldDescriptor& field) {
  const pb::Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field);
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(message, &field));
    case pb::FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection.GetUInt64(message, &field));
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::UnparseFlag(reflection.GetDouble(message, &field));
    default:  // bool: the only other type of recipe.proto
      return reflection.GetBool(message, &field) ? "true" : "false";
  }
}

RecipeStep StepOf(const Step& step, const Command& command) {
  RecipeStep result;
  result.kind = command.kind;
  result.command = command.name;
  const pb::FieldDescriptor* what =
      step.GetReflection()->GetOneofFieldDescriptor(
          step, step.GetDescriptor()->oneof_decl(0));
  const pb::Message& options = step.GetReflection()->GetMessage(step, what);
  std::vector<const pb::FieldDescriptor*> fields;
  options.GetReflection()->ListFields(options, &fields);
  for (const pb::FieldDescriptor* field : fields) {
    result.flags.push_back(
        absl::StrCat("--", field->name(), "=", ValueText(options, *field)));
  }
  return result;
}

// Follows what the model is from step to step.
class Checker {
 public:
  explicit Checker(const RecipeTexts& texts) : texts_(texts) {}

  absl::Status Check(const RecipeStep& step) {
    if (step.TakesCalibration()) {
      QEFF_RETURN_IF_ERROR(
          Need(texts_.calibration, step.command.c_str(), "calibration"));
    }
    switch (step.kind) {
      case StepKind::kPrune:
        return Prune(step);
      case StepKind::kDistill:
        return Distill(step);
      case StepKind::kQuantize:
        return Quantize(step);
      case StepKind::kEvaluate:
        return Need(texts_.text, "evaluate", "text");
      case StepKind::kExport:
        return Export(step);
      case StepKind::kCompile:
        return absl::OkStatus();
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status Need(bool there, const char* step, const char* flag) {
    if (there) return absl::OkStatus();
    return InvalidInputError(step, " needs --", flag);
  }

  absl::Status StillFloats(const char* step) const {
    if (scheme_.empty()) return absl::OkStatus();
    return InvalidInputError(step, ": the model is ", scheme_, " since line ",
                             quantized_line_, "; ", step, " comes before that");
  }

  absl::Status SetScheme(const std::string& scheme, int line) {
    QEFF_ASSIGN_OR_RETURN(const QuantScheme parsed, ParseQuantScheme(scheme));
    // What is taught keeps its zero points.
    if (scheme != scheme_) schemes_ = {parsed};
    scheme_ = scheme;
    quantized_line_ = line;
    return absl::OkStatus();
  }

  absl::Status Prune(const RecipeStep& step) {
    QEFF_RETURN_IF_ERROR(StillFloats("prune"));
    changed_ = true;
    const std::string scheme = step.Flag("scheme");
    return scheme.empty() ? absl::OkStatus() : SetScheme(scheme, step.line);
  }

  absl::Status Distill(const RecipeStep& step) {
    QEFF_RETURN_IF_ERROR(Need(texts_.data, "distill", "data"));
    if (!step.Flag("student_init").empty() && changed_) {
      return InvalidInputError(
          "distill: student_init begins with the teacher, and steps before "
          "have made another model");
    }
    changed_ = true;
    const std::string scheme = step.Flag("scheme");
    if (scheme.empty()) return StillFloats("distill without a scheme");
    if (!scheme_.empty() && scheme != scheme_) {
      return InvalidInputError("distill: scheme is ", scheme,
                               ", and the model is ", scheme_, " since line ",
                               quantized_line_);
    }
    return SetScheme(scheme, step.line);
  }

  absl::Status Quantize(const RecipeStep& step) {
    QEFF_RETURN_IF_ERROR(StillFloats("quantize"));
    changed_ = true;
    const std::string scheme = step.Flag("scheme");
    const std::string budget = step.Flag("budget");
    // What is no scheme is said by the command's own check.
    const auto lm_head = ParseQuantScheme(step.Flag("lm_head"));
    if (lm_head.ok()) lm_head_ = *lm_head;
    const bool asymmetric = step.Flag("asymmetric") == "true";
    if (!budget.empty()) {
      const std::string list = scheme.empty() ? kBudgetSchemes : scheme;
      for (const absl::string_view part :
           absl::StrSplit(list, ',', absl::SkipEmpty())) {
        QEFF_ASSIGN_OR_RETURN(const QuantScheme parsed, ParseQuantScheme(part));
        schemes_.push_back(parsed);
        schemes_.back().symmetric = !asymmetric;
      }
      scheme_ = "of several schemes";
      quantized_line_ = step.line;
      return absl::OkStatus();
    }
    if (scheme.empty()) {
      return InvalidInputError("quantize: needs a scheme or a budget");
    }
    QEFF_RETURN_IF_ERROR(SetScheme(scheme, step.line));
    if (asymmetric) schemes_[0].symmetric = false;
    return absl::OkStatus();
  }

  absl::Status Export(const RecipeStep& step) const {
    const std::string format = step.Flag("format");
    if (format.empty()) return InvalidInputError("export: needs a format");
    if (scheme_.empty()) {
      if (format != "gptq" && format != "gptq_v2" && format != "awq") {
        return absl::OkStatus();
      }
      return InvalidInputError("export: ", format,
                               " holds quantized layers, and the model is not");
    }
    std::vector<QuantScheme> schemes = schemes_;
    // Others have floats there, if they must.
    if (format == "gguf" && lm_head_.has_value()) schemes.push_back(*lm_head_);
    const std::string why = WhyFormatCannotHold(format, schemes);
    if (why.empty()) return absl::OkStatus();
    return InvalidInputError("export: ", format, " ", why,
                             " (the model's schemes since line ",
                             quantized_line_, ")");
  }

  const RecipeTexts texts_;
  std::string scheme_;                // of the model so far; "": floats
  std::vector<QuantScheme> schemes_;  // any mix of these
  absl::optional<QuantScheme> lm_head_;
  int quantized_line_ = 0;
  bool changed_ = false;
};

}  // namespace

bool RecipeStep::TakesCalibration() const {
  switch (kind) {
    case StepKind::kPrune:
      return Flag("method") != "magnitude" || Flag("allocation") == "owl" ||
             Flag("allocation") == "budget";
    case StepKind::kQuantize: {
      const std::string algorithm = Flag("algorithm");
      const bool rounds = algorithm.empty() || algorithm == "rtn" ||
                          algorithm == "mse" || algorithm == "rotate,rtn" ||
                          algorithm == "rotate,mse";
      return !rounds || !Flag("budget").empty() ||
             Flag("scheme") == "w8a8_static";
    }
    case StepKind::kCompile:
      return Flag("kv_cache") == "int8";
    default:
      return false;
  }
}

std::string RecipeStep::Flag(absl::string_view name) const {
  const std::string begin = absl::StrCat("--", name, "=");
  for (const std::string& flag : flags) {
    if (absl::StartsWith(flag, begin)) return flag.substr(begin.size());
  }
  return "";
}

absl::StatusOr<std::vector<RecipeStep>> ParseRecipe(absl::string_view text,
                                                    const std::string& path,
                                                    const RecipeTexts& texts) {
  Recipe recipe;
  FirstError error;
  pb::TextFormat::ParseInfoTree places;
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&places);
  if (!parser.ParseFromString(std::string(text), &recipe)) {
    return InvalidInputError(path, ":", error.line(), ": ", error.message());
  }
  if (recipe.step_size() == 0) {
    return InvalidInputError(path, ": a recipe without steps");
  }
  const pb::FieldDescriptor* steps =
      Recipe::descriptor()->FindFieldByName("step");
  std::vector<RecipeStep> result;
  Checker checker(texts);
  for (int i = 0; i < recipe.step_size(); ++i) {
    const int line = places.GetLocation(steps, i).line + 1;
    const Command* const command = FindCommand(recipe.step(i));
    if (command == nullptr) {
      return InvalidInputError(path, ":", line, ": a step without content");
    }
    result.push_back(StepOf(recipe.step(i), *command));
    result.back().line = line;
    QEFF_RETURN_IF_ERROR(checker.Check(result.back()),
                         absl::StrCat(path, ":", line));
  }
  return result;
}

std::vector<RecipeStep> StepsOf(const Recipe& recipe) {
  std::vector<RecipeStep> steps;
  for (const Step& step : recipe.step()) {
    if (const Command* command = FindCommand(step)) {
      steps.push_back(StepOf(step, *command));
    }
  }
  return steps;
}

std::string RecipeText(const Recipe& recipe) {
  std::string text;
  pb::TextFormat::PrintToString(recipe, &text);
  return text;
}

}  // namespace qeff
