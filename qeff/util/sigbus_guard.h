// SPDX-License-Identifier: Apache-2.0
//
// For the main function of commands: a mapped file that shrinks or whose disk
// fails while it is read raises SIGBUS. Libraries never install this.

#ifndef QEFF_UTIL_SIGBUS_GUARD_H_
#define QEFF_UTIL_SIGBUS_GUARD_H_

namespace qeff {

// From now on, a read of a mapped file that has no such bytes any more ends
// the process with exit code 4 and, on stderr, the line
//   "PATH: file changed while reading (or its disk failed)".
// Any other SIGBUS acts as before. Nothing is cleaned up: temporaries of
// atomic_file.h and atomic_folder.h stay until the next run on that output.
void InstallSigbusGuard();

}  // namespace qeff

#endif  // QEFF_UTIL_SIGBUS_GUARD_H_
