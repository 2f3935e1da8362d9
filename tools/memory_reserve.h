// SPDX-License-Identifier: Apache-2.0
//
// What a program keeps back for the moment when memory is out.

#ifndef QEFF_TOOLS_MEMORY_RESERVE_H_
#define QEFF_TOOLS_MEMORY_RESERVE_H_

namespace qeff {

// Keeps 1 MiB of addresses back. The first operator new that finds no memory
// gives them to the process again before it throws std::bad_alloc: what unwinds
// and reports has room for messages, and the stack for its frames. Call it
// once, first thing in main.
void KeepMemoryReserve();

}  // namespace qeff

#endif  // QEFF_TOOLS_MEMORY_RESERVE_H_
