// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/journal.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{256} << 20;

// The first member in which two descriptions differ.
absl::Status Differs(const std::string& path, const Json& found,
                     const Json& expected) {
  for (const auto& member : expected.items()) {
    const auto it = found.find(member.key());
    if (it != found.end() && *it == member.value()) continue;
    return InvalidInputError(
        path, ": belongs to a run with another ", member.key(), ": expected ",
        JsonForMessage(member.value()), ", found ",
        it == found.end() ? "none" : JsonForMessage(*it),
        "; give the same options, or --restart to begin anew");
  }
  return InvalidInputError(path,
                           ": belongs to another run; --restart begins "
                           "anew");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(
    const std::string& path, const Json& description) {
  FileDescriptor fd(
      open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!fd.valid()) return OutputError(path, "open", errno);
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(path, kMaxBytes));
  std::unique_ptr<Journal> journal(
      new Journal(OutputFile(std::move(fd), path)));
  QEFF_RETURN_IF_ERROR(journal->Read(text, description));
  return journal;
}

absl::Status Journal::Read(const std::string& text, const Json& description) {
  // Numbers as they look after they were written and read.
  QEFF_ASSIGN_OR_RETURN(const Json expected,
                        ParseJson(description.dump(), file_.path()));
  bool described = false;
  for (size_t end; (end = text.find('\n', end_bytes_)) != std::string::npos;
       end_bytes_ = end + 1) {
    QEFF_ASSIGN_OR_RETURN(
        Json line,
        ParseJson(text.substr(end_bytes_, end - end_bytes_),
                  absl::StrCat(file_.path(), ": line ", steps_.size() + 1)));
    if (described) {
      steps_.push_back(std::move(line));
    } else if (line != expected) {
      return Differs(file_.path(), line, expected);
    }
    described = true;
  }
  // A line that was cut off must not become the beginning of the next.
  QEFF_RETURN_IF_ERROR(file_.Resize(end_bytes_));
  return described ? absl::OkStatus() : WriteLine(description);
}

absl::Status Journal::WriteLine(const Json& value) {
  const std::string line = absl::StrCat(value.dump(), "\n");
  QEFF_RETURN_IF_ERROR(file_.Write(end_bytes_, AsBytes(line)));
  end_bytes_ += line.size();
  return file_.Sync();
}

absl::Status Journal::Append(const Json& step) {
  QEFF_RETURN_IF_ERROR(WriteLine(step));
  steps_.push_back(step);
  return absl::OkStatus();
}

}  // namespace qeff
