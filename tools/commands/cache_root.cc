// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/cache_root.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

absl::StatusOr<std::string> Absolute(const std::string& path) {
  std::error_code error;
  const std::string absolute =
      std::filesystem::absolute(path, error).lexically_normal();
  if (error) return IoError(path, "find", error.value());
  return absolute;
}

}  // namespace

absl::StatusOr<std::string> CacheRoot(const std::string& given) {
  if (!given.empty()) return Absolute(given);
  const std::string qeff_home = Variable("QEFF_HOME");
  if (!qeff_home.empty()) return Absolute(qeff_home);
  const std::string cache = Variable("XDG_CACHE_HOME");
  if (!cache.empty()) return Absolute(absl::StrCat(cache, "/qeff_models"));
  const std::string home = Variable("HOME");
  if (!home.empty()) return Absolute(absl::StrCat(home, "/.cache/qeff_models"));
  return InvalidInputError(
      "the cache: expected one of QEFF_HOME, XDG_CACHE_HOME and HOME to be "
      "set, or a folder to be given");
}

}  // namespace qeff
