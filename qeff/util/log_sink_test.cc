// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/log_sink.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(LogSinkTest, StreamMarksWarnings) {
  FILE* stream = std::tmpfile();
  ASSERT_NE(stream, nullptr);
  StreamLogSink sink(stream);
  sink.Info("one");
  sink.Warning("two");
  std::rewind(stream);
  char text[64] = {};
  const size_t n = std::fread(text, 1, sizeof(text), stream);
  EXPECT_EQ(std::string(text, n), "one\nwarning: two\n");
  std::fclose(stream);
}

TEST(LogSinkTest, MemoryKeepsLines) {
  MemoryLogSink sink;
  sink.Warning("w");
  ASSERT_EQ(sink.lines().size(), 1u);
  EXPECT_EQ(sink.lines()[0].text, "w");
  EXPECT_EQ(sink.lines()[0].level, LogLevel::kWarning);
  NullLogSink().Info("dropped");
}

}  // namespace
}  // namespace qeff
