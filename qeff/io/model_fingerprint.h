// SPDX-License-Identifier: Apache-2.0
//
// Telling models apart.

#ifndef QEFF_IO_MODEL_FINGERPRINT_H_
#define QEFF_IO_MODEL_FINGERPRINT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/checkpoint.h"

namespace qeff {

// 64 bits of `text`, in hexadecimal.
std::string Fingerprint(absl::string_view text);

// Of the configuration, and of the names, types, shapes and beginnings (4 KiB)
// of all tensors: without reading the model, for work that is resumed. Errors:
// those of Checkpoint::Get.
absl::StatusOr<std::string> ModelFingerprint(const Checkpoint& checkpoint);

// As ModelFingerprint, but of all bytes: for results that are kept, and found
// again by it. Reads the model once; pages are released behind.
absl::StatusOr<std::string> ModelContentFingerprint(
    const Checkpoint& checkpoint);

}  // namespace qeff

#endif  // QEFF_IO_MODEL_FINGERPRINT_H_
