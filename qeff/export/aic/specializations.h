// SPDX-License-Identifier: Apache-2.0
//
// specializations.json: the shapes that the Cloud AI compiler fixes of a graph
// whose dimensions have names. One ONNX file serves prompts (Prefill) and
// generation (Decode), which differ in nothing but these numbers.
//
//   AicShapes shapes;            // 32 tokens of a prompt, context of 128
//   auto specializations = MakeSpecializations(shapes);
//   IndentedJson(SpecializationsJson(*specializations,
//                                    SpecializationForm::kNamed));
//
// Source: QEfficient 1.23, QEFFAutoModelForCausalLM.compile and its
// specializations.json; flat form: QEfficient 1.21 and earlier.

#ifndef QEFF_EXPORT_AIC_SPECIALIZATIONS_H_
#define QEFF_EXPORT_AIC_SPECIALIZATIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/util/json.h"

namespace qeff {

// What a model is compiled for; all in tokens or sequences.
struct AicShapes {
  int64_t prefill_seq_len = 32;  // of a prompt that go through together
  int64_t ctx_len = 128;
  int64_t batch_size = 1;
  // Sequences in the cache with continuous batching: prompts go in one by one,
  // generation is of all of them. 0: no continuous batching.
  int64_t full_batch_size = 0;
  // Drafted tokens that a step checks, one Decode for each number; empty: no
  // target of speculative decoding.
  std::vector<int64_t> num_speculative_tokens;
  // Context that attention looks at, one specialization for each; both empty:
  // always ctx_len.
  std::vector<int64_t> comp_ctx_lengths_prefill;
  std::vector<int64_t> comp_ctx_lengths_decode;
};

struct Specialization {
  std::string name;                        // of the program
  std::map<std::string, int64_t> symbols;  // value of each dimension
};

// The specializations of `shapes`, Prefill first. Lists of contexts are made
// what the compiler takes, as QEfficient does: from 1024 to ctx_len, with
// ctx_len itself, sorted, each length once in both lists (one of prefill moves
// down to a multiple of 32); a missing list is ctx_len alone. With
// prefill_seq_len 1 prompts go through Decode, which then is all there is.
// Errors: kInvalidArgument naming the field, what was expected and found:
// numbers below 1, prefill_seq_len above ctx_len or below
// num_speculative_tokens + 1, batch_size beside full_batch_size; kUnimplemented
// for num_speculative_tokens together with comp_ctx_lengths.
absl::StatusOr<std::vector<Specialization>> MakeSpecializations(
    const AicShapes& shapes);

// Names of graph inputs without which a symbol of `shapes` means nothing:
// batch_index, num_logits_to_keep, comp_ctx_lengths.
std::vector<std::string> InputsNeeded(const AicShapes& shapes);

enum class SpecializationForm {
  kNamed,  // {"name": "Prefill", "symbols": {...}}
  kFlat,   // {...}
};

// The form that the compiler of an SDK reads: flat before 1.22. `version` is
// like "1.20.2.0"; one that is unknown ("") counts as new. Errors:
// kInvalidArgument when it does not begin with two numbers.
absl::StatusOr<SpecializationForm> FormOfSdk(absl::string_view version);

// The content of specializations.json, values as strings.
Json SpecializationsJson(const std::vector<Specialization>& specializations,
                         SpecializationForm form);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_SPECIALIZATIONS_H_
