// SPDX-License-Identifier: Apache-2.0
//
// PackageHeader to its message and back.

#ifndef QEFF_DEVICE_PACKAGE_HEADER_MESSAGE_H_
#define QEFF_DEVICE_PACKAGE_HEADER_MESSAGE_H_

#include "absl/status/statusor.h"
#include "qeff/device/package/package.pb.h"
#include "qeff/device/package/package_header.h"

namespace qeff {

// Everything but file_bytes. Preconditions: layouts and kv_cache are of types
// that the message has (kernels have no others).
proto::PackageHeader PackageHeaderToMessage(const PackageHeader& header);

// The inverse: everything but file_bytes, with each tensor's layout as it is
// created from checked fields. Errors: kInvalidArgument naming field or tensor
// for what is missing, unknown or out of range. Places in the file, and whether
// tensors and spec fit together, are not looked at.
absl::StatusOr<PackageHeader> PackageHeaderFromMessage(
    const proto::PackageHeader& message);

}  // namespace qeff

#endif  // QEFF_DEVICE_PACKAGE_HEADER_MESSAGE_H_
