// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/windows.h"

#include <algorithm>

#include "qeff/util/status.h"

namespace qeff {
namespace {

std::vector<ScoredWindow> CutSliding(absl::Span<const int32_t> text,
                                     absl::optional<int32_t> bos,
                                     int64_t text_per_window, int64_t stride) {
  std::vector<ScoredWindow> windows;
  const int64_t length = static_cast<int64_t>(text.size());
  const int64_t bos_tokens = bos.has_value() ? 1 : 0;
  int64_t scored_end = bos.has_value() ? 0 : 1;  // text tokens before are done
  for (int64_t begin = 0; scored_end < length; begin += stride) {
    const int64_t end = std::min(begin + text_per_window, length);
    ScoredWindow window;
    if (bos.has_value()) window.tokens.push_back(*bos);
    window.tokens.insert(window.tokens.end(), text.begin() + begin,
                         text.begin() + end);
    window.first_scored = bos_tokens + scored_end - begin;
    // Without BOS and without overlap, a window's first token has no context.
    window.first_scored = std::max<int64_t>(window.first_scored, 1);
    scored_end = end;
    if (window.first_scored < static_cast<int64_t>(window.tokens.size())) {
      windows.push_back(std::move(window));
    }
  }
  return windows;
}

std::vector<ScoredWindow> CutLikeLlamaCpp(absl::Span<const int32_t> text,
                                          absl::optional<int32_t> bos,
                                          int64_t context_length) {
  std::vector<int32_t> all;
  if (bos.has_value()) all.push_back(*bos);
  all.insert(all.end(), text.begin(), text.end());
  std::vector<ScoredWindow> windows;
  for (int64_t begin = 0;
       begin + context_length <= static_cast<int64_t>(all.size());
       begin += context_length) {
    ScoredWindow window;
    window.tokens.assign(all.begin() + begin,
                         all.begin() + begin + context_length);
    if (bos.has_value()) window.tokens[0] = *bos;
    window.first_scored = context_length / 2 + 1;
    windows.push_back(std::move(window));
  }
  return windows;
}

}  // namespace

absl::StatusOr<std::vector<ScoredWindow>> CutWindows(
    absl::Span<const int32_t> text, absl::optional<int32_t> bos,
    const WindowOptions& options) {
  if (options.context_length < 2) {
    return InvalidInputError("context_length: expected 2 or more, found ",
                             options.context_length);
  }
  if (options.max_tokens > 0) {
    text = text.subspan(0, static_cast<size_t>(options.max_tokens));
  }
  const int64_t text_per_window =
      options.context_length - (bos.has_value() ? 1 : 0);
  const int64_t stride = options.stride == 0 ? text_per_window : options.stride;
  if (stride < 1 || stride > text_per_window) {
    return InvalidInputError("stride: expected 1 to ", text_per_window,
                             " (text tokens in a window), found ", stride);
  }
  std::vector<ScoredWindow> windows =
      options.protocol == EvalProtocol::kWindow
          ? CutSliding(text, bos, text_per_window, stride)
          : CutLikeLlamaCpp(text, bos, options.context_length);
  if (windows.empty()) {
    return InvalidInputError(
        "text: has ", text.size(), " tokens, too few to score one",
        options.protocol == EvalProtocol::kLlamaCpp
            ? absl::StrCat(" window of ", options.context_length)
            : "");
  }
  return windows;
}

}  // namespace qeff
