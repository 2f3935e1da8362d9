// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/sdk_version.h"

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "qeff/util/mapped_file.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxXmlBytes = 1 << 20;
constexpr char kBegin[] = "<base_version>";
constexpr char kEnd[] = "</base_version>";

std::string VersionIn(const std::string& path) {
  const absl::StatusOr<std::string> xml = ReadFileToString(path, kMaxXmlBytes);
  return xml.ok() ? BaseVersion(*xml) : "";
}

}  // namespace

std::string BaseVersion(absl::string_view xml) {
  const size_t tag = xml.find(kBegin);
  if (tag == absl::string_view::npos) return "";
  xml.remove_prefix(tag + sizeof(kBegin) - 1);
  const size_t end = xml.find(kEnd);
  if (end == absl::string_view::npos) return "";
  const absl::string_view version =
      absl::StripAsciiWhitespace(xml.substr(0, end));
  return version.find_first_not_of("0123456789.") == absl::string_view::npos
             ? std::string(version)
             : "";
}

SdkVersions SdkVersionsOf(const std::string& compiler) {
  const size_t slash = compiler.rfind('/');
  if (slash == std::string::npos) return SdkVersions();
  const std::string folder =
      absl::StrCat(compiler.substr(0, slash), "/../versions/");
  return SdkVersions{VersionIn(absl::StrCat(folder, "apps.xml")),
                     VersionIn(absl::StrCat(folder, "platform.xml"))};
}

}  // namespace qeff
