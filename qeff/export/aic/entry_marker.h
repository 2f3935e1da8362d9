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

// kInvalidArgument naming the first file that is missing or of another size.
absl::Status CheckSizes(const std::string& folder, const FileRecords& records);

// kInvalidArgument naming where the file `path`, of the right size, differs.
absl::Status CompareContent(const std::string& path, const FileRecord& expected,
                            const FileRecord& found);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_ENTRY_MARKER_H_
