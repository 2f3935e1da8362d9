// SPDX-License-Identifier: Apache-2.0
//
// Flags of one command. Unlike ABSL_FLAG they belong to a table, not to the
// binary, so that commands can use the same words and a typo is an error that
// names the nearest flag. Values are parsed and printed by absl::ParseFlag and
// absl::UnparseFlag.
//
//   int64_t steps = 100;
//   FlagTable flags;
//   flags.Add("steps", &steps, "Number of steps.");
//   RETURN_IF_ERROR(flags.Parse({"--steps=7"}));

#ifndef QEFF_TOOLS_FLAGS_H_
#define QEFF_TOOLS_FLAGS_H_

#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/flags/marshalling.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

// An error in how a command was called; the process exits with 2.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

// What help and completion say of a flag.
struct FlagInfo {
  std::string name;
  std::string section;
  std::string placeholder;
  std::string help;
  std::string default_text;
  std::vector<std::string> choices;  // none: any value that parses
  bool is_bool = false;
  bool required = false;
};

// The flags of one command, in the order of declaration. Not thread-safe.
class FlagTable {
 public:
  // Flags declared from here on stand under `title` in the help, beside those
  // of an earlier section of that title. At first it is "Flags".
  void BeginSection(absl::string_view title) { section_ = std::string(title); }

  // Declares --name, stored in *value, whose content now is the default.
  // `value` must outlive the table. `placeholder` stands for the value in the
  // help; of "DIR" and "FILE" an empty value is refused. Bools take none.
  template <typename T>
  void Add(absl::string_view name, T* value, absl::string_view placeholder,
           absl::string_view help) {
    Flag flag;
    flag.info = Describe(name, placeholder, help);
    flag.info.default_text = absl::UnparseFlag(*value);
    flag.info.is_bool = std::is_same<T, bool>::value;
    flag.parse = [value](absl::string_view text, std::string* error) {
      return absl::ParseFlag(text, value, error);
    };
    flags_.push_back(std::move(flag));
  }

  // As Add, for a string with no default that Parse insists on.
  void AddRequired(absl::string_view name, std::string* value,
                   absl::string_view placeholder, absl::string_view help);

  // As Add, for a string that is one of `choices`.
  void AddChoice(absl::string_view name, std::string* value,
                 std::vector<std::string> choices, absl::string_view help);

  // As Add, for strings: each use of the flag adds one, in order. Parse clears
  // them first.
  void AddRepeated(absl::string_view name, std::vector<std::string>* values,
                   absl::string_view placeholder, absl::string_view help);

  // Sets the values from arguments of the forms --name=value, --name value,
  // and for bools --name, --noname, --name=true|false. Usage errors: an
  // unknown flag (with the nearest one), another flag given twice, a value that
  // cannot be parsed, an empty path, a positional argument, a required flag
  // that is missing.
  absl::Status Parse(absl::Span<const std::string> arguments);

  // Whether the last Parse saw --name.
  bool WasGiven(absl::string_view name) const;

  // One paragraph a flag, with its default, for a terminal of 80 columns: those
  // that are required, then the sections.
  std::string Help() const;

  // In the order of declaration.
  std::vector<FlagInfo> List() const;

 private:
  struct Flag {
    FlagInfo info;
    bool given = false;
    bool given_empty = false;
    std::function<bool(absl::string_view, std::string*)> parse;
    std::vector<std::string>* repeated = nullptr;  // instead of parse
  };

  // With the section that is open; the rest is for the caller to fill in.
  FlagInfo Describe(absl::string_view name, absl::string_view placeholder,
                    absl::string_view help) const;
  Flag* Find(absl::string_view name);
  absl::Status Set(Flag* flag, absl::string_view value);

  std::vector<Flag> flags_;
  std::string section_ = "Flags";
};

// Breaks `text` at spaces into lines of at most `width` columns, each with
// `indent` spaces in front.
std::string WrapText(absl::string_view text, int indent, int width = 80);

}  // namespace qeff

#endif  // QEFF_TOOLS_FLAGS_H_
