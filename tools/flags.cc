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

FlagInfo FlagTable::Describe(absl::string_view name,
                             absl::string_view placeholder,
                             absl::string_view help) const {
  FlagInfo info;
  info.name = std::string(name);
  info.section = section_;
  info.placeholder = std::string(placeholder);
  info.help = std::string(help);
  return info;
}

void FlagTable::AddRequired(absl::string_view name, std::string* value,
                            absl::string_view placeholder,
                            absl::string_view help) {
  Add(name, value, placeholder, help);
  flags_.back().info.required = true;
}

void FlagTable::AddChoice(absl::string_view name, std::string* value,
                          std::vector<std::string> choices,
                          absl::string_view help) {
  Add(name, value, absl::StrJoin(choices, "|"), help);
  flags_.back().info.choices = choices;
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
  flag.info = Describe(name, placeholder, help);
  flag.repeated = values;
  flags_.push_back(std::move(flag));
}

FlagTable::Flag* FlagTable::Find(absl::string_view name) {
  for (Flag& flag : flags_) {
    if (flag.info.name == name) return &flag;
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
    return UsageError(absl::StrCat("--", flag->info.name, " is given twice"));
  }
  flag->given = true;
  flag->given_empty = value.empty();
  std::string error;
  if (flag->parse(value, &error)) return absl::OkStatus();
  return UsageError(absl::StrCat("--", flag->info.name, ": cannot use '", value,
                                 "'", error.empty() ? "" : ": ", error));
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
      if (negated != nullptr && negated->info.is_bool) {
        QEFF_RETURN_IF_ERROR(Set(negated, "false"));
        continue;
      }
    }
    if (flag == nullptr) {
      std::vector<std::string> names;
      for (const Flag& known : flags_) names.push_back(known.info.name);
      return UsageError(
          absl::StrCat("unknown flag --", name, DidYouMean(name, names, "--")));
    }
    if (equals != absl::string_view::npos) {
      QEFF_RETURN_IF_ERROR(Set(flag, argument.substr(equals + 1)));
    } else if (flag->info.is_bool) {
      QEFF_RETURN_IF_ERROR(Set(flag, "true"));
    } else if (i + 1 < arguments.size()) {
      QEFF_RETURN_IF_ERROR(Set(flag, arguments[++i]));
    } else {
      return UsageError(absl::StrCat("--", name, " needs a value"));
    }
  }
  for (const Flag& flag : flags_) {
    if (flag.info.required && !flag.given) {
      return UsageError(absl::StrCat("--", flag.info.name, "=",
                                     flag.info.placeholder, " is required"));
    }
    const bool is_path =
        flag.info.placeholder == "DIR" || flag.info.placeholder == "FILE";
    if (is_path && flag.given && flag.given_empty) {
      return UsageError(
          absl::StrCat("--", flag.info.name, ": expected a ",
                       flag.info.placeholder == "DIR" ? "folder" : "file",
                       ", found an empty name"));
    }
  }
  return absl::OkStatus();
}

bool FlagTable::WasGiven(absl::string_view name) const {
  for (const Flag& flag : flags_) {
    if (flag.info.name == name) return flag.given;
  }
  return false;
}

std::string FlagTable::Help() const {
  constexpr char kRequired[] = "Required";
  std::vector<std::string> titles = {kRequired};
  std::vector<std::string> texts(1);
  for (const Flag& flag : flags_) {
    const FlagInfo& info = flag.info;
    const std::string title = info.required ? kRequired : info.section;
    const auto found = std::find(titles.begin(), titles.end(), title);
    const size_t i = static_cast<size_t>(found - titles.begin());
    if (found == titles.end()) {
      titles.push_back(title);
      texts.emplace_back();
    }
    absl::StrAppend(&texts[i], "  --", info.name,
                    info.is_bool ? "" : absl::StrCat("=", info.placeholder),
                    "\n");
    const std::string value =
        info.default_text.empty() ? std::string("none") : info.default_text;
    absl::StrAppend(
        &texts[i],
        WrapText(info.required
                     ? info.help
                     : absl::StrCat(info.help, " Default: ", value, "."),
                 6));
  }
  std::string help;
  for (size_t i = 0; i < titles.size(); ++i) {
    if (texts[i].empty()) continue;
    absl::StrAppend(&help, help.empty() ? "" : "\n", titles[i], ":\n",
                    texts[i]);
  }
  return help;
}

std::vector<FlagInfo> FlagTable::List() const {
  std::vector<FlagInfo> list;
  for (const Flag& flag : flags_) list.push_back(flag.info);
  return list;
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
