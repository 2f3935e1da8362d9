// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/entry_marker.h"

#include <sys/stat.h>

#include <filesystem>
#include <limits>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/checksum.h"
#include "qeff/util/json.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int kSchema = 1;
constexpr uint64_t kMaxMarkerBytes = 64 << 20;
// Has a checksum of its own, so that a large file need not be in memory.
constexpr size_t kPieceBytes = size_t{256} << 20;

int64_t ModifiedNs(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return 0;
  return absl::ToUnixNanos(absl::TimeFromTimespec(info.st_mtim));
}

}  // namespace

std::string MarkerOf(const std::string& folder) {
  return absl::StrCat(folder, "/", kMarkerName);
}

absl::StatusOr<FileRecords> ReadMarker(const std::string& folder) {
  const std::string path = MarkerOf(folder);
  QEFF_ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxMarkerBytes));
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader marker,
                        JsonObjectReader::Create(json, path));
  QEFF_RETURN_IF_ERROR(marker.Int("schema", kSchema, kSchema).status());
  QEFF_ASSIGN_OR_RETURN(const bool complete, marker.BoolOr("complete", false));
  if (!complete) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, ": was not finished"));
  }
  QEFF_ASSIGN_OR_RETURN(const auto files, marker.ObjectOr("files"));
  FileRecords records;
  if (!files.has_value()) return marker.Unexpected("files", "an object");
  for (const auto& [name, value] : files->object().items()) {
    QEFF_ASSIGN_OR_RETURN(
        const JsonObjectReader file,
        JsonObjectReader::Create(value, absl::StrCat(path, ": files: ", name)));
    FileRecord& record = records[name];
    QEFF_ASSIGN_OR_RETURN(const int64_t bytes,
                          file.Int("bytes", 0, int64_t{1} << 53));
    record.bytes = static_cast<uint64_t>(bytes);
    QEFF_ASSIGN_OR_RETURN(
        record.modified_ns,
        file.Int("modified_ns", std::numeric_limits<int64_t>::min(),
                 std::numeric_limits<int64_t>::max()));
    const Json* checksums = file.Find("checksums");
    if (checksums == nullptr || !checksums->is_array()) {
      return file.Unexpected("checksums", "a list");
    }
    for (const Json& checksum : *checksums) {
      if (!checksum.is_string()) return file.Unexpected("checksums", "texts");
      record.checksums.push_back(checksum.get<std::string>());
    }
  }
  return records;
}

absl::Status WriteMarker(const std::string& folder,
                         const FileRecords* records) {
  Json marker = {{"schema", kSchema}, {"complete", records != nullptr}};
  if (records != nullptr) {
    marker["files"] = Json::object();
    for (const auto& [name, record] : *records) {
      marker["files"][name] = {{"bytes", record.bytes},
                               {"checksums", record.checksums},
                               {"modified_ns", record.modified_ns}};
    }
  }
  return WriteFileAtomically(MarkerOf(folder), WriteJson(marker));
}

absl::StatusOr<FileRecord> RecordOf(const std::string& path) {
  FileRecord record = {};
  // Before it is read: what is written meanwhile is later than that.
  record.modified_ns = ModifiedNs(path);
  QEFF_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  record.bytes = file->size_bytes();
  for (absl::Span<const uint8_t> rest = file->bytes(); !rest.empty();) {
    const absl::Span<const uint8_t> piece = rest.subspan(0, kPieceBytes);
    record.checksums.push_back(
        absl::StrCat(absl::Hex(Checksum64(piece), absl::kZeroPad16)));
    file->Release(piece);
    rest.remove_prefix(piece.size());
  }
  return record;
}

absl::Status CompareContent(const std::string& path, const FileRecord& expected,
                            const FileRecord& found) {
  for (size_t i = 0; i < found.checksums.size(); ++i) {
    const std::string recorded =
        i < expected.checksums.size() ? expected.checksums[i] : "none";
    if (found.checksums[i] == recorded) continue;
    return InvalidInputError(path, ": from byte ", i * kPieceBytes,
                             " on: expected checksum ", recorded, ", found ",
                             found.checksums[i]);
  }
  return absl::OkStatus();
}

absl::Status CheckFiles(const std::string& folder, const FileRecords& records,
                        Reading reading) {
  // All sizes first, which is quick.
  for (const auto& [name, record] : records) {
    std::error_code error;
    const std::string path = absl::StrCat(folder, "/", name);
    const uint64_t bytes = std::filesystem::file_size(path, error);
    if (error) return InvalidInputError(path, ": ", error.message());
    if (bytes != record.bytes) {
      return InvalidInputError(path, ": expected ", record.bytes,
                               " bytes, found ", bytes);
    }
  }
  for (const auto& [name, record] : records) {
    const std::string path = absl::StrCat(folder, "/", name);
    if (reading == Reading::kChanged &&
        ModifiedNs(path) == record.modified_ns) {
      continue;
    }
    QEFF_ASSIGN_OR_RETURN(const FileRecord found, RecordOf(path));
    QEFF_RETURN_IF_ERROR(CompareContent(path, record, found));
  }
  return absl::OkStatus();
}

}  // namespace qeff
