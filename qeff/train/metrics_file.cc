// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/metrics_file.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

// The bytes of the lines of `text` up to `step`.
absl::StatusOr<uint64_t> BytesUntil(const std::string& path,
                                    const std::string& text, int64_t step) {
  uint64_t begin = 0;
  int64_t lines = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    ++lines;
    const std::string where = absl::StrCat(path, ": line ", lines);
    QEFF_ASSIGN_OR_RETURN(const Json line,
                          ParseJson(text.substr(begin, end - begin), where));
    if (!line.is_object() || !line.contains("step") ||
        !line["step"].is_number_integer()) {
      return InvalidInputError(where,
                               ": expected the metrics of a step, found ",
                               JsonForMessage(line));
    }
    if (line["step"].get<int64_t>() > step) break;
  }
  return begin;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Open(
    const std::string& path, int64_t step) {
  std::unique_ptr<MetricsFile> result(new MetricsFile());
  if (path.empty()) return result;
  FileDescriptor fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!fd.valid()) return OutputError(path, "open", errno);
  if (step > 0) {
    QEFF_ASSIGN_OR_RETURN(const std::string text,
                          ReadFileToString(path, kMaxBytes));
    QEFF_ASSIGN_OR_RETURN(result->end_bytes_, BytesUntil(path, text, step));
  }
  result->file_ = std::make_unique<OutputFile>(std::move(fd), path);
  QEFF_RETURN_IF_ERROR(result->file_->Resize(result->end_bytes_));
  return result;
}

absl::Status MetricsFile::Append(const Json& values) {
  if (file_ == nullptr) return absl::OkStatus();
  const std::string line = absl::StrCat(values.dump(), "\n");
  QEFF_RETURN_IF_ERROR(file_->Write(end_bytes_, AsBytes(line)));
  end_bytes_ += line.size();
  return absl::OkStatus();
}

absl::Status MetricsFile::Sync() {
  return file_ == nullptr ? absl::OkStatus() : file_->Sync();
}

}  // namespace qeff
