// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/performance.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qeff {
namespace {

double TokensAfterFirst(const GenerateTiming& timing, double seconds) {
  if (timing.generated_tokens < 2 || seconds <= 0) return 0;
  return static_cast<double>(timing.generated_tokens - 1) / seconds;
}

// Two decimals, without the zeros that Python's round does not print.
std::string Rounded(double value) {
  std::string text = absl::StrFormat("%.2f", value);
  if (text.back() == '0') text.pop_back();
  return text;
}

}  // namespace

double GenerateTiming::decode_tokens_per_second() const {
  return TokensAfterFirst(*this, end_seconds - first_token_seconds);
}

double GenerateTiming::total_tokens_per_second() const {
  return TokensAfterFirst(*this, total_seconds());
}

std::string FormatPerformance(const GenerateTiming& timing) {
  constexpr char kSpaces[] = "        \n";
  return absl::StrCat(
      "Average Prefill time a.k.a TTFT is= ", Rounded(timing.prefill_seconds()),
      " sec", kSpaces,
      "Decode is= ", Rounded(timing.decode_tokens_per_second()), " tokens/sec",
      kSpaces, "Total is= ", Rounded(timing.total_tokens_per_second()),
      " tokens/sec", kSpaces,
      "Total (E2E) inference time is= ", Rounded(timing.total_seconds()),
      " sec\n");
}

}  // namespace qeff
