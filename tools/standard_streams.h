// SPDX-License-Identifier: Apache-2.0
//
// What a program may find at its descriptors 0, 1 and 2.

#ifndef QEFF_TOOLS_STANDARD_STREAMS_H_
#define QEFF_TOOLS_STANDARD_STREAMS_H_

namespace qeff {

// Takes those of the descriptors 0, 1 and 2 that are closed: otherwise the next
// file that is opened becomes stdout, and messages are written into a model.
// Reading and writing them still fails. Call it first thing in main.
void OccupyStandardStreams();

}  // namespace qeff

#endif  // QEFF_TOOLS_STANDARD_STREAMS_H_
