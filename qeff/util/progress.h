// SPDX-License-Identifier: Apache-2.0
//
// A progress bar for work that takes longer than a second:
//   "quantize  42% [########            ] 97/231  12.3/s  ETA 0:11"
// Counts from 10,000 on are shortened: "1.23G/5.50G".

#ifndef QEFF_UTIL_PROGRESS_H_
#define QEFF_UTIL_PROGRESS_H_

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace qeff {

struct ProgressOptions {
  FILE* stream = stderr;  // must outlive the bar
  // Whether anything is shown: by default when `stream` is a terminal.
  enum class Show { kOnTerminal, kAlways, kNever };
  Show show = Show::kOnTerminal;
  // Appended to counts, such as " MB".
  std::string unit;
  std::function<absl::Time()> clock = absl::Now;
};

// Shows how much of `total` is done, from one second after creation on and at
// most ten times a second, over one line of the stream. Advance is
// thread-safe and cheap; the rest is not thread-safe. Prints nothing where
// nobody watches.
class Progress {
 public:
  // `total` counts whatever the caller likes; 0 or less means unknown, then
  // neither percentage nor estimate is shown.
  Progress(std::string label, int64_t total, ProgressOptions options = {});

  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Removes the bar from the screen.
  ~Progress();

  // Removes the bar from the screen until the next Advance that draws it: call
  // this before printing something else to the same terminal.
  void Clear();

  // Says that `count` more are done.
  void Advance(int64_t count = 1);

  int64_t done() const { return done_.load(std::memory_order_relaxed); }

  // The line as it would be shown `elapsed` after creation.
  std::string Line(absl::Duration elapsed) const;

 private:
  const std::string label_;
  const int64_t total_;
  const ProgressOptions options_;
  const bool shown_;
  const absl::Time start_;
  std::atomic<int64_t> done_{0};
  std::atomic<int64_t> next_nanos_;  // since start, when to draw again
  std::mutex mutex_;                 // held while drawing
  size_t drawn_columns_ = 0;
};

}  // namespace qeff

#endif  // QEFF_UTIL_PROGRESS_H_
