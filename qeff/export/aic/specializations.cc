// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/specializations.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMaxNumber = std::numeric_limits<int32_t>::max();
// Limits of the compiler for computed contexts.
constexpr int64_t kMinComputedContext = 1024;
constexpr int64_t kComputedContextStep = 32;
// The SDK from which on the compiler reads names.
constexpr int kNamedSinceMajor = 1;
constexpr int kNamedSinceMinor = 22;

absl::Status CheckNumber(absl::string_view field, int64_t value, int64_t low,
                         int64_t high = kMaxNumber) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidInputError(field, ": expected ", low, " to ", high, ", found ",
                           value);
}

bool HasContexts(const AicShapes& shapes) {
  return !shapes.comp_ctx_lengths_prefill.empty() ||
         !shapes.comp_ctx_lengths_decode.empty();
}

absl::Status CheckShapes(const AicShapes& shapes) {
  QEFF_RETURN_IF_ERROR(CheckNumber("ctx_len", shapes.ctx_len, 1));
  QEFF_RETURN_IF_ERROR(CheckNumber("prefill_seq_len", shapes.prefill_seq_len, 1,
                                   shapes.ctx_len));
  QEFF_RETURN_IF_ERROR(CheckNumber("batch_size", shapes.batch_size, 1));
  QEFF_RETURN_IF_ERROR(
      CheckNumber("full_batch_size", shapes.full_batch_size, 0));
  if (shapes.full_batch_size > 0 && shapes.batch_size != 1) {
    return InvalidInputError(
        "batch_size: expected 1 beside full_batch_size, since prompts then go "
        "in one by one, found ",
        shapes.batch_size);
  }
  for (const int64_t drafted : shapes.num_speculative_tokens) {
    QEFF_RETURN_IF_ERROR(CheckNumber("num_speculative_tokens", drafted, 0));
    if (shapes.prefill_seq_len < drafted + 1) {
      return InvalidInputError(
          "prefill_seq_len: expected at least num_speculative_tokens + 1 = ",
          drafted + 1, ", found ", shapes.prefill_seq_len);
    }
  }
  for (const auto* lengths :
       {&shapes.comp_ctx_lengths_prefill, &shapes.comp_ctx_lengths_decode}) {
    for (const int64_t length : *lengths) {
      QEFF_RETURN_IF_ERROR(CheckNumber("comp_ctx_lengths", length, 1));
    }
  }
  if (HasContexts(shapes) && !shapes.num_speculative_tokens.empty()) {
    return absl::UnimplementedError(
        "comp_ctx_lengths: not together with num_speculative_tokens");
  }
  return absl::OkStatus();
}

std::set<int64_t> UsableContexts(std::vector<int64_t> lengths,
                                 int64_t ctx_len) {
  std::set<int64_t> usable = {ctx_len};
  for (const int64_t length : lengths) {
    usable.insert(std::min(std::max(length, kMinComputedContext), ctx_len));
  }
  return usable;
}

// The next smaller lengths for those of `prefill` that `decode` has too.
std::vector<int64_t> ApartFrom(const std::set<int64_t>& decode,
                               const std::set<int64_t>& prefill) {
  std::set<int64_t> apart;
  for (int64_t length : prefill) {
    while (length > 0 && (decode.count(length) || apart.count(length))) {
      length = (length - 1) / kComputedContextStep * kComputedContextStep;
    }
    if (length > 0) apart.insert(length);
  }
  return {apart.begin(), apart.end()};
}

// A specialization of nothing but what all have.
Specialization Base(const char* name, int64_t batch_size, int64_t seq_len,
                    const AicShapes& shapes) {
  Specialization made = {name,
                         {{"batch_size", batch_size},
                          {"ctx_len", shapes.ctx_len},
                          {"seq_len", seq_len}}};
  if (shapes.full_batch_size > 0) {
    made.symbols["full_batch_size"] = shapes.full_batch_size;
  }
  return made;
}

Specialization Prefill(const AicShapes& shapes) {
  const bool continuous = shapes.full_batch_size > 0;
  const int64_t batch_size = !continuous ? shapes.batch_size
                             : shapes.prefill_seq_len == 1
                                 ? shapes.full_batch_size
                                 : 1;
  Specialization made =
      Base("Prefill", batch_size, shapes.prefill_seq_len, shapes);
  if (continuous) made.symbols["full_batch_exec_size"] = batch_size;
  if (!shapes.num_speculative_tokens.empty()) {
    made.symbols["num_logits_to_keep"] = 1;
  }
  return made;
}

Specialization Decode(const AicShapes& shapes, int64_t seq_len) {
  const int64_t batch_size =
      shapes.full_batch_size > 0 ? shapes.full_batch_size : shapes.batch_size;
  Specialization made = Base("Decode", batch_size, seq_len, shapes);
  if (!shapes.num_speculative_tokens.empty()) {
    made.symbols["num_logits_to_keep"] = seq_len;
  }
  return made;
}

// Names that occur more than once get _0, _1, ...
void MakeNamesUnique(std::vector<Specialization>* all) {
  std::map<std::string, int> count, next;
  for (const Specialization& one : *all) ++count[one.name];
  for (Specialization& one : *all) {
    if (count[one.name] == 1) continue;
    const int index = next[one.name]++;
    absl::StrAppend(&one.name, "_", index);
  }
}

}  // namespace

absl::StatusOr<std::vector<Specialization>> MakeSpecializations(
    const AicShapes& shapes) {
  QEFF_RETURN_IF_ERROR(CheckShapes(shapes));
  std::vector<Specialization> all;
  const auto add = [&all](const Specialization& one,
                          const std::vector<int64_t>& contexts) {
    if (contexts.empty()) all.push_back(one);
    for (const int64_t context : contexts) {
      all.push_back(one);
      all.back().symbols["comp_ctx_lengths"] = context;
    }
  };
  const bool one_by_one = shapes.prefill_seq_len == 1;
  std::vector<int64_t> prefill_contexts, decode_contexts;
  if (HasContexts(shapes)) {
    std::set<int64_t> prefill =
        UsableContexts(shapes.comp_ctx_lengths_prefill, shapes.ctx_len);
    const std::set<int64_t> decode =
        UsableContexts(shapes.comp_ctx_lengths_decode, shapes.ctx_len);
    decode_contexts = {decode.begin(), decode.end()};
    if (one_by_one) {
      prefill.insert(decode.begin(), decode.end());
      prefill_contexts = {prefill.begin(), prefill.end()};
    } else {
      prefill_contexts = ApartFrom(decode, prefill);
    }
  }
  add(Prefill(shapes), prefill_contexts);
  if (!one_by_one) {
    std::set<int64_t> drafted(shapes.num_speculative_tokens.begin(),
                              shapes.num_speculative_tokens.end());
    if (drafted.empty()) drafted.insert(0);
    for (const int64_t count : drafted) {
      // Without continuous batching that is Prefill once more.
      if (count + 1 == shapes.prefill_seq_len && shapes.full_batch_size == 0) {
        continue;
      }
      add(Decode(shapes, count + 1), decode_contexts);
    }
  }
  MakeNamesUnique(&all);
  return all;
}

std::vector<std::string> InputsNeeded(const AicShapes& shapes) {
  std::vector<std::string> names;
  if (shapes.full_batch_size > 0) names.push_back("batch_index");
  if (!shapes.num_speculative_tokens.empty()) {
    names.push_back("num_logits_to_keep");
  }
  if (HasContexts(shapes)) names.push_back("comp_ctx_lengths");
  return names;
}

absl::StatusOr<SpecializationForm> FormOfSdk(absl::string_view version) {
  if (version.empty()) return SpecializationForm::kNamed;
  const std::vector<absl::string_view> parts = absl::StrSplit(version, '.');
  int major = 0, minor = 0;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &major) ||
      !absl::SimpleAtoi(parts[1], &minor)) {
    return InvalidInputError(
        "version of the SDK: expected numbers like 1.20.2.0, found '", version,
        "'");
  }
  return std::make_pair(major, minor) <
                 std::make_pair(kNamedSinceMajor, kNamedSinceMinor)
             ? SpecializationForm::kFlat
             : SpecializationForm::kNamed;
}

Json SpecializationsJson(const std::vector<Specialization>& specializations,
                         SpecializationForm form) {
  Json list = Json::array();
  for (const Specialization& one : specializations) {
    Json symbols = Json::object();
    for (const auto& [symbol, value] : one.symbols) {
      symbols[symbol] = absl::StrCat(value);
    }
    list.push_back(form == SpecializationForm::kFlat
                       ? symbols
                       : Json{{"name", one.name}, {"symbols", symbols}});
  }
  return Json{{"specializations", std::move(list)}};
}

}  // namespace qeff
