// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/status.h"

#include <cerrno>
#include <cstring>
#include <string>

namespace qeff {

int ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kPermissionDenied:
      return kExitIo;
    case absl::StatusCode::kResourceExhausted:
      return kExitResource;
    case absl::StatusCode::kDataLoss:
      return kExitNumerical;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    default:
      return kExitInvalidInput;
  }
}

absl::Status IoError(absl::string_view path, absl::string_view operation,
                     int error_number) {
  const std::string message = absl::StrCat(
      path, ": ", operation, " failed: ", std::strerror(error_number));
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok() || context.empty()) return status;
  absl::Status annotated(status.code(),
                         absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

}  // namespace qeff
