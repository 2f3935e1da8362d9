// SPDX-License-Identifier: Apache-2.0

#include "tools/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

namespace qeff {

void OccupyStandardStreams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free descriptor, hence `fd`. Open the other way round, so that
    // a result that nobody can read is an error and not thrown away.
    (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace qeff
