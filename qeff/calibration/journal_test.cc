// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/journal.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/mutate_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

std::string NewPath() {
  std::string pattern = ::testing::TempDir() + "/journal.XXXXXX";
  return std::string(mkdtemp(pattern.data())) + "/journal";
}

void WriteText(const std::string& path, const std::string& text) {
  FILE* file = std::fopen(path.c_str(), "w");
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

const Json kRun = {{"model", "m"}, {"damping", 0.01}, {"seed", 3}};

TEST(JournalTest, RemembersSteps) {
  const std::string path = NewPath();
  {
    auto journal = Journal::Open(path, kRun);
    ASSERT_TRUE(journal.ok()) << journal.status();
    EXPECT_TRUE((*journal)->steps().empty());
    ASSERT_TRUE((*journal)->Append({{"block", 0}}).ok());
    ASSERT_TRUE((*journal)->Append({{"block", 1}}).ok());
  }
  auto journal = Journal::Open(path, kRun);
  ASSERT_TRUE(journal.ok()) << journal.status();
  ASSERT_EQ((*journal)->steps().size(), 2u);
  EXPECT_EQ((*journal)->steps()[1]["block"], 1);
}

TEST(JournalTest, CutOffAnywhere) {
  const std::string path = NewPath();
  {
    auto journal = Journal::Open(path, kRun);
    ASSERT_TRUE((*journal)->Append({{"block", 0}}).ok());
    ASSERT_TRUE((*journal)->Append({{"block", 1}}).ok());
  }
  const std::string whole = *ReadFileToString(path, 1000);
  for (size_t size = 0; size <= whole.size(); ++size) {
    WriteText(path, whole.substr(0, size));
    size_t done;
    {
      auto journal = Journal::Open(path, kRun);
      ASSERT_TRUE(journal.ok()) << size << ": " << journal.status();
      done = (*journal)->steps().size();
      for (size_t i = done; i < 2; ++i) {
        ASSERT_TRUE((*journal)->Append({{"block", i}}).ok());
      }
    }
    EXPECT_EQ(*ReadFileToString(path, 1000), whole) << size;
    EXPECT_EQ(done, size < whole.size() ? (size >= whole.size() - 12) : 2)
        << size;
  }
}

TEST(JournalTest, AnotherRun) {
  const std::string path = NewPath();
  { ASSERT_TRUE(Journal::Open(path, kRun).ok()); }
  Json other = kRun;
  other["seed"] = 4;
  const absl::Status status = Journal::Open(path, other).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("another seed: expected 4, found 3"));
  other = kRun;
  other.erase("seed");
  EXPECT_FALSE(Journal::Open(path, other).ok());
  EXPECT_TRUE(Journal::Open(path, kRun).ok());
}

TEST(JournalTest, Damaged) {
  const std::string path = NewPath();
  WriteText(path, "{\n{}\n");
  EXPECT_EQ(Journal::Open(path, kRun).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Journal::Open("/no/such/journal", kRun).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(JournalTest, SurvivesDamage) {
  const std::string path = NewPath();
  {
    auto journal = Journal::Open(path, kRun);
    ASSERT_TRUE((*journal)->Append({{"block", 0}, {"state", {1, "x"}}}).ok());
    ASSERT_TRUE((*journal)->Append({{"block", 1}}).ok());
  }
  // A new journal is written to the device, which takes its time.
  EXPECT_GT(ReadDamaged(*ReadFileToString(path, 1000), 1000, path,
                        [&](const std::string& text) {
                          WriteText(path, text);
                          return Journal::Open(path, kRun).status();
                        }),
            100);
}

}  // namespace
}  // namespace qeff
