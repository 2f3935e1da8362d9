// SPDX-License-Identifier: Apache-2.0
//
// Removing files and folders without memory, from a stack of 5 KiB a level: for
// destructors, which also run when memory is out.

#ifndef QEFF_UTIL_REMOVE_TREE_H_
#define QEFF_UTIL_REMOVE_TREE_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"

namespace qeff {

// Removes what is called `name` in the open folder `parent`: a file, or a
// folder with all that is in it. With AT_FDCWD `name` may be any path. Best
// effort; follows no links. Allocates nothing; thread-safe.
void RemoveTree(int parent, const char* name);

// Removes the entries of the open folder `folder`, and all that is in folders
// among them, but for those named in `but`. As RemoveTree otherwise.
void RemoveEntries(int folder, const std::vector<std::string>& but = {});

// Calls `visit` with the name of each entry of the open folder `folder`,
// without "." and "..". It may remove entries. What cannot be read is left out.
// Allocates nothing; thread-safe.
void ForEachEntry(int folder, absl::FunctionRef<void(const char* name)> visit);

}  // namespace qeff

#endif  // QEFF_UTIL_REMOVE_TREE_H_
