// SPDX-License-Identifier: Apache-2.0
//
// Where a library sends lines for a person to read, when it is not an error:
// always a parameter, so that a caller decides what becomes of them.

#ifndef QEFF_UTIL_LOG_SINK_H_
#define QEFF_UTIL_LOG_SINK_H_

#include <cstdio>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qeff {

enum class LogLevel { kInfo, kWarning };

// Receives one line at a time, without its line feed. Implementations are
// thread-safe.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void Log(LogLevel level, absl::string_view line) = 0;

  void Info(absl::string_view line) { Log(LogLevel::kInfo, line); }
  void Warning(absl::string_view line) { Log(LogLevel::kWarning, line); }
};

// Drops everything.
class NullLogSink : public LogSink {
 public:
  void Log(LogLevel, absl::string_view) override {}
};

// Writes to `stream`, which must outlive it; warnings begin "warning: ".
class StreamLogSink : public LogSink {
 public:
  explicit StreamLogSink(FILE* stream) : stream_(stream) {}
  void Log(LogLevel level, absl::string_view line) override {
    const std::string text =
        std::string(level == LogLevel::kWarning ? "warning: " : "") +
        std::string(line) + "\n";
    // One call a line, so that lines of several threads do not mix.
    (void)!std::fwrite(text.data(), 1, text.size(), stream_);
  }

 private:
  FILE* stream_;
};

// Keeps everything, for tests and reports.
class MemoryLogSink : public LogSink {
 public:
  struct Line {
    LogLevel level;
    std::string text;
  };

  void Log(LogLevel level, absl::string_view line) override {
    std::lock_guard<std::mutex> lock(mutex_);
    lines_.push_back({level, std::string(line)});
  }
  std::vector<Line> lines() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Line> lines_;
};

}  // namespace qeff

#endif  // QEFF_UTIL_LOG_SINK_H_
