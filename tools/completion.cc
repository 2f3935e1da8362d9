// SPDX-License-Identifier: Apache-2.0

#include "tools/completion.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qeff {
namespace {

// The rest of the script: it asks _qeff_commands for the names of commands,
// _qeff_flags for the flags of one, and _qeff_values for what a flag takes.
constexpr char kFunctions[] = R"bash(
# Beginnings of $1 among the lines of stdin.
_qeff_reply() {
  local line
  while IFS= read -r line; do
    [[ $line == "$1"* ]] && COMPREPLY+=("$line")
  done
}

# The words at place $1 of commands that begin with the words after it.
_qeff_words() {
  local place=$1
  local -a line
  shift
  while read -ra line; do
    [[ "${line[*]:0:place}" == "$*" && -n ${line[place]-} ]] &&
      printf '%s\n' "${line[place]}"
  done < <(_qeff_commands)
}

# What --flag $2 of command $1 takes, beginning with $3.
_qeff_value() {
  local kind line
  kind=$(_qeff_values "$1" "$2")
  case $kind in
    '' | =) ;;
    DIR | FILE)
      # A model may be a GGUF file where its folder is asked for.
      local files=(-f)
      [[ $kind == DIR ]] && files=(-f -X '!*.gguf')
      while IFS= read -r line; do
        COMPREPLY+=("$line")
      done < <(compgen -d -- "$3"
        compgen "${files[@]}" -- "$3" | while IFS= read -r line; do
          [[ -d $line ]] || printf '%s\n' "$line"
        done)
      compopt -o filenames 2>/dev/null
      ;;
    *) _qeff_reply "$3" < <(printf '%s\n' "${kind// /$'\n'}") ;;
  esac
}

_qeff() {
  COMPREPLY=()
  # What stands before the cursor; a shell may take "=" for a word.
  local word=${COMP_WORDS[COMP_CWORD]} count=$((COMP_CWORD - 1))
  local words=("${COMP_WORDS[@]:1:count}")
  local prefix='' flag='' last=''
  (( count > 0 )) && last=${words[count - 1]}
  if [[ $word == = ]]; then
    flag=$last word=''
  elif [[ $last == = ]]; then
    (( count > 1 )) && flag=${words[count - 2]}
  elif [[ $word == --*=* ]]; then
    flag=${word%%=*} prefix=${word%%=*}= word=${word#*=}
  fi

  # The command is the first word, or the first two.
  local command=${words[0]-} names
  names=$'\n'$(_qeff_commands)$'\n'
  local pair="$command ${words[1]-}"
  [[ $names == *$'\n'"$pair"$'\n'* ]] && command=$pair

  if (( count == 0 )); then
    _qeff_reply "$word" < <(_qeff_words 0 | uniq
      printf '%s\n' help --help --version)
  elif [[ $command == help ]]; then
    _qeff_reply "$word" < <(
      _qeff_words $((count - 1)) "${words[@]:1}" | uniq)
  elif [[ $names != *$'\n'"$command"$'\n'* ]]; then
    _qeff_reply "$word" < <(_qeff_words "$count" "${words[@]}")
  elif [[ -n $flag ]]; then
    _qeff_value "$command" "$flag" "$word"
  elif [[ $last == --* && -n $(_qeff_values "$command" "$last") &&
    $(_qeff_flags "$command") != *$'\n'"$last"$'\n'* ]]; then
    _qeff_value "$command" "$last" "$word"
  else
    _qeff_reply "$word" < <(_qeff_flags "$command")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] &&
      compopt -o nospace 2>/dev/null
  fi
  COMPREPLY=("${COMPREPLY[@]/#/$prefix}")
}
complete -F _qeff qeff
)bash";

// A pattern of `case`.
std::string Quoted(absl::string_view text) {
  return absl::StrCat("'", text, "'");
}

// What _qeff_values says of a flag: choices, DIR, FILE, or = for any value.
std::string ValuesOf(const FlagInfo& flag) {
  if (flag.is_bool) return "true false";
  if (!flag.choices.empty()) return absl::StrJoin(flag.choices, " ");
  if (flag.placeholder == "DIR" || flag.placeholder == "FILE") {
    return flag.placeholder;
  }
  return "=";
}

}  // namespace

std::string BashCompletion(
    absl::Span<const std::unique_ptr<Command>> commands) {
  std::string names, flags, values;
  for (const auto& command : commands) {
    absl::StrAppend(&names, " ", Quoted(command->name()));
    absl::StrAppend(&flags, "    ", Quoted(command->name()),
                    ") printf '%s\\n' --help");
    for (const FlagInfo& flag : FlagsOf(command.get())) {
      absl::StrAppend(&flags, " --", flag.name, flag.is_bool ? "" : "=");
      absl::StrAppend(&values, "    ",
                      Quoted(absl::StrCat(command->name(), " --", flag.name)),
                      ") echo ", Quoted(ValuesOf(flag)), " ;;\n");
    }
    absl::StrAppend(&flags, " ;;\n");
  }
  return absl::StrCat(
      "# Completion of qeff by bash: eval \"$(qeff completion bash)\"\n",
      "_qeff_commands() { printf '%s\\n'", names, "; }\n",
      "_qeff_flags() {\n  case $1 in\n", flags, "  esac\n}\n",
      "_qeff_values() {\n  case \"$1 $2\" in\n", values, "  esac\n}\n",
      kFunctions);
}

}  // namespace qeff
