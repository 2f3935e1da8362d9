// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/normal_form.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

constexpr uint32_t kSBase = 0xAC00, kLBase = 0x1100, kVBase = 0x1161,
                   kTBase = 0x11A7;
constexpr uint32_t kLCount = 19, kVCount = 21, kTCount = 28;
constexpr uint32_t kSCount = kLCount * kVCount * kTCount;

struct Character {
  uint32_t code_point;
  uint8_t combining_class;
};

// Normalizes one stretch of characters that may interact.
class Stretch {
 public:
  Stretch(const UnicodeTables& tables, NormalForm form)
      : tables_(tables),
        compatibility_(form == NormalForm::kNfkc || form == NormalForm::kNfkd),
        compose_(form == NormalForm::kNfc || form == NormalForm::kNfkc) {}

  // Adds the full decomposition of `c`.
  void Push(uint32_t c) {
    if (c - kSBase < kSCount) {
      const uint32_t s = c - kSBase;
      PushOne(kLBase + s / (kVCount * kTCount));
      PushOne(kVBase + s % (kVCount * kTCount) / kTCount);
      if (s % kTCount != 0) PushOne(kTBase + s % kTCount);
      return;
    }
    absl::Span<const uint32_t> parts;
    if (compatibility_) parts = tables_.compatibility.Find(c);
    if (parts.empty()) parts = tables_.canonical.Find(c);
    if (parts.empty()) {
      PushOne(c);
    } else {
      for (const uint32_t part : parts) PushOne(part);
    }
  }

  void Flush(std::string* out) {
    Reorder();
    if (compose_) Compose();
    for (const Character& c : characters_) AppendUtf8(c.code_point, out);
    characters_.clear();
  }

 private:
  void PushOne(uint32_t c) {
    characters_.push_back({c, tables_.CombiningClass(c)});
  }

  // Canonical ordering: marks between two starters by class, stable.
  void Reorder() {
    auto begin = characters_.begin();
    while (begin != characters_.end()) {
      if (begin->combining_class == 0) {
        ++begin;
        continue;
      }
      const auto end = std::find_if(
          begin, characters_.end(),
          [](const Character& c) { return c.combining_class == 0; });
      std::stable_sort(begin, end, [](const Character& a, const Character& b) {
        return a.combining_class < b.combining_class;
      });
      begin = end;
    }
  }

  // Canonical composition, in place.
  void Compose() {
    constexpr size_t kNone = static_cast<size_t>(-1);
    size_t starter = kNone;
    int last_class = -1;  // of the character kept last after the starter
    size_t kept = 0;
    for (size_t i = 0; i < characters_.size(); ++i) {
      const Character c = characters_[i];
      // Blocked: something of the same or a higher class lies between.
      if (starter != kNone && last_class < c.combining_class) {
        const uint32_t composed =
            ComposePair(characters_[starter].code_point, c.code_point);
        if (composed != 0) {
          characters_[starter].code_point = composed;
          continue;
        }
      }
      if (c.combining_class == 0) {
        starter = kept;
        last_class = -1;
      } else {
        last_class = c.combining_class;
      }
      characters_[kept++] = c;
    }
    characters_.resize(kept);
  }

  uint32_t ComposePair(uint32_t a, uint32_t b) const {
    if (a - kLBase < kLCount && b - kVBase < kVCount) {
      return kSBase + ((a - kLBase) * kVCount + (b - kVBase)) * kTCount;
    }
    if (a - kSBase < kSCount && (a - kSBase) % kTCount == 0 &&
        b - kTBase - 1 < kTCount - 1) {
      return a + (b - kTBase);
    }
    return tables_.Compose(a, b);
  }

  const UnicodeTables& tables_;
  const bool compatibility_;
  const bool compose_;
  std::vector<Character> characters_;
};

uint16_t InertProperty(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc:
      return kUnicodeNfcInert;
    case NormalForm::kNfd:
      return kUnicodeNfdInert;
    case NormalForm::kNfkc:
      return kUnicodeNfkcInert;
    case NormalForm::kNfkd:
      break;
  }
  return kUnicodeNfkdInert;
}

// ASCII never changes, and combines only with what follows it.
bool IsAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }

}  // namespace

void AppendNormalized(const UnicodeTables& tables, NormalForm form,
                      absl::string_view text, std::string* out) {
  const uint16_t inert = InertProperty(form);
  Stretch stretch(tables, form);
  bool stretch_empty = true;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeUtf8(text, i);
    const size_t next = i + c.length;
    const bool alone =
        c.value == kInvalidCodePoint ||
        (tables.Properties(c.value) & inert) != 0 ||
        (IsAscii(text[i]) && (next == text.size() || IsAscii(text[next])));
    if (alone) {
      if (!stretch_empty) stretch.Flush(out);
      stretch_empty = true;
      out->append(text.data() + i, c.length);
    } else {
      stretch.Push(c.value);
      stretch_empty = false;
    }
    i = next;
  }
  if (!stretch_empty) stretch.Flush(out);
}

}  // namespace qeff
