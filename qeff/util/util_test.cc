// SPDX-License-Identifier: Apache-2.0

#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/checked.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"
#include "qeff/util/text_file.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

absl::Status ReturnIf(const absl::Status& status) {
  QEFF_RETURN_IF_ERROR(status, "outer");
  return absl::OkStatus();
}

absl::StatusOr<int> AddOne(absl::StatusOr<int> value) {
  QEFF_ASSIGN_OR_RETURN(const int v, value);
  return v + 1;
}

TEST(StatusTest, MacrosPropagateAndAnnotate) {
  EXPECT_TRUE(ReturnIf(absl::OkStatus()).ok());
  const absl::Status status = ReturnIf(InvalidInputError("inner ", 3));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "outer: inner 3");
  EXPECT_EQ(*AddOne(4), 5);
  EXPECT_EQ(AddOne(absl::NotFoundError("x")).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(StatusTest, ExitCodes) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeFor(InvalidInputError("x")), 3);
  EXPECT_EQ(ExitCodeFor(IoError("f", "write", ENOSPC)), 4);
  EXPECT_EQ(ExitCodeFor(IoError("f", "open", EACCES)), 4);
  EXPECT_EQ(ExitCodeFor(IoError("f", "mmap", ENOMEM)), 5);
  EXPECT_EQ(ExitCodeFor(NumericalError("x")), 6);
}

TEST(CheckedTest, OverflowIsSticky) {
  const uint64_t max = ~uint64_t{0};
  EXPECT_TRUE((CheckedU64(3) * 4 + 5).AtMost(17));
  EXPECT_FALSE((CheckedU64(3) * 4 + 5).AtMost(16));
  EXPECT_FALSE((CheckedU64(max) + 1).valid());
  EXPECT_FALSE((CheckedU64(max) * 2 - max).valid());
  EXPECT_FALSE((CheckedU64(1) - 2).valid());
  EXPECT_FALSE(CheckedU64(-1).valid());
  EXPECT_FALSE(((CheckedU64(max) + 1) * 0).valid());
}

TEST(CheckedTest, FitsIn) {
  EXPECT_TRUE((FitsIn<int8_t>(127)));
  EXPECT_FALSE((FitsIn<int8_t>(128)));
  EXPECT_FALSE((FitsIn<uint32_t>(int64_t{-1})));
  EXPECT_FALSE((FitsIn<int64_t>(~uint64_t{0})));
  EXPECT_EQ(CeilDiv(7, 3), 3);
  EXPECT_EQ(RoundUp(65, 64), 128);
}

TEST(RandomTest, IsAPureFunctionAndPlausible) {
  const Random random(7, 3);
  // Pins the sequence: outputs of seeded commands depend on it.
  EXPECT_EQ(Random(1).At(0), Random(1).Next());
  double sum = 0, squares = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double v = random.NormalAt(i);
    sum += v;
    squares += v * v;
  }
  // Standard errors: 1/sqrt(n) = 0.0032 for the mean, about 0.0045 for the
  // variance; five of them.
  EXPECT_NEAR(sum / kCount, 0.0, 0.016);
  EXPECT_NEAR(squares / kCount, 1.0, 0.023);
  EXPECT_NE(Random(7, 3).At(0), Random(7, 4).At(0));
  Random draws(1);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(draws.NextBelow(10), 10u);
}

TEST(MappedFileTest, MapsRegularFilesOnly) {
  const std::string dir = ::testing::TempDir();
  const std::string path = dir + "/mapped";
  std::ofstream(path) << "hello";
  auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size_bytes(), 5u);
  EXPECT_EQ((*file)->bytes()[4], 'o');
  EXPECT_TRUE((*file)->VerifyUnchanged().ok());
  std::ofstream(path, std::ios::app) << "!";
  EXPECT_THAT(std::string((*file)->VerifyUnchanged().message()),
              HasSubstr("changed"));

  EXPECT_EQ(MappedFile::Open(dir + "/absent").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(MappedFile::Open(dir).status().code(),
            absl::StatusCode::kInvalidArgument);
  const std::string fifo = dir + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::Open(fifo).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(MappedFileTest, ReadFileToStringBoundsSize) {
  const std::string path = ::testing::TempDir() + "/bounded";
  std::ofstream(path) << "12345";
  EXPECT_EQ(*ReadFileToString(path, 5), "12345");
  EXPECT_EQ(ReadFileToString(path, 4).status().code(),
            absl::StatusCode::kInvalidArgument);
  std::ofstream(path, std::ios::trunc);
  EXPECT_EQ(*ReadFileToString(path, 0), "");
}

TEST(TextFileTest, TheBeginningEndsWithAWholeCharacter) {
  const std::string path = ::testing::TempDir() + "/text";
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
  std::ofstream(path) << text;
  const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (size_t bytes = 1; bytes < 13; ++bytes) {
    EXPECT_EQ(*ReadTextBeginning(path, bytes), text.substr(0, whole[bytes]));
  }
  EXPECT_EQ(*ReadTextFile(path), text);
}

TEST(TextFileTest, RefusesWhatIsNoText) {
  const std::string path = ::testing::TempDir() + "/no_text";
  std::ofstream(path) << std::string("ab\0c", 4);
  EXPECT_THAT(std::string(ReadTextFile(path).status().message()),
              HasSubstr("no_text: expected text, found a NUL byte at 2"));
  EXPECT_THAT(std::string(ReadTextBeginning(path, 3).status().message()),
              HasSubstr("no_text: expected text, found a NUL byte at 2"));
  EXPECT_EQ(*ReadTextBeginning(path, 2), "ab");
  std::ofstream(path, std::ios::trunc);
  EXPECT_THAT(std::string(ReadTextBeginning(path, 2).status().message()),
              HasSubstr("no_text: the file is empty"));
}

}  // namespace
}  // namespace qeff
