// SPDX-License-Identifier: Apache-2.0
//
// The file that says whether a folder of the cache is complete, and of what.
// What it means is in cache_entry.h.

#ifndef QEFF_EXPORT_AIC_ENTRY_MARKER_H_
#define QEFF_EXPORT_AIC_ENTRY_MARKER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qeff {

inline constexpr char kMarkerName[] = "qeff_entry.json";

// Where the marker of `folder` is.
std::string MarkerOf(const std::string& folder);

struct FileRecord {
  uint64_t bytes;
  std::vector<std::string> checksums;  // XXH64 of each 256 MiB
  int64_t modified_ns = 0;             // when it was written last, since 1970
};
using FileRecords = std::map<std::string, FileRecord>;  // by name in the folder

// The files of a complete entry. Errors: kFailedPrecondition for one that is
// unfinished; kNotFound; kInvalidArgument when the marker is broken.
absl::StatusOr<FileRecords> ReadMarker(const std::string& folder);

// Marks `folder` as complete with `records`, or with null as unfinished.
// Errors: those of WriteFileAtomically.
absl::Status WriteMarker(const std::string& folder, const FileRecords* records);

// Reads the file `path`. Errors: those of MappedFile::Open.
absl::StatusOr<FileRecord> RecordOf(const std::string& path);

// How much of the files of an entry is read.
enum class Reading {
  kChanged,  // those that were written since they were recorded
  kAll,
};

// Compares the files in `folder` with their records. Errors: kInvalidArgument
// naming the first that is missing or no file, has another size, or differs in
// what is read; those of RecordOf.
absl::Status CheckFiles(const std::string& folder, const FileRecords& records,
                        Reading reading);

// kInvalidArgument naming where the file `path`, of the right size, differs.
absl::Status CompareContent(const std::string& path, const FileRecord& expected,
                            const FileRecord& found);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_ENTRY_MARKER_H_
