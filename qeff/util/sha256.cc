// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/sha256.h"

#include "absl/strings/escaping.h"
#include "openssl/sha.h"

namespace qeff {

std::string Sha256Hex(absl::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         digest);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
}

}  // namespace qeff
