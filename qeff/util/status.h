// SPDX-License-Identifier: Apache-2.0
//
// Macros and constructors for absl::Status, and the mapping from a status to
// the exit code of a command. Everything that a user, a file or a model can
// cause is reported through these; see check.h for programmer errors.

#ifndef QEFF_UTIL_STATUS_H_
#define QEFF_UTIL_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace qeff {

// Exit codes of every command.
enum ExitCode : int {
  kExitOk = 0,
  kExitUsage = 2,
  kExitInvalidInput = 3,
  kExitIo = 4,
  kExitResource = 5,
  kExitNumerical = 6,
  kExitInterrupted = 130,
};

// Returns the exit code that stands for `status`:
//   kUnavailable, kPermissionDenied -> I/O; kResourceExhausted -> resource;
//   kDataLoss -> numerical; kCancelled -> interrupted; kOk -> 0; else invalid
//   input. Usage errors are found by the flag parser, which exits with 2.
int ExitCodeFor(const absl::Status& status);

// What a file, a flag's value or a model contains is wrong.
template <typename... Args>
absl::Status InvalidInputError(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

// A system call on `path` failed with `error_number` (an errno value); the
// message reads "PATH: OPERATION failed: STRERROR". The code is kNotFound for
// ENOENT and ENOTDIR, kAlreadyExists for EEXIST, kResourceExhausted for ENOMEM
// and EMFILE, and kUnavailable (an I/O error, also for a full disk) otherwise.
absl::Status IoError(absl::string_view path, absl::string_view operation,
                     int error_number);

// A computation produced or met a value that is not finite, or diverged.
template <typename... Args>
absl::Status NumericalError(const Args&... args) {
  return absl::DataLossError(absl::StrCat(args...));
}

// Returns `status` with "CONTEXT: " before its message; OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

}  // namespace qeff

// Returns from the calling function when `expr` is not OK. An optional second
// argument is a context that is put before the message.
#define QEFF_RETURN_IF_ERROR(expr, ...)                                        \
  do {                                                                         \
    const absl::Status qeff_status_ = (expr);                                  \
    if (!qeff_status_.ok()) {                                                  \
      return ::qeff::internal_status::AnnotateIf(qeff_status_, ##__VA_ARGS__); \
    }                                                                          \
  } while (false)

// Assigns the value of the StatusOr `expr` to `lhs` (which may declare a
// variable) or returns its status from the calling function.
#define QEFF_ASSIGN_OR_RETURN(lhs, expr, ...)                                 \
  QEFF_ASSIGN_OR_RETURN_IMPL_(QEFF_STATUS_CONCAT_(qeff_status_or_, __LINE__), \
                              lhs, expr, ##__VA_ARGS__)

#define QEFF_STATUS_CONCAT_INNER_(a, b) a##b
#define QEFF_STATUS_CONCAT_(a, b) QEFF_STATUS_CONCAT_INNER_(a, b)
#define QEFF_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr, ...)     \
  auto statusor = (expr);                                         \
  if (!statusor.ok()) {                                           \
    return ::qeff::internal_status::AnnotateIf(statusor.status(), \
                                               ##__VA_ARGS__);    \
  }                                                               \
  lhs = *std::move(statusor)

namespace qeff {
namespace internal_status {

inline absl::Status AnnotateIf(const absl::Status& status) { return status; }
inline absl::Status AnnotateIf(const absl::Status& status,
                               absl::string_view context) {
  return Annotate(status, context);
}

}  // namespace internal_status
}  // namespace qeff

#endif  // QEFF_UTIL_STATUS_H_
