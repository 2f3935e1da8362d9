// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/sdk_version.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

TEST(BaseVersionTest, ReadsTheElement) {
  EXPECT_EQ(BaseVersion("<versions><ci_build><base_version> 1.20.2 "
                        "</base_version><build_id>7</build_id></ci_build>"),
            "1.20.2");
  for (const char* xml : {"", "<base_version>1.2", "<version>1.2</version>",
                          "<base_version>$(rm)</base_version>"}) {
    EXPECT_EQ(BaseVersion(xml), "") << xml;
  }
}

TEST(SdkVersionsOfTest, LooksBesideTheCompilersFolder) {
  const std::string sdk = MakeTestFolder();
  std::filesystem::create_directory(sdk + "/exec");
  std::filesystem::create_directory(sdk + "/versions");
  WriteTestFile(sdk + "/versions/apps.xml",
                "<base_version>1.21.0.3</base_version>");
  const SdkVersions versions = SdkVersionsOf(sdk + "/exec/qaic-compile");
  EXPECT_EQ(versions.apps, "1.21.0.3");
  EXPECT_EQ(versions.platform, "");
  EXPECT_EQ(SdkVersionsOf("qaic-compile").apps, "");
}

}  // namespace
}  // namespace qeff
