// SPDX-License-Identifier: Apache-2.0
//
// The four figures that QEfficient prints after a generation, with its
// definitions and its text, so that both can be read by the same scripts; also
// of several sequences that were generated side by side.

#ifndef QEFF_DEVICE_PERFORMANCE_H_
#define QEFF_DEVICE_PERFORMANCE_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace qeff {

// Times of one generation, in seconds of one clock.
struct GenerateTiming {
  double start_seconds = 0;        // before the prompt was run
  double first_token_seconds = 0;  // after the first token was chosen
  double end_seconds = 0;          // after the last token was chosen
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;  // the first one included

  // Time to first token.
  double prefill_seconds() const { return first_token_seconds - start_seconds; }
  // Tokens after the first, by the time they took; 0 when there was none.
  double decode_tokens_per_second() const;
  // Tokens after the first, by all time; 0 when there was none.
  double total_tokens_per_second() const;
  // End to end.
  double total_seconds() const { return end_seconds - start_seconds; }
};

// What the draft model of speculative decoding was worth
// (speculative_generate.h); all 0 without one.
struct Speculation {
  int64_t proposed = 0;  // tokens that the draft model proposed
  int64_t accepted = 0;  // of those, that became text
  int64_t passes = 0;    // of the model, after the prompt
  int64_t tokens = 0;    // that those chose

  void Add(const Speculation& other);
  // accepted / proposed; 0 when none was.
  double acceptance_rate() const;
  // tokens / passes, 1 without a draft model; 0 when there was none.
  double tokens_per_pass() const;
};

// "Draft acceptance is= 0.75 (150 of 200), tokens a pass= 3.98\n".
std::string FormatSpeculation(const Speculation& speculation);

// The figures of sequences that one engine ran, side by side or in turn, by one
// clock; for one of them they are those of GenerateTiming. QEfficient stops
// decoding to run a prompt and leaves that time out; here prompts run beside it
// and none is left out.
struct Performance {
  double prefill_seconds = 0;           // mean of the times to first token
  double decode_tokens_per_second = 0;  // tokens after the first of each, by
                                        // the time from the first of all to
                                        // the last; 0 when there was none
  double total_tokens_per_second = 0;   // the same, by all time
  double total_seconds = 0;             // from the first start to the last end
};
Performance Summarize(absl::Span<const GenerateTiming> timings);

// The four lines, each with its line end and rounded to two decimals (as
// Python's round: 0.5 stays "0.5", 3 becomes "3.0"); the first three end in
// eight spaces, as QEfficient's do:
//   Average Prefill time a.k.a TTFT is= 0.28 sec
//   Decode is= 14.44 tokens/sec
//   Total is= 14.21 tokens/sec
//   Total (E2E) inference time is= 17.38 sec
std::string FormatPerformance(const Performance& performance);
std::string FormatPerformance(const GenerateTiming& timing);

}  // namespace qeff

#endif  // QEFF_DEVICE_PERFORMANCE_H_
