// SPDX-License-Identifier: Apache-2.0

#include "tools/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "gtest/gtest.h"

namespace qeff {
namespace {

// Exits with 0 when the next file gets a descriptor of its own and the closed
// streams still fail.
void OpenAFileWithClosedStreams() {
  for (int fd = 0; fd < 3; ++fd) close(fd);
  OccupyStandardStreams();
  char byte = 0;
  const bool fails =
      read(0, &byte, 1) < 0 && write(1, &byte, 1) < 0 && write(2, &byte, 1) < 0;
  const int fd = open("/dev/zero", O_RDWR);
  std::_Exit(fd > 2 && fails ? 0 : 1);
}

TEST(StandardStreamsDeathTest, ClosedOnesAreTaken) {
  EXPECT_EXIT(OpenAFileWithClosedStreams(), ::testing::ExitedWithCode(0), "");
}

TEST(StandardStreamsTest, OpenOnesAreLeftAlone) {
  OccupyStandardStreams();
  EXPECT_EQ(write(STDERR_FILENO, "", 0), 0);
}

}  // namespace
}  // namespace qeff
