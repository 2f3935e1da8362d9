// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/performance.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qeff {
namespace {

double Rate(int64_t tokens, double seconds) {
  if (tokens < 1 || seconds <= 0) return 0;
  return static_cast<double>(tokens) / seconds;
}

double Ratio(int64_t part, int64_t whole) {
  if (whole == 0) return 0;
  return static_cast<double>(part) / static_cast<double>(whole);
}

// Two decimals, without the zeros that Python's round does not print.
std::string Rounded(double value) {
  std::string text = absl::StrFormat("%.2f", value);
  if (text.back() == '0') text.pop_back();
  return text;
}

}  // namespace

double GenerateTiming::decode_tokens_per_second() const {
  return Rate(generated_tokens - 1, end_seconds - first_token_seconds);
}

double GenerateTiming::total_tokens_per_second() const {
  return Rate(generated_tokens - 1, total_seconds());
}

void Speculation::Add(const Speculation& other) {
  proposed += other.proposed;
  accepted += other.accepted;
  passes += other.passes;
  tokens += other.tokens;
}

double Speculation::acceptance_rate() const {
  return Ratio(accepted, proposed);
}

double Speculation::tokens_per_pass() const { return Ratio(tokens, passes); }

std::string FormatSpeculation(const Speculation& speculation) {
  return absl::StrCat(
      "Draft acceptance is= ", Rounded(speculation.acceptance_rate()), " (",
      speculation.accepted, " of ", speculation.proposed,
      "), tokens a pass= ", Rounded(speculation.tokens_per_pass()), "\n");
}

Performance Summarize(absl::Span<const GenerateTiming> timings) {
  Performance performance;
  if (timings.empty()) return performance;
  double start = timings[0].start_seconds;
  double first_token = timings[0].first_token_seconds;
  double end = timings[0].end_seconds;
  double prefill = 0;
  int64_t tokens = 0;
  for (const GenerateTiming& timing : timings) {
    start = std::min(start, timing.start_seconds);
    first_token = std::min(first_token, timing.first_token_seconds);
    end = std::max(end, timing.end_seconds);
    prefill += timing.prefill_seconds();
    tokens += std::max<int64_t>(timing.generated_tokens - 1, 0);
  }
  performance.prefill_seconds = prefill / static_cast<double>(timings.size());
  performance.decode_tokens_per_second = Rate(tokens, end - first_token);
  performance.total_tokens_per_second = Rate(tokens, end - start);
  performance.total_seconds = end - start;
  return performance;
}

std::string FormatPerformance(const GenerateTiming& timing) {
  return FormatPerformance(Summarize({timing}));
}

std::string FormatPerformance(const Performance& performance) {
  constexpr char kSpaces[] = "        \n";
  return absl::StrCat(
      "Average Prefill time a.k.a TTFT is= ",
      Rounded(performance.prefill_seconds), " sec", kSpaces,
      "Decode is= ", Rounded(performance.decode_tokens_per_second),
      " tokens/sec", kSpaces,
      "Total is= ", Rounded(performance.total_tokens_per_second), " tokens/sec",
      kSpaces,
      "Total (E2E) inference time is= ", Rounded(performance.total_seconds),
      " sec\n");
}

}  // namespace qeff
