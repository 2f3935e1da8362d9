// SPDX-License-Identifier: Apache-2.0

#include "tools/flags.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "qeff/util/nearest_name.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kUsagePayload[] = "qeff.tools/usage_error";

}  // namespace

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) {
  return status.GetPayload(kUsagePayload).has_value();
}

void FlagTable::AddRequired(absl::string_view name, std::string* value,
                            absl::string_view placeholder,
                            absl::string_view help) {
  Add(name, value, placeholder, help);
  flags_.back().required = true;
}

void FlagTable::AddChoice(absl::string_view name, std::string* value,
                          std::vector<std::string> choices,
                          absl::string_view help) {
  Add(name, value, absl::StrJoin(choices, "|"), help);
  flags_.back().parse = [value, choices](absl::string_view text,
                                         std::string* error) {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      *error = absl::StrCat("expected one of ", absl::StrJoin(choices, ", "));
      return false;
    }
    *value = std::string(text);
    return true;
  };
}

void FlagTable::AddRepeated(absl::string_view name,
                            std::vector<std::string>* values,
                            absl::string_view placeholder,
                            absl::string_view help) {
  Flag flag;
  flag.name = std::string(name);
  flag.placeholder = std::string(placeholder);
  flag.help = std::string(help);
  flag.repeated = values;
  flags_.push_back(std::move(flag));
}

FlagTable::Flag* FlagTable::Find(absl::string_view name) {
  for (Flag& flag : flags_) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

absl::Status FlagTable::Set(Flag* flag, absl::string_view value) {
  if (flag->repeated != nullptr) {
    flag->given = true;
    flag->repeated->emplace_back(value);
    return absl::OkStatus();
  }
  if (flag->given) {
    return UsageError(absl::StrCat("--", flag->name, " is given twice"));
  }
  flag->given = true;
  flag->given_empty = value.empty();
  std::string error;
  if (flag->parse(value, &error)) return absl::OkStatus();
  return UsageError(absl::StrCat("--", flag->name, ": cannot use '", value, "'",
                                 error.empty() ? "" : ": ", error));
}

absl::Status FlagTable::Parse(absl::Span<const std::string> arguments) {
  for (Flag& flag : flags_) {
    flag.given = false;
    if (flag.repeated != nullptr) flag.repeated->clear();
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (argument.substr(0, 2) != "--" || argument.size() == 2) {
      return UsageError(absl::StrCat("unexpected argument '", argument, "'"));
    }
    argument.remove_prefix(2);
    const size_t equals = argument.find('=');
    const absl::string_view name = argument.substr(0, equals);
    Flag* flag = Find(name);
    if (flag == nullptr && equals == absl::string_view::npos &&
        name.substr(0, 2) == "no") {
      Flag* negated = Find(name.substr(2));
      if (negated != nullptr && negated->is_bool) {
        QEFF_RETURN_IF_ERROR(Set(negated, "false"));
        continue;
      }
    }
    if (flag == nullptr) {
      std::vector<std::string> names;
      for (const Flag& known : flags_) names.push_back(known.name);
      return UsageError(
          absl::StrCat("unknown flag --", name, DidYouMean(name, names, "--")));
    }
    if (equals != absl::string_view::npos) {
      QEFF_RETURN_IF_ERROR(Set(flag, argument.substr(equals + 1)));
    } else if (flag->is_bool) {
      QEFF_RETURN_IF_ERROR(Set(flag, "true"));
    } else if (i + 1 < arguments.size()) {
      QEFF_RETURN_IF_ERROR(Set(flag, arguments[++i]));
    } else {
      return UsageError(absl::StrCat("--", name, " needs a value"));
    }
  }
  for (const Flag& flag : flags_) {
    if (flag.required && !flag.given) {
      return UsageError(
          absl::StrCat("--", flag.name, "=", flag.placeholder, " is required"));
    }
    const bool is_path =
        flag.placeholder == "DIR" || flag.placeholder == "FILE";
    if (is_path && flag.given && flag.given_empty) {
      return UsageError(
          absl::StrCat("--", flag.name, ": expected a ",
                       flag.placeholder == "DIR" ? "folder" : "file",
                       ", found an empty name"));
    }
  }
  return absl::OkStatus();
}

bool FlagTable::WasGiven(absl::string_view name) const {
  for (const Flag& flag : flags_) {
    if (flag.name == name) return flag.given;
  }
  return false;
}

std::string FlagTable::Help() const {
  std::string help;
  for (const Flag& flag : flags_) {
    absl::StrAppend(&help, "  --", flag.name,
                    flag.is_bool ? "" : absl::StrCat("=", flag.placeholder),
                    "\n");
    std::string text = flag.help;
    if (flag.required) {
      absl::StrAppend(&text, " Required.");
    } else {
      absl::StrAppend(&text, " Default: ",
                      flag.default_text.empty() ? "none" : flag.default_text,
                      ".");
    }
    absl::StrAppend(&help, WrapText(text, 6));
  }
  return help;
}

std::string WrapText(absl::string_view text, int indent, int width) {
  const std::string margin(static_cast<size_t>(indent), ' ');
  std::string wrapped;
  std::string line;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!line.empty() && margin.size() + line.size() + 1 + word.size() >
                             static_cast<size_t>(width)) {
      absl::StrAppend(&wrapped, margin, line, "\n");
      line.clear();
    }
    absl::StrAppend(&line, line.empty() ? "" : " ", word);
  }
  if (!line.empty()) absl::StrAppend(&wrapped, margin, line, "\n");
  return wrapped;
}

}  // namespace qeff
