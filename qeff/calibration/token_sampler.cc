// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/token_sampler.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// `count` of the numbers below `total`, in order.
std::vector<int64_t> Draw(int64_t count, int64_t total, uint64_t seed) {
  std::vector<int64_t> numbers(static_cast<size_t>(total));
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  Random random(seed);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t other = random.NextBelow(static_cast<uint64_t>(total - i));
    std::swap(numbers[static_cast<size_t>(i)],
              numbers[static_cast<size_t>(i) + other]);
  }
  numbers.resize(static_cast<size_t>(count));
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace

absl::StatusOr<TokenSample> SampleTokens(absl::Span<const int32_t> text,
                                         absl::optional<int32_t> bos,
                                         const SampleOptions& options) {
  const int64_t room = options.sequence_length - (bos.has_value() ? 1 : 0);
  if (room < 1) {
    return InvalidInputError(
        "sequence_length: expected ",
        bos.has_value() ? "2 or more (BOS is one)" : "1 or more", ", found ",
        options.sequence_length);
  }
  if (options.tokens < 1) {
    return InvalidInputError("calibration_tokens: expected 1 or more, found ",
                             options.tokens);
  }
  if (text.empty()) return InvalidInputError("the text has no tokens");

  const int64_t length = static_cast<int64_t>(text.size());
  const int64_t total = std::max<int64_t>(1, length / room);
  const int64_t wanted = (options.tokens - 1) / options.sequence_length + 1;
  TokenSample sample;
  for (const int64_t piece :
       Draw(std::min(wanted, total), total, options.seed)) {
    const int64_t begin = piece * room;
    const auto ids =
        text.subspan(static_cast<size_t>(begin),
                     static_cast<size_t>(std::min(room, length - begin)));
    std::vector<int32_t> sequence;
    sequence.reserve(ids.size() + 1);
    if (bos.has_value()) sequence.push_back(*bos);
    for (const int32_t id : ids) sequence.push_back(id);
    sample.tokens += static_cast<int64_t>(sequence.size());
    sample.sequences.push_back(std::move(sequence));
  }
  return sample;
}

}  // namespace qeff
