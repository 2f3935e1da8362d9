// SPDX-License-Identifier: Apache-2.0
//
// Folders of the cache of exports and compilations. One is complete when its
// qeff_entry.json says so, which is written last and names every file with its
// size and checksum; anything else that was begun is unfinished, and made again
// by whoever needs it. Folders without that file are not ours (QEfficient uses
// the same root) and are never removed.
//
//   ROOT/ARCHITECTURE/
//     NAME-HASH/            an export: NAME.onnx and its weights
//       qpc-HASH/           a compilation of it
//         qpc/              what the compiler wrote

#ifndef QEFF_EXPORT_AIC_CACHE_ENTRY_H_
#define QEFF_EXPORT_AIC_CACHE_ENTRY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "qeff/util/output_file.h"

namespace qeff {

enum class EntryState {
  kMissing,  // nothing, or an empty folder
  kForeign,  // without our file
  kUnfinished,
  kDamaged,  // a file is missing, changed or too much, or our file is broken
  kComplete,
};

// "missing", "foreign", ...
absl::string_view EntryStateName(EntryState state);

// What is at `folder`, by names and sizes of files, and by the content of those
// that were written since (or copied: then of all, at each call). Thread-safe.
EntryState LookAtEntry(const std::string& folder);

// Whether a complete entry holds the file `name` (with folders inside the
// entry, e.g. "qpc/programqpc.bin").
bool EntryHas(const std::string& folder, const std::string& name);

// Notes that a complete entry has been used now, for those who remove what has
// not been for long. Best effort.
void MarkUsed(const std::string& folder);

// Reads every file of an entry that is complete. An entry that turns out to be
// damaged is marked as unfinished, so that its next user makes it again.
// Errors: kInvalidArgument naming the first file that differs, is missing or
// too much, or when it is not complete; kUnavailable when a file cannot be
// read.
absl::Status VerifyEntry(const std::string& folder);

// An entry that is being made. Not thread-safe. Destroying it uncommitted
// leaves it unfinished.
class EntryBuilder {
 public:
  // Makes the folder `folder`, its parents too, locks it against other
  // processes and removes what an earlier run has left of it, entries inside
  // it included. Errors: kUnavailable when another process makes it or it
  // cannot be written; kAlreadyExists when something that is not ours is there.
  static absl::StatusOr<std::unique_ptr<EntryBuilder>> Begin(
      const std::string& folder);

  const std::string& folder() const { return folder_; }

  // Writes a file of the entry; see atomic_file.h for errors.
  absl::Status Write(const std::string& name, absl::string_view content);

  // Syncs and records all files that are there, but for entries inside.
  // At most once, and the last call. Errors: kUnavailable.
  absl::Status Commit();

 private:
  EntryBuilder(std::string folder, FileDescriptor lock)
      : folder_(std::move(folder)), lock_(std::move(lock)) {}

  const std::string folder_;
  FileDescriptor lock_;
};

struct EntryInfo {
  std::string folder;  // with the root
  EntryState state;
  uint64_t bytes = 0;  // of files that are there, entries inside not counted
  absl::Time used;     // last, by MarkUsed or being made
};

// All exports and compilations below `root`, sorted by folder; none when there
// is no root. Errors: kUnavailable when a folder cannot be read.
absl::StatusOr<std::vector<EntryInfo>> ListEntries(const std::string& root);

// Removes an entry that is ours and no process is making, entries inside it
// included. Errors: kInvalidArgument for one that is foreign or missing;
// kUnavailable when it is being made, or for a file that stays.
absl::Status RemoveEntry(const std::string& folder);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_CACHE_ENTRY_H_
