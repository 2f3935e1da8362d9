// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/model_fingerprint.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "qeff/util/checksum.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Reads `bytes_of_tensor` of each.
absl::StatusOr<std::string> FingerprintOf(const Checkpoint& checkpoint,
                                          size_t bytes_of_tensor) {
  std::string text = checkpoint.config().dump();
  for (const TensorInfo& info : checkpoint.tensors()) {
    QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint.Get(info.name));
    absl::StrAppend(&text, "\n", info.name, " ", DTypeName(info.dtype),
                    info.shape.ToString(), " ",
                    absl::Hex(Checksum64(view.bytes.subspan(
                        0, std::min(bytes_of_tensor, view.bytes.size())))));
    if (bytes_of_tensor >= view.bytes.size()) checkpoint.Release(view);
  }
  return Fingerprint(text);
}

}  // namespace

std::string Fingerprint(absl::string_view text) {
  return absl::StrCat(absl::Hex(Checksum64(AsBytes(text))));
}

absl::StatusOr<std::string> ModelFingerprint(const Checkpoint& checkpoint) {
  constexpr size_t kBytesOfTensor = 4096;
  return FingerprintOf(checkpoint, kBytesOfTensor);
}

absl::StatusOr<std::string> ModelContentFingerprint(
    const Checkpoint& checkpoint) {
  return FingerprintOf(checkpoint, std::numeric_limits<size_t>::max());
}

}  // namespace qeff
