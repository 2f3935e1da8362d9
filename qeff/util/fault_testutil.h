// SPDX-License-Identifier: Apache-2.0
//
// Disks that fail and processes that die, for tests of what writes files: a
// test that links this has its own open, write, fsync, rename, unlink, ...
// before those of the C library, and chooses the one at which something
// happens. Calls are counted from 1 from the last of these functions on, by all
// threads of this process: those that make, resize, write, sync, rename and
// remove files and folders, whether this program or the C++ library makes them
// (fopen and what is made of it is not seen). fsync is counted and does
// nothing: whoever is killed loses nothing that was written.

#ifndef QEFF_UTIL_FAULT_TESTUTIL_H_
#define QEFF_UTIL_FAULT_TESTUTIL_H_

#include <string>

namespace qeff {

// All calls do what they always do.
void CountFileCalls();

// How many there were.
int FileCalls();

// From the nth call on, those that need space (not truncation, renaming and
// removal) fail with `error_number`: ENOSPC is a full disk, EROFS one that
// became read-only.
void FailFileCallsFrom(int nth, int error_number);

// The nth call fails with `error_number`.
void FailFileCall(int nth, int error_number);

// SIGKILL in place of the nth call.
void KillAtFileCall(int nth);

// Makes `folder`, for this process and its children, a file system of its own
// with room for `bytes` bytes and `files` files and folders, 0: any number.
// False where that is not allowed; then nothing has changed. For processes of
// one thread, which a new child is.
bool MountSmallDisk(const std::string& folder, long long bytes, int files = 0);

// Makes the file system at `folder`, which MountSmallDisk has made, read-only.
bool MakeReadOnly(const std::string& folder);

}  // namespace qeff

#endif  // QEFF_UTIL_FAULT_TESTUTIL_H_
