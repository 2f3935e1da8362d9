// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/progress.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qeff {
namespace {

constexpr int64_t kFirstNanos = 1'000'000'000;
constexpr int64_t kIntervalNanos = 100'000'000;
constexpr int64_t kBarColumns = 20;

bool IsShown(const ProgressOptions& options) {
  switch (options.show) {
    case ProgressOptions::Show::kAlways:
      return true;
    case ProgressOptions::Show::kNever:
      return false;
    case ProgressOptions::Show::kOnTerminal:
      break;
  }
  const int fd = fileno(options.stream);
  return fd >= 0 && isatty(fd) == 1;
}

// "1:02:03" or "2:03".
std::string ClockText(double seconds) {
  const int64_t s = static_cast<int64_t>(std::min(seconds, 359999.0) + 0.5);
  if (s >= 3600) {
    return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
  }
  return absl::StrFormat("%d:%02d", s / 60, s % 60);
}

// Three digits and a letter: "12.3M", or the number itself while it is short.
std::string CountText(int64_t count) {
  if (count < 10'000) return absl::StrCat(count);
  double value = static_cast<double>(count);
  const char* suffix = "kMGTPE";
  // 999.5 would be printed as 1000.
  for (value /= 1000; value >= 999.5 && suffix[1] != '\0'; value /= 1000) {
    ++suffix;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f%c", decimals, value, *suffix);
}

}  // namespace

Progress::Progress(std::string label, int64_t total, ProgressOptions options)
    : label_(std::move(label)),
      total_(total),
      options_(std::move(options)),
      shown_(IsShown(options_)),
      start_(shown_ ? options_.clock() : absl::Time()),
      next_nanos_(kFirstNanos) {}

Progress::~Progress() { Clear(); }

void Progress::Clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (drawn_columns_ == 0) return;
  // The destructor's too: without memory.
  std::fprintf(options_.stream, "\r%*s\r", static_cast<int>(drawn_columns_),
               "");
  (void)std::fflush(options_.stream);
  drawn_columns_ = 0;
}

void Progress::Advance(int64_t count) {
  done_.fetch_add(count, std::memory_order_relaxed);
  if (!shown_) return;
  const int64_t now = absl::ToInt64Nanoseconds(options_.clock() - start_);
  int64_t next = next_nanos_.load(std::memory_order_relaxed);
  // Whoever moves the time on draws; the others go on with their work.
  if (now < next ||
      !next_nanos_.compare_exchange_strong(next, now + kIntervalNanos)) {
    return;
  }
  std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  const std::string line = Line(absl::Nanoseconds(now));
  const size_t pad =
      drawn_columns_ > line.size() ? drawn_columns_ - line.size() : 0;
  absl::FPrintF(options_.stream, "\r%s%s", line, std::string(pad, ' '));
  (void)std::fflush(options_.stream);
  drawn_columns_ = line.size();
}

std::string Progress::Line(absl::Duration elapsed) const {
  const double seconds = std::max(absl::ToDoubleSeconds(elapsed), 1e-9);
  const int64_t count = done();
  const double rate = static_cast<double>(count) / seconds;
  const std::string rate_text = absl::StrCat(
      rate < 100 ? absl::StrFormat("%.1f", rate)
                 : CountText(static_cast<int64_t>(std::min(rate, 9e18))),
      options_.unit, "/s");
  if (total_ <= 0) {
    return absl::StrCat(label_, "  ", CountText(count), options_.unit, "  ",
                        rate_text);
  }
  const int64_t shown = std::min(std::max<int64_t>(count, 0), total_);
  const double part = static_cast<double>(shown) / static_cast<double>(total_);
  const size_t filled =
      static_cast<size_t>(part * static_cast<double>(kBarColumns));
  const std::string bar =
      std::string(filled, '#') + std::string(kBarColumns - filled, ' ');
  const std::string remaining =
      rate > 0 ? ClockText(static_cast<double>(total_ - shown) / rate) : "-";
  return absl::StrFormat("%s %3d%% [%s] %s/%s%s  %s  ETA %s", label_,
                         static_cast<int>(part * 100), bar, CountText(shown),
                         CountText(total_), options_.unit, rate_text,
                         remaining);
}

}  // namespace qeff
