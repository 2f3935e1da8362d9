// SPDX-License-Identifier: Apache-2.0
//
// Temporary files and folders beside the path that they will replace: what
// atomic_file.h and atomic_folder.h share. A temporary of output NAME is called
// `.NAME.tmp.PID.RANDOM` and is held by flock while its process lives, so that
// the next run can tell a leftover of a killed run from a live one.

#ifndef QEFF_UTIL_ATOMIC_TEMPORARY_H_
#define QEFF_UTIL_ATOMIC_TEMPORARY_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace internal_atomic {

enum class Kind { kFile, kFolder };

// Whether another live process may work on the same output.
enum class Sharing { kExclusive, kShared };

// A temporary and the open folder it lies in. Moves; removes nothing by
// itself.
struct Temporary {
  FileDescriptor parent;
  std::string parent_path;
  std::string target_name;  // final name, inside the parent
  std::string name;         // present name, inside the parent
  FileDescriptor fd;        // the file (read and write) or the folder

  std::string path() const { return parent_path + "/" + name; }
  std::string target_path() const { return parent_path + "/" + target_name; }
};

// Creates a temporary for the output `path`, and removes those that killed
// runs have left for it. Errors: kInvalidArgument when `path` names no entry of
// a folder (empty, "/", ".."); kUnavailable when the parent is missing or not
// writable or, unless kShared, a live process holds a temporary of this output
// (its process id is named); with kFolder, kAlreadyExists when something
// exists at `path`, a dangling link too; with kFile, kInvalidArgument when that
// is neither a file nor a link: a device must not be replaced.
absl::StatusOr<Temporary> CreateTemporary(const std::string& path, Kind kind,
                                          Sharing sharing);

// Parent ("." if none is given) and last component of `path`. Errors:
// kInvalidArgument when it names no entry of a folder.
absl::StatusOr<std::pair<std::string, std::string>> SplitPath(
    const std::string& path);

// Renames without ever replacing what is there. `path` is the new one, for
// messages. Errors: kAlreadyExists, kUnavailable.
absl::Status RenameToNew(int from_folder, const std::string& from,
                         int to_folder, const std::string& to,
                         absl::string_view path);

}  // namespace internal_atomic
}  // namespace qeff

#endif  // QEFF_UTIL_ATOMIC_TEMPORARY_H_
