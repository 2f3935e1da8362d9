// SPDX-License-Identifier: Apache-2.0
//
// Recursive-descent compilation to a program that is run over all of its
// states at once. Source: Thompson, "Regular expression search algorithm",
// CACM 11(6), 1968.

#include "qeff/format/name_pattern.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kMaxPatternBytes = 1024;
constexpr int kMaxDepth = 32;
constexpr size_t kMaxStates = 1024;
constexpr int kMaxRepeats = 1000;

using Bytes = std::bitset<256>;

size_t Index(char c) { return static_cast<unsigned char>(c); }

// The class of `\letter`, with upper case for the complement; false if none.
bool EscapedClass(char letter, Bytes* bytes) {
  Bytes set;
  for (size_t i = 0; i < 256; ++i) {
    const unsigned char c = static_cast<unsigned char>(i);
    switch (absl::ascii_tolower(static_cast<unsigned char>(letter))) {
      case 'd':
        set[i] = absl::ascii_isdigit(c);
        break;
      case 'w':
        set[i] = absl::ascii_isalnum(c) || c == '_';
        break;
      case 's':
        set[i] = absl::ascii_isspace(c);
        break;
      default:
        return false;
    }
  }
  *bytes = absl::ascii_isupper(static_cast<unsigned char>(letter)) ? ~set : set;
  return true;
}

}  // namespace

class NamePattern::Compiler {
 public:
  explicit Compiler(absl::string_view pattern)
      : pattern_(pattern), rest_(pattern) {}

  absl::StatusOr<NamePattern> Compile() {
    if (pattern_.size() > kMaxPatternBytes) {
      return InvalidInputError("pattern of ", pattern_.size(),
                               " bytes: at most ", kMaxPatternBytes);
    }
    Program program;
    QEFF_RETURN_IF_ERROR(Alternatives(0, &program));
    if (!rest_.empty()) return Error("unmatched )");
    Instruction accept;
    accept.op = Op::kAccept;
    program.push_back(accept);
    NamePattern result;
    result.program_ = std::move(program);
    return result;
  }

 private:
  // Jumps are relative while parts are put together.
  using Program = std::vector<Instruction>;

  absl::Status Error(absl::string_view what) const {
    return InvalidInputError("pattern \"", absl::CHexEscape(pattern_),
                             "\": ", what, " at byte ",
                             pattern_.size() - rest_.size());
  }
  absl::Status Unsupported(absl::string_view what) const {
    return absl::UnimplementedError(
        absl::StrCat("pattern \"", absl::CHexEscape(pattern_), "\": ", what,
                     " is not supported"));
  }

  char Peek() const { return rest_.empty() ? '\0' : rest_[0]; }
  bool Consume(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  static Instruction Jump(Op op, size_t next, size_t other = 0) {
    Instruction instruction;
    instruction.op = op;
    instruction.next = static_cast<int32_t>(next);
    instruction.other = static_cast<int32_t>(other);
    return instruction;
  }

  absl::Status Append(const Program& part, Program* program) const {
    if (program->size() + part.size() > kMaxStates) {
      return Error("the pattern is too large");
    }
    program->insert(program->end(), part.begin(), part.end());
    return absl::OkStatus();
  }

  // a|b: split to a, jump over b.
  absl::Status Alternatives(int depth, Program* program) {
    if (depth > kMaxDepth) return Error("nested too deeply");
    QEFF_RETURN_IF_ERROR(Sequence(depth, program));
    while (Consume('|')) {
      Program right;
      QEFF_RETURN_IF_ERROR(Sequence(depth, &right));
      program->insert(program->begin(),
                      Jump(Op::kSplit, 1, program->size() + 2));
      program->push_back(Jump(Op::kJump, right.size() + 1));
      QEFF_RETURN_IF_ERROR(Append(right, program));
    }
    return absl::OkStatus();
  }

  absl::Status Sequence(int depth, Program* program) {
    while (!rest_.empty() && Peek() != '|' && Peek() != ')') {
      Program part;
      QEFF_RETURN_IF_ERROR(Atom(depth, &part));
      QEFF_RETURN_IF_ERROR(Repeats(&part));
      QEFF_RETURN_IF_ERROR(Append(part, program));
    }
    return absl::OkStatus();
  }

  absl::Status Atom(int depth, Program* part) {
    if (Consume('(')) {
      if (Consume('?') && !Consume(':')) return Unsupported("(?...)");
      QEFF_RETURN_IF_ERROR(Alternatives(depth + 1, part));
      return Consume(')') ? absl::OkStatus() : Error("missing )");
    }
    Instruction instruction;
    instruction.op = Op::kBytes;
    if (Consume('^')) {
      instruction.op = Op::kBegin;
    } else if (Consume('$')) {
      instruction.op = Op::kEnd;
    } else if (Consume('[')) {
      QEFF_RETURN_IF_ERROR(Class(&instruction.bytes));
    } else if (Consume('.')) {
      instruction.bytes = ~Bytes();
      instruction.bytes[Index('\n')] = false;
    } else if (Consume('\\')) {
      QEFF_RETURN_IF_ERROR(Escape(&instruction.bytes));
    } else if (Peek() == '*' || Peek() == '+' || Peek() == '?' ||
               Peek() == '{') {
      return Error("nothing to repeat");
    } else {
      instruction.bytes[Index(rest_[0])] = true;
      rest_.remove_prefix(1);
    }
    part->push_back(instruction);
    return absl::OkStatus();
  }

  absl::Status Escape(Bytes* bytes) {
    if (rest_.empty()) return Error("nothing after \\");
    const char c = rest_[0];
    if (!EscapedClass(c, bytes)) {
      if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
        return Unsupported(absl::StrCat("\\", rest_.substr(0, 1)));
      }
      (*bytes)[Index(c)] = true;
    }
    rest_.remove_prefix(1);
    return absl::OkStatus();
  }

  // After '['. A ']' that comes first is a member.
  absl::Status Class(Bytes* bytes) {
    const bool complement = Consume('^');
    for (bool first = true; first || Peek() != ']'; first = false) {
      if (rest_.empty()) return Error("missing ]");
      Bytes member;
      const char low = rest_[0];
      rest_.remove_prefix(1);
      if (low == '\\') {
        QEFF_RETURN_IF_ERROR(Escape(&member));
      } else if (rest_.size() >= 2 && rest_[0] == '-' && rest_[1] != ']') {
        const char high = rest_[1];
        if (Index(high) < Index(low)) return Error("reversed range");
        rest_.remove_prefix(2);
        for (size_t i = Index(low); i <= Index(high); ++i) member[i] = true;
      } else {
        member[Index(low)] = true;
      }
      *bytes |= member;
    }
    rest_.remove_prefix(1);
    if (complement) bytes->flip();
    return absl::OkStatus();
  }

  // *, +, ? or {m,n} after `part`, if there is one.
  absl::Status Repeats(Program* part) {
    int min = 0;
    int max = -1;  // no limit
    if (Consume('+')) {
      min = 1;
    } else if (Consume('?')) {
      max = 1;
    } else if (Consume('{')) {
      QEFF_RETURN_IF_ERROR(Counts(&min, &max));
    } else if (!Consume('*')) {
      return absl::OkStatus();
    }
    Consume('?');  // lazy
    if (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{') {
      return Error("multiple repeat");
    }
    Program repeated;
    for (int i = 0; i < min; ++i) {
      QEFF_RETURN_IF_ERROR(Append(*part, &repeated));
    }
    if (max < 0) {
      repeated.push_back(Jump(Op::kSplit, 1, part->size() + 2));
      QEFF_RETURN_IF_ERROR(Append(*part, &repeated));
      Instruction back = Jump(Op::kJump, 0);
      back.next = -static_cast<int32_t>(part->size()) - 1;
      repeated.push_back(back);
    }
    for (int i = min; i < max; ++i) {
      repeated.push_back(Jump(Op::kSplit, 1, part->size() + 1));
      QEFF_RETURN_IF_ERROR(Append(*part, &repeated));
    }
    *part = std::move(repeated);
    return absl::OkStatus();
  }

  absl::Status Counts(int* min, int* max) {
    if (!Number(min)) return Error("expected a count");
    *max = *min;
    if (Consume(',') && !Number(max)) *max = -1;
    if (!Consume('}')) return Error("missing }");
    if (*min > kMaxRepeats || *max > kMaxRepeats) {
      return Error("a count is too large");
    }
    if (*max >= 0 && *max < *min) return Error("reversed counts");
    return absl::OkStatus();
  }

  bool Number(int* value) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) return false;
    *value = 0;
    while (absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) {
      *value = std::min(*value * 10 + (rest_[0] - '0'), kMaxRepeats + 1);
      rest_.remove_prefix(1);
    }
    return true;
  }

  absl::string_view pattern_;
  absl::string_view rest_;
};

absl::StatusOr<NamePattern> NamePattern::Compile(absl::string_view pattern) {
  return Compiler(pattern).Compile();
}

bool NamePattern::Run(absl::string_view name, bool anywhere) const {
  // States to be in before the current byte; `seen` holds the position at
  // which a state was last added, so that each is added once a byte.
  std::vector<size_t> current, next, pending;
  std::vector<size_t> seen(program_.size(), static_cast<size_t>(-1));
  for (size_t at = 0; at <= name.size(); ++at) {
    if (at == 0 || anywhere) current.push_back(0);
    next.clear();
    pending.assign(current.rbegin(), current.rend());
    while (!pending.empty()) {
      const size_t state = pending.back();
      pending.pop_back();
      if (seen[state] == at) continue;
      seen[state] = at;
      const Instruction& instruction = program_[state];
      const auto target = [&](int32_t offset) {
        return static_cast<size_t>(static_cast<int64_t>(state) + offset);
      };
      switch (instruction.op) {
        case Op::kAccept:
          return true;
        case Op::kBytes:
          if (at < name.size() && instruction.bytes[Index(name[at])]) {
            next.push_back(state + 1);
          }
          break;
        case Op::kSplit:
          pending.push_back(target(instruction.other));
          pending.push_back(target(instruction.next));
          break;
        case Op::kJump:
          pending.push_back(target(instruction.next));
          break;
        case Op::kBegin:
          if (at == 0) pending.push_back(state + 1);
          break;
        case Op::kEnd:
          if (at == name.size()) pending.push_back(state + 1);
          break;
      }
    }
    std::swap(current, next);
    if (current.empty() && !anywhere) return false;
  }
  return false;
}

bool NamePattern::Search(absl::string_view name) const {
  return Run(name, /*anywhere=*/true);
}

bool NamePattern::MatchPrefix(absl::string_view name) const {
  return Run(name, /*anywhere=*/false);
}

}  // namespace qeff
