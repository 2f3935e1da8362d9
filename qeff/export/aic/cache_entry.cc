// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/cache_entry.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "qeff/export/aic/entry_marker.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

namespace fs = std::filesystem;

// There while a process makes the entry, which holds it by flock; a killed one
// leaves it.
constexpr char kLock[] = "qeff_entry.lock";
constexpr char kCompilationPrefix[] = "qpc-";
constexpr size_t kHashDigits = 16;

absl::Status FolderError(const std::string& path, absl::string_view operation,
                         const std::error_code& error) {
  return OutputError(path, operation, error.value());
}

// Whether `name` is what makes a folder an entry, not a file of it: the marker,
// one that a killed process was writing, or the lock.
bool IsOfEntry(const std::string& name) {
  return name == kMarkerName || name == kLock ||
         absl::StartsWith(name, absl::StrCat(".", kMarkerName, ".tmp."));
}

// Whether there is anything in `folder` but those.
bool HasFiles(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!IsOfEntry(entry.path().filename())) return true;
  }
  return bool{error};
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

// Whether `name` ends in "-" and a hash.
bool IsEntryName(absl::string_view name) {
  if (name.size() <= kHashDigits ||
      name[name.size() - kHashDigits - 1] != '-') {
    return false;
  }
  name.remove_prefix(name.size() - kHashDigits);
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
           (c >= 'a' && c <= 'f');
  });
}

bool IsCompilation(const fs::path& path) {
  const std::string name = path.filename();
  return absl::StartsWith(name, kCompilationPrefix) && IsEntryName(name);
}

// Calls visit(path, name in the entry) for each file of an entry, but for those
// of IsOfEntry and for entries inside.
template <typename Visit>
absl::Status VisitFiles(const std::string& folder, const Visit& visit) {
  std::error_code error;
  fs::recursive_directory_iterator files(folder, error), end;
  while (!error && files != end) {
    const fs::path path = files->path();
    std::error_code dangling;
    if (files->is_directory(dangling)) {
      if (IsCompilation(path)) files.disable_recursion_pending();
    } else {
      const std::string name = path.lexically_relative(folder);
      if (!IsOfEntry(name)) QEFF_RETURN_IF_ERROR(visit(path.string(), name));
    }
    if (!error) files.increment(error);
  }
  return error ? FolderError(folder, "list", error) : absl::OkStatus();
}

// Whether a file of that name is, or belongs to, a compiled program.
bool IsOfProgram(absl::string_view name) {
  return absl::StartsWith(name, "qpc/");
}

// kInvalidArgument naming a file of the entry that is not in `records`. A
// bundle may have been compiled by its script since.
absl::Status CheckNothingElse(const std::string& folder,
                              const FileRecords& records) {
  const bool compiled =
      std::any_of(records.begin(), records.end(),
                  [](const auto& item) { return IsOfProgram(item.first); });
  return VisitFiles(
      folder,
      [&](const std::string& path, const std::string& name) -> absl::Status {
        if (records.count(name) > 0 || (!compiled && IsOfProgram(name))) {
          return absl::OkStatus();
        }
        return InvalidInputError(path, ": expected no file of this name");
      });
}

absl::Status CheckEntry(const std::string& folder, const FileRecords& records,
                        Reading reading) {
  QEFF_RETURN_IF_ERROR(CheckNothingElse(folder, records));
  return CheckFiles(folder, records, reading);
}

absl::Status SyncFile(const std::string& path) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) {
    return OutputError(path, "sync", errno);
  }
  return absl::OkStatus();
}

// Locks the entry in `folder`; invalid, with errno, when that is not possible.
// A file system without locks goes unprotected.
FileDescriptor Lock(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kLock);
  FileDescriptor fd(
      open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!fd.valid()) return fd;
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) fd.Close();
    return fd;
  }
  // Whoever held it may have removed it meanwhile.
  struct stat opened, there;
  if (fstat(fd.get(), &opened) != 0 || stat(path.c_str(), &there) != 0 ||
      opened.st_ino != there.st_ino) {
    fd.Close();
    errno = EWOULDBLOCK;
  }
  return fd;
}

absl::Status LockError(const std::string& folder) {
  return errno == EWOULDBLOCK
             ? absl::UnavailableError(absl::StrCat(
                   folder, ": another process is making this entry"))
             : OutputError(folder, "lock", errno);
}

absl::Time LastWritten(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return absl::InfinitePast();
  return absl::TimeFromTimespec(info.st_mtim);
}

}  // namespace

absl::string_view EntryStateName(EntryState state) {
  switch (state) {
    case EntryState::kMissing:
      return "missing";
    case EntryState::kForeign:
      return "foreign";
    case EntryState::kUnfinished:
      return "unfinished";
    case EntryState::kDamaged:
      return "damaged";
    case EntryState::kComplete:
      return "complete";
  }
  return "";
}

EntryState LookAtEntry(const std::string& folder) {
  if (!Exists(folder)) return EntryState::kMissing;
  if (!Exists(MarkerOf(folder))) {
    return HasFiles(folder) ? EntryState::kForeign : EntryState::kMissing;
  }
  const absl::StatusOr<FileRecords> records = ReadMarker(folder);
  if (absl::IsFailedPrecondition(records.status())) {
    return EntryState::kUnfinished;
  }
  return records.ok() && CheckEntry(folder, *records, Reading::kChanged).ok()
             ? EntryState::kComplete
             : EntryState::kDamaged;
}

bool EntryHas(const std::string& folder, const std::string& name) {
  const absl::StatusOr<FileRecords> records = ReadMarker(folder);
  return records.ok() && records->count(name) > 0;
}

void MarkUsed(const std::string& folder) {
  (void)utimensat(AT_FDCWD, MarkerOf(folder).c_str(), nullptr, 0);
}

absl::Status VerifyEntry(const std::string& folder) {
  if (!Exists(MarkerOf(folder))) {
    return InvalidInputError(folder, ": not an entry of the cache");
  }
  absl::StatusOr<FileRecords> records = ReadMarker(folder);
  if (absl::IsFailedPrecondition(records.status())) {
    return InvalidInputError(records.status().message());
  }
  const absl::Status status = records.ok()
                                  ? CheckEntry(folder, *records, Reading::kAll)
                                  : records.status();
  if (absl::IsInvalidArgument(status)) {
    QEFF_RETURN_IF_ERROR(WriteMarker(folder, nullptr));
  }
  return status;
}

absl::StatusOr<std::unique_ptr<EntryBuilder>> EntryBuilder::Begin(
    const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return FolderError(folder, "create", error);
  if (LookAtEntry(folder) == EntryState::kForeign) {
    return absl::AlreadyExistsError(absl::StrCat(
        folder, ": expected an entry of the cache, found files without ",
        kMarkerName, ", which are not replaced; move the folder away"));
  }
  FileDescriptor lock = Lock(folder);
  if (!lock.valid()) return LockError(folder);
  if (fs::is_directory(MarkerOf(folder), error)) {
    fs::remove_all(MarkerOf(folder), error);  // damage, which no file replaces
  }
  // First of all: files without a marker would be foreign.
  QEFF_RETURN_IF_ERROR(WriteMarker(folder, nullptr));
  for (const fs::path& path : fs::directory_iterator(folder, error)) {
    if (IsOfEntry(path.filename())) continue;
    fs::remove_all(path, error);
    if (error) return FolderError(path, "remove", error);
  }
  if (error) return FolderError(folder, "list", error);
  return std::unique_ptr<EntryBuilder>(
      new EntryBuilder(folder, std::move(lock)));
}

absl::Status EntryBuilder::Write(const std::string& name,
                                 absl::string_view content) {
  return WriteFileAtomically(absl::StrCat(folder_, "/", name), content);
}

absl::Status EntryBuilder::Commit() {
  FileRecords records;
  QEFF_RETURN_IF_ERROR(VisitFiles(
      folder_, [&records](const std::string& path, const std::string& name) {
        QEFF_RETURN_IF_ERROR(SyncFile(path));
        QEFF_ASSIGN_OR_RETURN(records[name], RecordOf(path));
        return SyncFile(fs::path(path).parent_path());
      }));
  QEFF_RETURN_IF_ERROR(WriteMarker(folder_, &records));
  std::error_code error;
  fs::remove(absl::StrCat(folder_, "/", kLock), error);
  lock_.Close();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<EntryInfo>> ListEntries(const std::string& root) {
  std::vector<EntryInfo> entries;
  std::error_code error;
  if (!Exists(root)) return entries;
  fs::recursive_directory_iterator folders(root, error), end;
  while (!error && folders != end) {
    const std::string path = folders->path();
    const bool is_folder =
        folders->is_directory(error) && !folders->is_symlink(error);
    if (is_folder && IsEntryName(folders->path().filename().string())) {
      EntryInfo info;
      info.folder = path;
      info.state = LookAtEntry(path);
      info.used = LastWritten(Exists(MarkerOf(path)) ? MarkerOf(path) : path);
      QEFF_RETURN_IF_ERROR(VisitFiles(
          path, [&info](const std::string& file, const std::string&) {
            std::error_code gone;
            const uint64_t bytes = fs::file_size(file, gone);
            if (!gone) info.bytes += bytes;
            return absl::OkStatus();
          }));
      entries.push_back(std::move(info));
    }
    if (IsCompilation(folders->path())) folders.disable_recursion_pending();
    if (!error) folders.increment(error);
  }
  if (error) return FolderError(root, "list", error);
  std::sort(entries.begin(), entries.end(),
            [](const EntryInfo& a, const EntryInfo& b) {
              return a.folder < b.folder;
            });
  return entries;
}

absl::Status RemoveEntry(const std::string& folder) {
  const EntryState state = LookAtEntry(folder);
  if (state == EntryState::kForeign || state == EntryState::kMissing) {
    return InvalidInputError(folder, ": expected an entry of the cache, found ",
                             EntryStateName(state));
  }
  const FileDescriptor lock = Lock(folder);
  if (!lock.valid()) return LockError(folder);
  std::error_code error;
  // The marker last: without it what a killed process leaves would be foreign.
  for (const fs::path& path : fs::directory_iterator(folder, error)) {
    if (IsOfEntry(path.filename())) continue;
    fs::remove_all(path, error);
    if (error) return FolderError(path, "remove", error);
  }
  if (!error) fs::remove_all(folder, error);
  return error ? FolderError(folder, "remove", error) : absl::OkStatus();
}

}  // namespace qeff
